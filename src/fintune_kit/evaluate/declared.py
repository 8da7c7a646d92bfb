"""Tasks that the user names: a known benchmark, a file, or a known benchmark's rows in a file.

tfns                        from the hub
tfns=data/my_tfns.jsonl     these rows, asked and reported as that benchmark
data/tfns.jsonl             the same, by the file's name
transactions                bank transactions of unseen merchants, from the workspace (`transactions`)
data/mine.jsonl             a task of the user's own: a JSON object a line, `text` and `target`, and where wanted
                            `options` (a list), `system`, `row_id`
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fintune_kit.conversations import (
    MAX_OPTION_CHARACTERS,
    MAX_OPTIONS,
    Conversation,
    Message,
    closed_instructions,
    fold_label,
)
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate.judging import read_number, read_pairs
from fintune_kit.evaluate.known import ALIASES, KNOWN, Known, hub_rows
from fintune_kit.evaluate.tasks import Metric, Question, Task
from fintune_kit.evaluate.transactions import NAME as TRANSACTIONS
from fintune_kit.evaluate.transactions import transactions_tasks
from fintune_kit.workspace import WRITTEN_BY

Labelled = tuple[tuple[str, ...], tuple[str, ...]]


def load_tasks(
    names: Sequence[str], *, train: Sequence[Conversation], transactions: Path | None, most_generated: int
) -> list[Task]:
    """The tasks that `names` stand for.

    Args:
        train: training conversations; those with the same options teach the floors.
        transactions: the folder behind the name `transactions`.
        most_generated: batches of transactions at most.

    Raises:
        UserError: there is no such task, file or folder, or a row cannot be used; the line is named.
    """
    tasks: list[Task] = []
    for named in names:
        if named != TRANSACTIONS:
            tasks.append(load_task(named, train=train))
        elif transactions is None:
            raise MissingInputError(
                f"task {named!r} was asked for without its folder; expected the one written by "
                f"{WRITTEN_BY['transactions']}: run it first"
            )
        else:
            tasks += transactions_tasks(transactions, train=train, most_generated=most_generated)
    return tasks


def load_task(named: str, *, train: Sequence[Conversation]) -> Task:
    """The task that `named` stands for.

    Args:
        train: training conversations; those with the same options teach the floors.

    Raises:
        UserError: there is no such task or file, or a row cannot be used; the line is named.
    """
    name, _, path = named.rpartition("=") if "=" in named and not Path(named).exists() else ("", "", named)
    if not name and ALIASES.get(named, named) in KNOWN:
        key = ALIASES.get(named, named)
        return _known_task(key, hub_rows(key, KNOWN[key]), source=_hub_source(KNOWN[key]), train=train)
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingInputError(
            f"there is no task and no file {path!r}; expected one of {', '.join(KNOWN)}, {TRANSACTIONS}, or a .jsonl "
            f"file with the columns text and target: check --task"
        )
    key = ALIASES.get(name or file.stem, name or file.stem)
    if name and key not in KNOWN:
        raise UserError(f"there is no task {name!r}; expected one of {', '.join(KNOWN)}: give the file alone")
    rows = read_rows(file)
    if key in KNOWN:
        return _known_task(key, rows, source=f"{file.name}, given as {KNOWN[key].title}", train=train)
    return _own_task(file, rows, train=train)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a task file.

    Raises:
        UserError: the file is empty, a line is no JSON object, or `text` or `target` is missing or empty.
    """
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # JSON may hold other line ends as they are
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} could not be read ({error}); expected UTF-8 text, a JSON object a line") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: no JSON ({error}); expected an object a line: mend it") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: found {type(row).__name__}, expected an object: mend the line")
        for column in ("text", "target"):
            if column not in row:
                found = ", ".join(row) or "none"
                raise UserError(
                    f"{path}, line {number}: column {column!r} is missing (found: {found}); expected text and target: "
                    f"rename the column"
                )
            if not str(row[column] if row[column] is not None else "").strip():
                raise UserError(f"{path}, line {number}: {column!r} is empty; expected text: fill it or drop the line")
        rows.append({**row, "text": str(row["text"]), "target": str(row["target"]), "line": number})
    if not rows:
        raise UserError(f"{path} holds no row; expected a JSON object with text and target a line")
    return rows


