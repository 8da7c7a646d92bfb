"""Files of rows, read so that damage costs the damaged row and not the file.

Every reader yields `Row`s in file order. A row that cannot be read (a line that is not JSON, too many fields, a line of
50 MB) is yielded too, with its fault and the line it stands on, so that rows in = rows kept + rows refused. A file that
cannot be read at all raises `UnreadableFile`.
"""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
LINE_LIMIT = 16 * 1024 * 1024
"""Characters in a line or field; a longer one is no row of text, and holding it would cost the machine's memory."""
RAW_LIMIT = 2_000
"""Characters of an unreadable row that are kept to look at."""


class UnreadableFile(Exception):  # noqa: N818 - a finding that is reported, not a programming error
    """A whole file that cannot be read. The message says what was found, what was expected and what to do."""


@dataclass(slots=True)
class Row:
    """One row as it stands in a file: its values, or what is wrong with it."""

    place: str
    """`line 17` or `row 17`, counted from 1."""
    values: dict[str, Any] | None
    fault: str | None = None
    raw: str | None = None
    """The head of an unreadable row's text."""
    note: str | None = None
    """What was done to read it, where that was not plain (another encoding)."""


def format_of(path: Path) -> str | None:
    """The row format that a file's name tells, `.gz` aside; None where it tells none."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of one file, by the format that its name tells.

    Raises:
        UnreadableFile: it is empty, has a damaged header, or is not of that format.
    """
    kind = format_of(path)
    assert kind is not None, path
    if path.stat().st_size == 0:
        raise UnreadableFile(f"{path} is empty; expected rows: fetch it again")
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    with _opened(path) as stream:
        if kind == ".json":
            yield from _json_rows(path, stream)
        elif kind == ".jsonl":
            yield from _jsonl_rows(_Lines(stream))
        else:
            yield from _csv_rows(path, _Lines(stream), delimiter="\t" if kind == ".tsv" else None)


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


