"""Makes questions from the rows of evaluation files, with the column names of several projects.

    text, target                  ours; optional: `options` (a list), `system`, `row_id`
    context, target               FinLoRA
    instruction, input, output    FinGPT
    query, answer                 FLARE, with choices and gold, text, label, token, label_type, id, turn
    sentence / news / text, label the hub datasets themselves; FiQA has sentiment_score

`read_row` returns one `Fields` value for each row. A benchmark maps published labels and numbers to its options.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.conversations import Message, fold_label
from fintune_kit.data.read.files import FORMATS, format_of, read_rows
from fintune_kit.data.read.lines import UnreadableFileError
from fintune_kit.errors import UserError
from fintune_kit.evaluate.sets.benchmarks import Benchmark
from fintune_kit.evaluate.tasks import Question

_TEXTS = ("text", "context", "sentence", "news", "headline", "query", "input", "question")
_TARGETS = ("target", "answer", "output", "label", "sentiment_score")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """One row, with its values by their meaning."""

    place: str
    """The row's place for errors: `fpb.jsonl, line 17`."""
    row_id: str
    text: str
    target: str
    options: tuple[str, ...] = ()
    system: str | None = None
    prompt: str | None = None
    """The whole user message, if the row holds one (FLARE, FinGPT)."""
    group: str = ""
    dialogue: str = ""
    turn: int = 0


def file_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(place, row) for each row of a file, read by `data.read`.

    Raises:
        UserError: the file's format is unknown, or the file is damaged or empty.
    """
    if format_of(path) is None:
        raise UserError(f"{path} has no known ending; expected one of {', '.join(FORMATS)} (or with .gz): rename it")
    try:
        rows = list(read_rows(path))
    except (UnreadableFileError, OSError) as error:
        raise UserError(f"task file cannot be read: {error}") from error
    found = []
    for row in rows:
        place = f"{path}, {row.location}"
        if row.values is None:
            raise UserError(f"{place}: found {row.fault}, expected a row with text and target: correct or remove it")
        found.append((place, row.values))
    if not found:
        raise UserError(f"{path} holds no row; expected rows with text and target")
    return found


def read_row(row: Mapping[str, Any], *, place: str, index: int, source: str) -> Fields:
    """One row, with its values by their meaning.

    Args:
        place: for errors.
        index: of the row in its source, from 1.
        source: with the index, the id of a row that has none: `fpb.jsonl#17`.

    Raises:
        UserError: the column for text or target is missing or empty.
    """
    row_id = str(row.get("row_id") or row.get("id") or f"{source}#{index}")
    if _has(row, "instruction") and _has(row, "output"):
        prompt = "\n".join(str(row[name]) for name in ("instruction", "input") if _has(row, name))
        target, group = str(row["output"]), str(row["instruction"])
        return Fields(place=place, row_id=row_id, text=prompt, target=target, prompt=prompt, group=group)
    if _has(row, "query") and (_has(row, "answer") or "gold" in row):
        return _flare_row(row, place=place, row_id=row_id)
    text, target = _column(row, _TEXTS, "text", place), _column(row, _TARGETS, "target", place)
    options = _options(row.get("options"), place=place)
    return Fields(
        place=place,
        row_id=row_id,
        text=text,
        target=target,
        options=options,
        system=str(row["system"]) if row.get("system") else None,
        group=str(row.get("group") or ""),
    )


def question_of(fields: Fields, benchmark: Benchmark) -> Question:
    """A row as a question of a benchmark. For a user's own task, `named` makes a `Benchmark` value.

    Raises:
        UserError: the target is not among the options.
    """
    options = fields.options or benchmark.options
    target = _target(fields, benchmark, options) if options else fields.target
    says_all = fields.prompt is not None and bool(fields.options)  # FLARE: the row's prompt lists the row's options
    system = fields.system if fields.system is not None or says_all else benchmark.system
    user = fields.prompt if fields.prompt is not None else benchmark.user.replace("{text}", fields.text)
    messages = [Message(role="system", content=system)] if system else []
    messages.append(Message(role="user", content=user))
    return Question(
        row_id=fields.row_id,
        messages=tuple(messages),
        text=fields.text,
        target=target,
        options=options,
        group=fields.group,
        dialogue=fields.dialogue,
        turn=fields.turn,
    )


def _target(fields: Fields, benchmark: Benchmark, options: Sequence[str]) -> str:
    """The option that the target means. A target is an option's name or number, or a published label of it."""
    folded = fold_label(fields.target)
    if folded.removesuffix(".0").isdigit() and benchmark.numbered:
        number = int(folded.removesuffix(".0"))
        folded = fold_label(benchmark.numbered[number]) if number < len(benchmark.numbered) else folded
    folded = fold_label(benchmark.folds.get(folded, folded))
    found = next((option for option in options if fold_label(option) == folded), None)
    if found is None and benchmark.cuts is not None:
        found = _by_score(fields.target, cuts=benchmark.cuts)
    if found is None:
        raise UserError(
            f"{fields.place}: target {fields.target!r} is not among the options ({', '.join(options)}): correct the "
            f"target, or add the option"
        )
    return found


def _by_score(target: str, *, cuts: tuple[float, float]) -> str | None:
    """The label of a score: negative below the first cut, positive from the second cut on. None for other texts."""
    try:
        score = float(target)
    except ValueError:
        return None
    return "negative" if score < cuts[0] else "neutral" if score < cuts[1] else "positive"


def _flare_row(row: Mapping[str, Any], *, place: str, row_id: str) -> Fields:
    """Reads FLARE's columns: `query` is the whole prompt, `choices` and `gold` make a choice, `label` is BIO."""
    query, text = str(row["query"]), str(row.get("text") or row["query"])
    options = _options(row.get("choices"), place=place)
    target = str(row.get("answer") or "")
    labels = row.get("label")
    if options and isinstance(row.get("gold"), int):
        target = options[row["gold"]]
    elif isinstance(labels, list) and all(isinstance(label, str) for label in labels):
        tokens = row.get("token") or text.split()
        target = json.dumps({"tokens": list(tokens), "labels": labels}, ensure_ascii=False)
    if not target.strip():
        raise UserError(f"{place}: `answer` is empty; expected text: fill it, or remove the row")
    return Fields(
        place=place,
        row_id=row_id,
        text=text,
        target=target,
        options=options,
        prompt=query,
        group=str(row.get("label_type") or ""),
        dialogue=str(row.get("dialogue_id") or ""),
        turn=int(row.get("turn") or 0),
    )


def _options(value: Any, *, place: str) -> tuple[str, ...]:
    """A row's own options: a list, or a list as JSON text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(option, str) for option in value):
        raise UserError(f"{place}: options is {value!r}; expected a list of at least two texts: correct it")
    folded = [fold_label(option) for option in value]
    return tuple(option for index, option in enumerate(value) if folded.index(folded[index]) == index)


def _column(row: Mapping[str, Any], names: Sequence[str], meaning: str, place: str) -> str:
    name = next((name for name in names if name in row), None)
    if name is None:
        raise UserError(
            f"{place}: column {meaning!r} is missing (found: {', '.join(map(str, row)) or 'none'}); expected text and "
            f"target: rename the column"
        )
    value = row[name]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "; ".join(value)
    text = "" if value is None else str(value)
    if not text.strip():
        raise UserError(f"{place}: {name!r} is empty; expected text: fill it, or remove the row")
    return text


def _has(row: Mapping[str, Any], name: str) -> bool:
    return isinstance(row.get(name), str) and bool(row[name].strip())