def _known_task(key: str, rows: Sequence[Mapping[str, Any]], *, source: str, train: Sequence[Conversation]) -> Task:
    known = KNOWN[key]
    questions = tuple(
        _question(key, number, row, known.options, system=known.system, user=known.user)
        for number, row in enumerate(rows, start=1)
    )
    return Task(
        name=key,
        title=known.title,
        metric=known.metric,
        questions=questions,
        source=source,
        labelled={"": labelled_for(known.options, train)} if known.options else {},
        max_new_tokens=known.max_new_tokens,
    )


def _own_task(path: Path, rows: Sequence[Mapping[str, Any]], *, train: Sequence[Conversation]) -> Task:
    targets = [row["target"] for row in rows]
    options = () if any("options" in row for row in rows) else options_of(targets)
    is_choice = bool(options) or all(row.get("options") for row in rows)
    metric: Metric = "accuracy" if is_choice else metric_of(targets)
    ask = f"Answer with one of: {', '.join(options)}. Only reply with that." if options else None
    questions = tuple(
        _question(path.name, number, row, options if is_choice else None, system=ask)
        for number, row in enumerate(rows, start=1)
    )
    return Task(
        name=re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_") or "task",
        title=path.stem,
        metric=metric,
        questions=questions,
        source=path.name,
        labelled={"": labelled_for(options, train)} if options else {},
        max_new_tokens=256 if metric in ("rouge_l", "json") else 64,
    )


def options_of(targets: Sequence[str]) -> tuple[str, ...]:
    """The distinct targets as options, most frequent first, where they are few, short and repeated; else none."""
    counts = Counter(targets)
    few = 2 <= len(counts) <= MAX_OPTIONS and len(targets) >= 2 * len(counts)
    short = all(len(target) <= MAX_OPTION_CHARACTERS and "\n" not in target for target in counts)
    ordered = sorted(counts, key=lambda target: (-counts[target], target))
    return tuple(ordered) if few and short and not all(read_number(target) for target in counts) else ()


def metric_of(targets: Sequence[str]) -> Metric:
    """How generated answers are judged, by what the targets look like."""
    if all(_is_object(target) for target in targets):
        return "json"
    if all(re.fullmatch(r"[^A-Za-z]*\d[^A-Za-z]*", target) for target in targets):
        return "numeric"
    if all(read_pairs(target) for target in targets):
        return "entities"
    return "rouge_l"


def labelled_for(options: Sequence[str], train: Sequence[Conversation]) -> Labelled:
    """Texts and labels of training conversations whose instruction has exactly these options."""
    wanted = {fold_label(option): option for option in options}
    closed = {key for key, seen in closed_instructions(train).items() if {fold_label(o) for o in seen} == set(wanted)}
    fitting = [c for c in train if (c.task_type, c.system) in closed]
    return tuple(c.question for c in fitting), tuple(wanted[fold_label(c.answer)] for c in fitting)


def _question(
    source: str,
    number: int,
    row: Mapping[str, Any],
    options: tuple[str, ...] | None,
    *,
    system: str | None,
    user: str = "{text}",
) -> Question:
    """A row as a question.

    Raises:
        UserError: its target is not among its options.
    """
    own = row.get("options")
    if own is not None and (not isinstance(own, list) or len(own) < 2 or not all(isinstance(o, str) for o in own)):
        raise UserError(f"{source}, line {row.get('line', number)}: options is {own!r}, expected a list of texts")
    choices = tuple(own) if own else (options or ())
    target = next((option for option in choices if fold_label(option) == fold_label(row["target"])), None)
    if choices and target is None:
        raise UserError(
            f"{source}, line {row.get('line', number)}: target {row['target']!r} is not among the options "
            f"({', '.join(choices)}): correct the target, or add the option"
        )
    instruction = row.get("system") or system
    messages = [Message(role="system", content=str(instruction))] if instruction else []
    messages.append(Message(role="user", content=user.replace("{text}", row["text"])))
    return Question(
        row_id=str(row.get("row_id", f"{source}#{number}")),
        messages=tuple(messages),
        text=row["text"],
        target=target or row["target"],
        options=choices,
    )


def _hub_source(known: Known) -> str:
    return f"{known.hub.name}, {known.split}" if known.hub else known.split


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
