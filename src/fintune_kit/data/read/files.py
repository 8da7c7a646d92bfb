"""Files of rows, read so that damage costs the damaged row and not the whole file.

The name tells the format (`.jsonl`), and the content tells whether the file is compressed: many a `.jsonl` is gzip.
"""

from collections.abc import Iterator
from pathlib import Path

from fintune_kit.bounds import Bounds
from fintune_kit.data.read.json_rows import json_rows, jsonl_rows
from fintune_kit.data.read.lines import Lines, Row, UnreadableFileError, Unzipped
from fintune_kit.data.read.table_rows import arrow_rows, csv_rows, parquet_rows

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_OTHER_CONTENT = {
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF",
}
"""How the content of files begins that hold no rows before they are unpacked."""


def format_of(path: Path) -> str | None:
    """The format that a file's name tells, with or without `.gz`; None where it tells none."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of one file. The name tells the format.

    Raises:
        UnreadableFileError: it is empty, has a damaged header, or is not of that format.
        UserError: it unpacks to more bytes or rows than `bounds` allows.
    """
    kind = format_of(path)
    assert kind is not None, path
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise UnreadableFileError(f"{path} is empty; expected rows: fetch it again")
    other = next((name for start, name in _OTHER_CONTENT.items() if head.startswith(start)), None)
    if other:
        raise UnreadableFileError(f"{path} is {other}, expected {kind} or gzip: unpack it and give the files in it")
    is_gzip = head.startswith(_GZIP)
    bounds = Bounds.of(path)
    if kind == ".parquet" or head.startswith(_PARQUET):
        yield from parquet_rows(path, bounds=bounds, is_gzip=is_gzip)
    elif kind == ".arrow":
        yield from arrow_rows(path, bounds=bounds)
    else:
        for row in _text_rows(path, kind, bounds=bounds, is_gzip=is_gzip):
            bounds.add(rows=1)
            yield row


def _text_rows(path: Path, kind: str, *, bounds: Bounds, is_gzip: bool) -> Iterator[Row]:
    stream = Unzipped(path, bounds=bounds) if is_gzip else path.open("rb", buffering=0)
    if kind == ".json":
        yield from json_rows(path, stream)
        return
    with Lines(stream) as lines:
        if kind in (".jsonl", ".ndjson"):
            yield from jsonl_rows(lines)
        else:
            yield from csv_rows(path, lines, delimiter="\t" if kind == ".tsv" else None)
