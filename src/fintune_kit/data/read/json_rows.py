"""Rows of JSON: one object a line, a list of objects, or the sound part of a damaged list."""

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fintune_kit.data.read.lines import (
    MAX_RAW,
    Lines,
    Row,
    UnreadableFileError,
    Unzipped,
    encoding_note,
    overlong_row,
    repeated_names,
    whole_text,
)


def jsonl_rows(lines: Lines) -> Iterator[Row]:
    """A row a line; a line that is too long or not a JSON object becomes an unreadable row with its number."""
    for line in lines:
        location = f"line {lines.number}"
        if lines.number in lines.overlong:
            yield overlong_row(location, lines.overlong[lines.number])
        elif not line.isspace():
            yield _json_row(location, line, note=encoding_note(lines.number in lines.not_utf8))
    if lines.broken:
        yield Row(f"line {lines.number + 1}", None, fault=lines.broken)


def _json_row(location: str, text: str, note: str | None = None) -> Row:
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        return Row(location, None, fault=f"not JSON: {error or 'nested too deeply'}"[:300], raw=text[:MAX_RAW])
    return _row_of(location, value, note=note)


def _row_of(location: str, value: Any, note: str | None = None) -> Row:
    if isinstance(value, dict):
        return Row(location, value, note=note)
    if isinstance(value, list) and value and all(map(_is_turn, value)):
        return Row(location, {"messages": value}, note=note)
    kind = {list: "a list", str: "a text", type(None): "null", bool: "a truth value"}.get(type(value), "a number")
    raw = json.dumps(value, ensure_ascii=True)[:MAX_RAW]
    return Row(location, None, fault=f"found {kind}, expected an object with columns", raw=raw)


def _is_turn(value: Any) -> bool:
    """Whether a value is a turn of a conversation, so that a bare list of such is one row."""
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = {sys.intern(name): value for name, value in pairs}  # the decoder makes names anew for each row
    if len(values) < len(pairs):
        repeated = min(repeated_names(name for name, _ in pairs))
        raise ValueError(f"the name {repeated!r} stands twice in one object")
    return values


def json_rows(path: Path, stream: io.RawIOBase) -> Iterator[Row]:
    """The rows of a list of objects, of an object that holds one such list, or of JSON Lines under a wrong name.

    Raises:
        UnreadableFileError: the file holds none of these.
    """
    text, not_utf8 = whole_text(stream)
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        yield from _salvaged_rows(path, text, error)
        if isinstance(stream, Unzipped) and stream.broken:
            yield Row("at its end", None, fault=stream.broken)
        return
    if isinstance(value, dict):
        value = _list_within(path, value)
    if isinstance(value, list) and value and all(map(_is_turn, value)):
        value = [value]  # one conversation
    if not isinstance(value, list):
        raise UnreadableFileError(
            f"{path} holds a {type(value).__name__}, expected a list of objects: write one object a line as .jsonl"
        )
    note = encoding_note(not_utf8)
    for number, entry in enumerate(value, start=1):
        yield _row_of(f"row {number}", entry, note=note)


def _list_within(path: Path, value: dict[str, Any]) -> list[Any]:
    lists = {
        name: entries
        for name, entries in value.items()
        if isinstance(entries, list) and isinstance(next(iter(entries), None), dict)
    }
    if len(lists) == 1 and not {"messages", "conversations"} & lists.keys():
        return next(iter(lists.values()))
    if lists or not any(isinstance(entry, dict | list) for entry in value.values()):
        return [value]  # one row, without a list around it
    names = ", ".join(map(repr, list(value)[:6]))
    raise UnreadableFileError(
        f"{path} holds an object with {names}, expected a list of objects: write its rows as [{{...}}, {{...}}], or "
        "one object a line as .jsonl"
    )


_SEPARATOR = re.compile(r"[\s,]*")
_NEXT_ELEMENT = re.compile(r"[,\n]?\s*\{")


def _salvaged_rows(path: Path, text: str, error: Exception) -> Iterator[Row]:
    """The rows of damaged JSON: each line if it is JSON Lines, else each element before and after the damage."""
    first = text.lstrip()[:1]
    if first == "{":
        yield from jsonl_rows(Lines(io.BytesIO(text.encode("utf-8", "surrogatepass"))))
        return
    if first != "[":
        raise UnreadableFileError(f"{path} is not JSON ({error}); expected a list of objects: fetch it again")
    strict, index = json.JSONDecoder(object_pairs_hook=_without_repeats), text.index("[") + 1
    line, counted = 1, 0
    indent = _NEXT_ELEMENT.match(text, index)
    resume = re.compile(re.escape(indent[0])) if indent and "\n" in indent[0] else _NEXT_ELEMENT
    while index < len(text):
        index = _SEPARATOR.match(text, index).end()  # type: ignore[union-attr]
        if index >= len(text) or text[index] == "]":
            break
        line, counted = line + text.count("\n", counted, index), index
        try:
            value, index = strict.raw_decode(text, index)
            yield _row_of(f"line {line}", value)
        except (ValueError, RecursionError) as damage:
            raw = text[index : index + MAX_RAW]
            yield Row(f"line {line}", None, fault=f"not JSON: {damage}"[:300], raw=raw)
            index = _after_damage(text, index, resume)


def _after_damage(text: str, index: int, resume: re.Pattern[str]) -> int:
    """The index of the next element. Where the end of the damaged one cannot be found, that is the next `{` with the
    same indentation as the first element."""
    try:
        return json.JSONDecoder().raw_decode(text, index)[1]
    except (ValueError, RecursionError):
        following = resume.search(text, index + 1)
        return following.end() - 1 if following else len(text)
