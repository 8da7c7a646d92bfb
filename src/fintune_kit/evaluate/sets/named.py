"""Tasks that the user names: a benchmark, a file, or a benchmark with its rows from a file.

tfns                        the benchmark, with its rows from the hub
tfns=data/my_tfns.jsonl     the benchmark, with the rows of this file
data/tfns.jsonl             the same, because of the file's name
general                     all questions on general knowledge and arithmetic (`general`)
transactions                bank transactions of unseen merchants, from the workspace (`transactions`)
data/mine.jsonl             a task of the user's own (columns: see `rows`)
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.conversations import (
    MAX_OPTION_CHARACTERS,
    MAX_OPTIONS,
    Conversation,
    closed_instructions,
    fold_label,
)
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate.entities import read_pairs
from fintune_kit.evaluate.numbers import whole_number
from fintune_kit.evaluate.sets.benchmarks import ALIASES, BENCHMARKS, Benchmark, hub_rows
from fintune_kit.evaluate.sets.general import NAME as GENERAL
from fintune_kit.evaluate.sets.general import general_tasks
from fintune_kit.evaluate.sets.rows import Fields, file_rows, question_of, read_row
from fintune_kit.evaluate.tasks import LabelledTexts, Metric, Task, evenly_chosen
from fintune_kit.evaluate.transactions import NAME as TRANSACTIONS
from fintune_kit.evaluate.transactions import transactions_tasks
from fintune_kit.workspace import WRITTEN_BY

MAX_GENERATED = 100
"""Free-text questions in each task. The interval is then about 15 points wide, and generation takes minutes."""


def load_tasks(
    names: Sequence[str],
    *,
    train: Sequence[Conversation],
    transactions: Path | None,
    max_generated: int = MAX_GENERATED,
) -> list[Task]:
    """The tasks with these names.

    Args:
        names: as given to `--task`, see the top of this module.
        train: training conversations. The floors learn from those with the same options.
        transactions: the folder for the name `transactions`.
        max_generated: the largest number of free-text questions in a task, and of batches of transactions.

    Raises:
        UserError: a task, file or folder does not exist, or a row cannot be used. The error names the row.
    """
    tasks: list[Task] = []
    for name in names:
        if name == GENERAL:
            tasks += general_tasks()
        elif name != TRANSACTIONS:
            tasks.append(load_task(name, train=train, max_generated=max_generated))
        elif transactions is None:
            raise MissingInputError(
                f"task {name!r} was named without its folder; expected the folder that is written by "
                f"{WRITTEN_BY['transactions']}: run it first"
            )
        else:
            tasks += transactions_tasks(transactions, train=train, max_generated=max_generated)
    return tasks


def load_task(named: str, *, train: Sequence[Conversation], max_generated: int | None = None) -> Task:
    """One task by its name. Arguments and errors are those of `load_tasks`."""
    name, _, path = named.rpartition("=") if "=" in named and not Path(named).exists() else ("", "", named)
    if not name and ALIASES.get(named, named) in BENCHMARKS:
        key = ALIASES.get(named, named)
        rows = [(f"{key}, row {index}", row) for index, row in enumerate(hub_rows(key), start=1)]
        return _benchmark_task(key, rows, source=_hub_source(key), train=train, max_generated=max_generated)
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingInputError(
            f"there is no task and no file {path!r}; expected one of {', '.join(BENCHMARKS)}, {GENERAL}, "
            f"{TRANSACTIONS}, or a file with the columns text and target: check --task"
        )
    key = ALIASES.get(name or file.stem, name or file.stem)
    if name and key not in BENCHMARKS:
        raise UserError(f"there is no task {name!r}; expected one of {', '.join(BENCHMARKS)}: give the file alone")
    found = file_rows(file)
    if key in BENCHMARKS:
        source = f"{file.name}, given as {BENCHMARKS[key].title}"
        return _benchmark_task(key, found, source=source, train=train, max_generated=max_generated)
    return _own_task(file, found, train=train, max_generated=max_generated)


def options_of(targets: Sequence[str]) -> tuple[str, ...]:
    """The distinct targets as options, if they are few, short and repeated; else `()`.

    Spellings that differ only in case are one option, in the most frequent spelling. The options are in alphabetical
    order: the prompt lists them, so their order must not tell which label is frequent.
    """
    spellings: dict[str, Counter[str]] = {}
    for target in targets:
        spellings.setdefault(fold_label(target), Counter())[target.strip()] += 1
    options = sorted((found.most_common(1)[0][0] for found in spellings.values()), key=str.casefold)
    few = 2 <= len(options) <= MAX_OPTIONS and len(targets) >= 2 * len(options)
    short = all(len(option) <= MAX_OPTION_CHARACTERS and "\n" not in option for option in options)
    return tuple(options) if few and short and not all(whole_number(option) for option in options) else ()


def metric_of(targets: Sequence[str]) -> Metric:
    """The metric for generated answers, chosen by the form of the targets."""
    if all(_is_object(target) for target in targets):
        return "json"
    if all(re.fullmatch(r"[^A-Za-z]*\d[^A-Za-z]*", target) or whole_number(target) for target in targets):
        return "numeric"
    if all(read_pairs(target) for target in targets):
        return "entities"
    return "rouge_l"


def labelled_for(options: Sequence[str], train: Sequence[Conversation]) -> LabelledTexts:
    """Texts and labels of the training conversations whose instruction has exactly these options."""
    wanted = {fold_label(option): option for option in options}
    closed = {key for key, seen in closed_instructions(train).items() if {fold_label(o) for o in seen} == set(wanted)}
    fitting = [c for c in train if (c.task_type, c.system) in closed]
    return tuple(c.question for c in fitting), tuple(wanted[fold_label(c.answer)] for c in fitting)


def _benchmark_task(
    key: str,
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    source: str,
    train: Sequence[Conversation],
    max_generated: int | None,
) -> Task:
    benchmark = BENCHMARKS[key]
    fields = [read_row(row, place=place, index=index, source=key) for index, (place, row) in enumerate(rows, start=1)]
    fields = [replace(found, group=found.group if benchmark.average_groups else "") for found in fields]
    return _task(key, benchmark, fields, source=source, train=train, max_generated=max_generated)


def _own_task(
    path: Path,
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    train: Sequence[Conversation],
    max_generated: int | None,
) -> Task:
    """A task from the user's file. It is a choice if every row has options, or if the targets are a few labels."""
    fields = [
        read_row(row, place=place, index=index, source=path.name) for index, (place, row) in enumerate(rows, start=1)
    ]
    targets = [found.target for found in fields]
    own = [bool(found.options) for found in fields]
    if any(own) and not all(own):
        place = fields[own.index(False)].place
        raise UserError(
            f"{place}: the row has no options, but others have; expected options in all rows or in none: add or remove "
            f"them"
        )
    options = () if any(own) else options_of(targets)
    is_choice = bool(options) or all(own)
    metric: Metric = "accuracy" if is_choice else metric_of(targets)
    benchmark = Benchmark(
        title=path.stem,
        metric=metric,
        split="",
        licence="",
        paper="",
        system=f"Answer with one of: {', '.join(options)}. Only reply with that." if options else None,
        options=options,
        max_new_tokens=256 if metric in ("rouge_l", "json") else 64,
    )
    key = re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_") or "task"
    return _task(key, benchmark, fields, source=path.name, train=train, max_generated=max_generated)


