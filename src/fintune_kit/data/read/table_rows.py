"""Rows of tables: CSV and TSV, one record at a time, and Parquet, one batch at a time."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fintune_kit.bounds import Bounds
from fintune_kit.data.read.class_labels import names_in_metadata, with_names
from fintune_kit.data.read.lines import (
    MAX_LINE,
    MAX_RAW,
    Lines,
    Row,
    UnreadableFileError,
    Unzipped,
    encoding_note,
    overlong_row,
    repeated_names,
)

_EXCEL_MARK = re.compile(r"""["']?sep=(?P<delimiter>.)["']?""", re.IGNORECASE)
"""Excel's own first line `sep=;` names the delimiter."""


MAX_RECORD_LINES = 10_000
"""Lines of one record. A quote that is open for longer was never closed, and no text of so many lines fits a pack."""
MIN_BATCH, MAX_BATCH, BATCH_BYTES = 64, 4096, 2**28
"""Rows of a Parquet file that are unpacked at once, and the bytes that they may take."""
_MANY_TIMES = 100
"""A row group that unpacks to more times its packed size repeats itself."""


class _RecordLines:
    """The lines of one record after another. After a fault only the first line of the record is lost: the others are
    read again, as records of their own."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._waiting: deque[tuple[int, str]] = deque()
        self._taken: list[tuple[int, str]] = []

    def __iter__(self) -> "_RecordLines":
        return self

    def __next__(self) -> str:
        if len(self._taken) == MAX_RECORD_LINES:
            raise csv.Error(f"a quote is open for {MAX_RECORD_LINES:,} lines")
        if self._waiting:
            entry = self._waiting.popleft()
        else:
            line = next(self._lines)
            entry = (self._lines.number, line)
        self._taken.append(entry)
        return entry[1]

    @property
    def numbers(self) -> range:
        """The numbers of the record's lines, from 1."""
        return range(self._taken[0][0], self._taken[-1][0] + 1)

    @property
    def location(self) -> str:
        """Where the record begins."""
        return f"line {self._taken[0][0]}"

    def begin(self) -> None:
        """Begins a new record."""
        self._taken.clear()

    def give_back(self, *, fault: str) -> Row:
        """The first line of the record as an unreadable row. The lines after it are read again."""
        self._waiting.extendleft(reversed(self._taken[1:]))
        return Row(self.location, None, fault=fault, raw=self._taken[0][1].rstrip("\r\n")[:MAX_RAW])


def csv_rows(path: Path, lines: Lines, delimiter: str | None) -> Iterator[Row]:
    """A row a record; a record that does not fit the header is an unreadable row with its line.

    Args:
        delimiter: None takes the one that the header uses most.
    """
    previous_limit = csv.field_size_limit(MAX_LINE)
    try:
        yield from _csv_records(path, lines, delimiter)
    finally:
        csv.field_size_limit(previous_limit)


def _csv_records(path: Path, lines: Lines, delimiter: str | None) -> Iterator[Row]:
    header_line = next((line for line in lines if not line.isspace()), None)
    if header_line is not None and (mark := _EXCEL_MARK.fullmatch(header_line.strip())):
        delimiter, header_line = mark["delimiter"], next((line for line in lines if not line.isspace()), None)
    if header_line is None:
        raise UnreadableFileError(f"{path} has no header line; expected column names: fetch it again")
    delimiter = delimiter or max(",;\t|", key=header_line.count)
    (header,) = csv.reader([header_line], delimiter=delimiter)
    header = [name.strip() for name in header]
    if repeated := repeated_names(header):
        raise UnreadableFileError(
            f"{path} names the column {repeated[0]!r} twice in line {lines.number}; expected each name once: rename one"
        )
    record = _RecordLines(lines)
    records = csv.reader(record, delimiter=delimiter, strict=True)
    while True:
        record.begin()
        try:
            fields = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            yield record.give_back(fault=f"not CSV: {error}")
            continue
        if overlong := next((number for number in record.numbers if number in lines.overlong), None):
            yield overlong_row(f"line {overlong}", lines.overlong[overlong])
        elif len(fields) != len(header) and fields:
            fault = f"{len(fields)} fields, expected {len(header)} as in the header"
            yield Row(record.location, None, fault=fault, raw=delimiter.join(fields)[:MAX_RAW])
        elif fields:
            note = encoding_note(bool(lines.not_utf8.intersection(record.numbers)))
            yield Row(record.location, dict(zip(header, fields, strict=True)), note=note)
    if lines.broken:
        yield Row(f"line {lines.number + 1}", None, fault=lines.broken)


def parquet_rows(path: Path, *, bounds: Bounds, is_gzip: bool = False) -> Iterator[Row]:
    """The rows of a Parquet file. Class numbers are read as their names, where the file's metadata holds these.

    One unreadable row stands for all that follows a damage.

    Raises:
        UnreadableFileError: no row could be read, or two columns have the same name.
        UserError: it unpacks to more than its bounds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        content = pa.BufferReader(Unzipped(path, bounds=bounds).readall()) if is_gzip else path
        with pq.ParquetFile(content) as file:
            if repeated := repeated_names(file.schema_arrow.names):
                raise UnreadableFileError(
                    f"{path} names the column {repeated[0]!r} twice; expected each name once: rename one"
                )
            bounds.add(rows=file.metadata.num_rows)
            names = names_in_metadata(file.schema_arrow.metadata)
            for batch in _batches(file):
                bounds.add(bytes=_unpacked_bytes(batch))
                for values in python_rows(batch):
                    number += 1
                    yield Row(f"row {number}", with_names(values, names) if names else values)
    except (pa.ArrowException, OSError) as error:
        if number == 0:
            raise UnreadableFileError(f"{path} is not readable as Parquet ({error}); fetch it again") from error
        yield Row(f"row {number + 1}", None, fault=f"the file is damaged from here on ({error})")


def _batches(file: Any) -> Iterator[Any]:
    """The batches of a Parquet file, small where its rows may be large.

    Parquet keeps a value once and points to it from many rows. No row is larger than its row group, though, whose size
    the file tells.
    """
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        columns = [group.column(column) for column in range(group.num_columns)]
        unpacked = max(1, sum(column.total_uncompressed_size for column in columns))
        packed = sum(column.total_compressed_size for column in columns)
        smallest = 1 if unpacked > _MANY_TIMES * packed else MIN_BATCH
        size = min(MAX_BATCH, max(smallest, BATCH_BYTES // unpacked))
        # Starting threads for each small batch costs more than they save: three times the time on short rows.
        yield from file.iter_batches(batch_size=size, row_groups=[index], use_threads=False)


def arrow_rows(path: Path, *, bounds: Bounds) -> Iterator[Row]:
    """The rows of an Arrow file, as `datasets` saves a dataset to disk.

    Raises:
        UnreadableFileError: it is not an Arrow file.
        UserError: it unpacks to more than its bounds.
    """
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_stream(file)
            names, number = names_in_metadata(reader.schema.metadata), 0
            for batch in reader:
                bounds.add(bytes=_unpacked_bytes(batch), rows=batch.num_rows)
                for values in python_rows(batch):
                    number += 1
                    yield Row(f"row {number}", with_names(values, names) if names else values)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableFileError(f"{path} is not readable as an Arrow stream ({error}); fetch it again") from error


def _unpacked_bytes(batch: Any) -> int:
    """The bytes of a batch where each row holds its own values, and does not point to a shared one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = batch.nbytes
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type):
            total += pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
    return int(total)


def python_rows(batch: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow batch or table as dictionaries; texts that are not UTF-8 are read as Windows-1252."""
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
