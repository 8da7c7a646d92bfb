"""Cuts a CSV text or a workbook into records, each with the lines that it stands in.

    sep=;                          a line for Excel that names the delimiter
    "Date,""Text"",Amount"         a line that was quoted once too often: it is read again
    03.04.2024;"two                a record of two lines
    lines";-17,80

A workbook's numbers become text that can be read in one way only: 4.2 is `4.20`, and 1.234 is `1.2340`.
"""

import csv
import datetime
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fintune_kit.bank.statements.columns import Record
from fintune_kit.errors import UserError
from fintune_kit.workspace import read_limit

MAX_COLUMNS = 200
DELIMITERS = ",;\t|"
_MAX_RECORD_LINES = 30  # of one record: more is a quote that never closes
_TWO_SIGNS = "~|~"  # a delimiter of two signs, which some banks write
_ONE_SIGN = "\x1f"  # stands for it here
MAX_CELLS = 20_000_000
"""Of a sheet, the empty ones too: a cell far out makes a rectangle of all cells before it."""
_CELL = re.compile(rb'<c [^>]*?\br="([A-Z]{1,3})([0-9]{1,7})"')


def csv_records(text: str, *, path: Path) -> Iterator[tuple[str, list[Record]]]:
    """The records of a text by delimiter, the most frequent delimiter first.

    Raises:
        UserError: the text is not sound CSV.
    """
    first_line, _, rest = text.partition("\n")
    skipped = 0
    if first_line.strip().strip('"').lower().startswith("sep="):
        delimiter = first_line.strip().strip('"')[4:5] or "\t"
        yield delimiter, _records(rest, delimiter=delimiter, path=path, skipped=1)
        text, skipped = rest, 1
    if _TWO_SIGNS in text:
        yield _ONE_SIGN, _records(text.replace(_TWO_SIGNS, _ONE_SIGN), delimiter=_ONE_SIGN, path=path, skipped=skipped)
    for delimiter in sorted(DELIMITERS, key=lambda sign: -text[:20_000].count(sign)):
        records = _records(text, delimiter=delimiter, path=path, skipped=skipped)
        yield delimiter, _unquoted(records, delimiter=delimiter)


def workbook_sheets(raw: bytes, *, path: Path) -> list[tuple[str, list[Record]]]:
    """The sheets of an Excel or OpenDocument workbook that hold something, by name.

    Raises:
        UserError: the workbook is damaged, has a password, or is far larger than a statement.
    """
    _check_extent(raw, path=path)
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(raw))
        sheets = [(name, book.get_sheet_by_name(name).to_python(skip_empty_area=False)) for name in book.sheet_names]
    except (CalamineError, ValueError, OSError):  # its message may quote a cell
        raise UserError(
            f"{path} is a workbook that cannot be opened; expected one without a password: save it again as .xlsx"
        ) from None
    return [
        (name, [Record(number, number, [_cell_text(cell) for cell in row]) for number, row in enumerate(rows, start=1)])
        for name, rows in sheets
        if rows
    ]


def _check_extent(raw: bytes, *, path: Path) -> None:
    """Refuses an Excel workbook with a cell so far out that the rectangle before it would fill the memory."""
    if not raw.startswith(b"PK"):
        return
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
                continue
            cells = [(_column_number(column), int(row)) for column, row in _CELL.findall(archive.read(name))]
            columns, rows = (max((cell[axis] for cell in cells), default=0) for axis in (0, 1))
            if columns * rows > MAX_CELLS * read_limit():
                raise UserError(
                    f"a sheet of {path} has {rows:,} lines and {columns:,} columns, expected a statement of at most "
                    f"{int(MAX_CELLS * read_limit()):,} cells: delete the cells far out, or set FINTUNE_READ_LIMIT=10 "
                    f"to allow ten times as many"
                )


def _column_number(letters: bytes) -> int:
    """A is 1, Z is 26, AA is 27."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


def _records(text: str, *, delimiter: str, path: Path, skipped: int) -> list[Record]:
    widest = max((line.count(delimiter) for line in text.split("\n", 10_000)[:10_000]), default=0) + 1
    if widest > MAX_COLUMNS:
        raise UserError(f"{path} has {widest:,} columns, expected a statement of at most {MAX_COLUMNS}; check the file")
    escape = "\\" if '\\"' in text and '""' not in text else None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, escapechar=escape, doublequote=not escape)
    records: list[Record] = []
    previous = 0
    try:
        for cells in reader:
            first, previous = previous + 1, reader.line_num
            if previous - first >= _MAX_RECORD_LINES:
                raise UserError(f"in {path} a quote opens in line {first} and does not close; mend or export it again")
            if len(cells) > MAX_COLUMNS:
                raise UserError(
                    f"line {first} of {path} has {len(cells):,} columns, expected at most {MAX_COLUMNS}; check the file"
                )
            records.append(Record(first + skipped, previous + skipped, cells))
    except csv.Error:  # its message may quote the file
        raise UserError(f"{path} is not sound CSV near line {previous + 1}; export it again") from None
    return records


def _unquoted(records: list[Record], *, delimiter: str) -> list[Record]:
    """The records, read once more where most lines were quoted as a whole."""
    whole = [record for record in records if len(record.cells) == 1 and delimiter in record.cells[0]]
    if not records or len(whole) < 0.8 * len(records):
        return records
    return [
        Record(record.first, record.last, next(csv.reader(record.cells, delimiter=delimiter), []))
        if len(record.cells) == 1
        else record
        for record in records
    ]


def _cell_text(cell: Any) -> str:
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, float | int):
        number = float(cell)
        if number.is_integer():
            return str(int(number))
        return f"{number:.2f}" if round(number, 2) == round(number, 6) else f"{number:.4f}"
    if isinstance(cell, datetime.datetime | datetime.date):
        return cell.isoformat()[:10]
    return str(cell)


def filled_lines(records: Sequence[Record]) -> int:
    """Line in which the last record ends."""
    return records[-1].last if records else 0