def _task(
    key: str,
    benchmark: Benchmark,
    fields: Sequence[Fields],
    *,
    source: str,
    train: Sequence[Conversation],
    max_generated: int | None,
) -> Task:
    is_choice = benchmark.metric == "accuracy"
    max_chosen = None if is_choice or any(found.dialogue for found in fields) else max_generated
    chosen = [fields[index] for index in evenly_chosen(len(fields), max_chosen=max_chosen)]
    questions = tuple(question_of(found, benchmark) for found in chosen)
    if is_choice and not all(question.options for question in questions):
        place = next(f.place for f, question in zip(chosen, questions, strict=True) if not question.options)
        raise UserError(
            f"{place}: the row has no options; expected some, because task {key!r} is a choice: add `options` or "
            f"`choices`"
        )
    groups = {question.group: question.options for question in questions}
    return Task(
        name=key,
        title=benchmark.title,
        metric=benchmark.metric,
        questions=questions,
        source=source,
        labelled={group: labelled_for(options, train) for group, options in groups.items()} if is_choice else {},
        max_new_tokens=benchmark.max_new_tokens,
        of_total=len(fields),
        average_groups=benchmark.average_groups,
    )


def _hub_source(key: str) -> str:
    benchmark = BENCHMARKS[key]
    return f"{benchmark.hub.name}, {benchmark.split}" if benchmark.hub else benchmark.split


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