class _Lines:
    """Lines of a text stream, decoded line by line; iteration gives `str`, and `number` is the last line's number.

    Bytes that are not UTF-8 are read as Windows-1252 (the usual culprit), and the line's number is kept in
    `not_utf8`; lines over the limit are skipped and kept in `overlong`; a compressed file's broken end in `broken`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._text = _text_of(stream)
        self.number = 0
        self.not_utf8: set[int] = set()
        self.overlong: dict[int, int] = {}
        self.broken: str | None = None

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        try:
            line = self._text.readline(LINE_LIMIT)
            if not line:
                raise StopIteration
            self.number += 1
            if len(line) == LINE_LIMIT and not line.endswith("\n"):
                self.overlong[self.number] = len(line) + self._skip_rest()
                return "\n"
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
            self.broken = f"the file breaks off after line {self.number} ({error})"
            raise StopIteration from None
        if not line.isascii() and _ESCAPED.search(line):
            self.not_utf8.add(self.number)
            line = _as_windows_1252(line)
        return line

    def _skip_rest(self) -> int:
        skipped = 0
        while part := self._text.readline(LINE_LIMIT):
            skipped += len(part)
            if part.endswith("\n"):
                break
        return skipped


_ESCAPED = re.compile("[\udc80-\udcff]")


def _text_of(stream: BinaryIO) -> TextIO:
    """Text whose undecodable bytes survive as lone surrogates; UTF-16 and UTF-8 byte order marks are taken off."""
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    try:
        head = buffered.peek(4)[:4]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile(
            f"{getattr(stream, 'name', 'the file')} is not the compressed file that its name says ({error}); "
            "fetch it again"
        ) from error
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding, errors = ("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")
    return io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline=None)


def _as_windows_1252(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _jsonl_rows(lines: _Lines) -> Iterator[Row]:
    for line in lines:
        place = f"line {lines.number}"
        if lines.number in lines.overlong:
            yield _overlong(place, lines.overlong[lines.number])
        elif not line.isspace():
            yield _json_row(place, line, note=_encoding_note(lines.number in lines.not_utf8))
    if lines.broken:
        yield Row(f"line {lines.number + 1}", None, fault=lines.broken)


def _json_row(place: str, text: str, note: str | None = None) -> Row:
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        return Row(place, None, fault=f"not JSON: {error or 'nested too deeply'}"[:300], raw=text[:RAW_LIMIT])
    return _row_of(place, value, note=note)


def _row_of(place: str, value: Any, note: str | None = None) -> Row:
    if isinstance(value, dict):
        return Row(place, value, note=note)
    kind = {list: "a list", str: "a text", type(None): "null", bool: "a truth value"}.get(type(value), "a number")
    raw = json.dumps(value, ensure_ascii=True)[:RAW_LIMIT]
    return Row(place, None, fault=f"found {kind}, expected an object with columns", raw=raw)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the name {repeated[0]!r} stands twice in one object")
    return values


def _overlong(place: str, length: int) -> Row:
    return Row(place, None, fault=f"a line of {length:,} characters, expected at most {LINE_LIMIT:,}")


def _encoding_note(not_utf8: bool) -> str | None:
    return "not UTF-8, read as Windows-1252" if not_utf8 else None


def _json_rows(path: Path, stream: BinaryIO) -> Iterator[Row]:
    """A list of objects, an object that holds one such list, or (misnamed, and common) JSON Lines."""
    lines = _Lines(stream)
    text = "".join(lines)
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        yield from _salvaged_rows(path, text, error, lines)
        return
    if isinstance(value, dict):
        value = _list_within(path, value)
    if not isinstance(value, list):
        raise UnreadableFile(f"{path} holds a {type(value).__name__}, expected a list of objects: convert it to .jsonl")
    note = _encoding_note(bool(lines.not_utf8))
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
        return [value]  # one row, written without its list
    names = ", ".join(map(repr, list(value)[:6]))
    raise UnreadableFile(
        f"{path} holds an object with {names}, expected a list of objects: write its rows as [{{...}}, {{...}}], or one "
        "object a line as .jsonl"
    )


def _salvaged_rows(path: Path, text: str, error: Exception, lines: _Lines) -> Iterator[Row]:
    """Rows of damaged JSON: line by line where it is JSON Lines, else element by element up to and past the damage."""
    first = text.lstrip()[:1]
    if first == "{":
        yield from _jsonl_rows(_Lines(io.BytesIO(text.encode("utf-8", "surrogatepass"))))  # type: ignore[arg-type]
        return
    if first != "[":
        raise UnreadableFile(f"{path} is not JSON ({error}); expected a list of objects: fetch it again")
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats)
    position = text.index("[") + 1
    while position < len(text):
        position = _SEPARATOR.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text) or text[position] == "]":
            break
        place = f"line {text.count(chr(10), 0, position) + 1}"
        try:
            value, position = decoder.raw_decode(text, position)
            yield _row_of(place, value)
        except (ValueError, RecursionError) as damage:
            raw = text[position : position + RAW_LIMIT]
            yield Row(place, None, fault=f"not JSON: {damage}"[:300], raw=raw)
            following = _NEXT_ELEMENT.search(text, position + 1)
            position = following.start("element") if following else len(text)
    if lines.broken:
        yield Row(f"line {lines.number + 1}", None, fault=lines.broken)


_SEPARATOR = re.compile(r"[\s,]*")
_NEXT_ELEMENT = re.compile(r",\s*(?P<element>\{)|\n\s*(?P<second>\{)".replace("(?P<second>", "(?:"))


def _csv_rows(path: Path, lines: _Lines, delimiter: str | None) -> Iterator[Row]:
    previous_limit = csv.field_size_limit(LINE_LIMIT)
    try:
        yield from _csv_records(path, lines, delimiter)
    finally:
        csv.field_size_limit(previous_limit)


def _csv_records(path: Path, lines: _Lines, delimiter: str | None) -> Iterator[Row]:
    header_line = next((line for line in lines if not line.isspace()), None)
    if header_line is None:
        raise UnreadableFile(f"{path} has no header line; expected column names: fetch it again")
    delimiter = delimiter or max(",;\t|", key=header_line.count)
    (header,) = csv.reader([header_line], delimiter=delimiter)
    header = [name.strip() for name in header]
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise UnreadableFile(
            f"{path} names the column {repeated[0]!r} twice in line {lines.number}; expected each name once: rename one"
        )
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = lines.number + 1
        try:
            fields = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            yield Row(f"line {first}", None, fault=f"not CSV up to line {lines.number}: {error}")
            continue
        span = range(first, lines.number + 1)
        if overlong := next((number for number in span if number in lines.overlong), None):
            yield _overlong(f"line {overlong}", lines.overlong[overlong])
        elif len(fields) != len(header) and fields:
            fault = f"{len(fields)} fields, expected {len(header)} as in the header"
            yield Row(f"line {first}", None, fault=fault, raw=delimiter.join(fields)[:RAW_LIMIT])
        elif fields:
            note = _encoding_note(bool(lines.not_utf8.intersection(span)))
            yield Row(f"line {first}", dict(zip(header, fields, strict=True)), note=note)
    if lines.broken:
        yield Row(f"line {lines.number + 1}", None, fault=lines.broken)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        content = pa.BufferReader(gzip.decompress(path.read_bytes())) if path.name.lower().endswith(".gz") else path
        with pq.ParquetFile(content) as file:
            if repeated := [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]:
                raise UnreadableFile(
                    f"{path} names the column {repeated[0]!r} twice; expected each name once: rename one"
                )
            for batch in file.iter_batches(batch_size=4096):
                for values in _python_rows(batch):
                    number += 1
                    yield Row(f"row {number}", values)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        if number == 0:
            raise UnreadableFile(f"{path} is not readable as Parquet ({error}); fetch it again") from error
        yield Row(f"row {number + 1}", None, fault=f"the file is damaged from here on ({error})")


def _python_rows(batch: Any) -> list[dict[str, Any]]:
    import pyarrow as pa

    try:
        return batch.to_pylist()
    except UnicodeDecodeError:  # Arrow does not check that a file's strings are UTF-8
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = column.cast(pa.binary()).to_pylist() if pa.types.is_string(column.type) else column.to_pylist()
            columns[name] = [_decoded(value) if isinstance(value, bytes) else value for value in values]
        return [dict(zip(columns, entry, strict=True)) for entry in zip(*columns.values(), strict=True)]


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")
