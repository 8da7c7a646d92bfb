"""Files of rows, read so that damage costs the damaged row and not the whole file. The name tells the format."""

from collections.abc import Iterator
from pathlib import Path

from fintune_kit.data.read.json_rows import json_rows, jsonl_rows
from fintune_kit.data.read.lines import Lines, Row, UnreadableFileError, Unzipped
from fintune_kit.data.read.table_rows import csv_rows, parquet_rows

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def format_of(path: Path) -> str | None:
    """The format that a file's name tells, with or without `.gz`; None where it tells none."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of one file. The name tells the format.

    Raises:
        UnreadableFileError: it is empty, has a damaged header, or is not of that format.
    """
    kind = format_of(path)
    assert kind is not None, path
    if path.stat().st_size == 0:
        raise UnreadableFileError(f"{path} is empty; expected rows: fetch it again")
    if kind == ".parquet":
        yield from parquet_rows(path)
        return
    stream = Unzipped(path) if path.name.lower().endswith(".gz") else path.open("rb", buffering=0)
    if kind == ".json":
        yield from json_rows(path, stream)
        return
    with Lines(stream) as lines:
        if kind == ".jsonl":
            yield from jsonl_rows(lines)
        else:
            yield from csv_rows(path, lines, delimiter="\t" if kind == ".tsv" else None)
