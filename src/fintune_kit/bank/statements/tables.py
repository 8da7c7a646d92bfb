"""Reads a bank's CSV: finds the delimiter, the header, what each column is, and what each line is.

    Kontoauszug;;;;                                preamble
    Buchungstag;Verwendungszweck;Betrag;;          header     date, description, amount
    03.04.2024;REWE SAGT DANKE;-17,80;;            transaction
    ;;;;                                           blank
    Summe;;-17,80;;                                total

`layouts.toml` lists the column names that are known. Where they do not suffice, the error shows the header and the
`--map` to write. A header is shown only if it holds no data; else only its shape is.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from fintune_kit.bank.statements.layouts import (
    Record,
    cell_at,
    folded,
    layouts,
    mapped_columns,
    recognised_columns,
    unknown_layout,
    usual_width,
)
from fintune_kit.bank.statements.text import Statement
from fintune_kit.bank.statements.values import DateOrder, currency_of, read_amounts, read_dates
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction
from fintune_kit.errors import UserError

MAX_COLUMNS = 200
_MAX_RECORD_LINES = 30  # of one record: more is a quote that never closes
_DELIMITERS = ",;\t|"


def read_csv_statement(
    text: str, *, path: Path, mapping: Mapping[str, str], date_order: DateOrder | None, currency: str
) -> Statement:
    """Transactions of a CSV file; see `statements.load_statement`.

    Raises:
        UserError: no column layout can be made out, or the file is not sound.
    """
    records, header_at, columns = _layout(text, path=path, mapping=mapping)
    header = records[header_at][2] if header_at >= 0 else []
    skipped = [(first, last, "preamble") for first, last, _ in records[: max(0, header_at)]]
    if header_at >= 0:
        skipped.append((records[header_at][0], records[header_at][1], "header"))
    candidates: list[Record] = []
    for record in records[header_at + 1 :]:
        reason = _set_aside(record[2], header=header, columns=columns)
        if reason:
            skipped.append((record[0], record[1], reason))
        else:
            candidates.append(record)
    column = {role: [cell_at(cells, index) for _, _, cells in candidates] for role, index in columns.items()}
    hint = any(word in folded(name) for name in header for word in ("datum", "buchung", "fecha", "date operation"))
    dates = read_dates(column["date"], order=date_order, day_first_hint=hint)
    amounts = _amounts(column, currency=currency)
    shared = currency or currency_of(
        [*header, *(v for role in ("amount", "debit", "credit") for v in column.get(role, ()))]
    )
    rows, lines, unmapped = [], [], 0
    for number, (first, last, _) in enumerate(candidates):
        date, amount = dates[number], amounts[number]
        if date is None or amount is None:
            skipped.append((first, last, "no readable date" if date is None else "no readable amount"))
            continue
        label = _at(column, "category", number)
        category = load_taxonomy().category_of(label.rpartition(":")[2]) or load_taxonomy().category_of(label)
        unmapped += bool(label and not category)
        rows.append(
            Transaction(
                account=_at(column, "account", number),
                date=date,
                description=_description(column, number),
                amount=amount,
                currency=(_at(column, "currency", number) or shared)[:3].upper(),
                category=category or "",
            )
        )
        lines.append(first)
    total = records[-1][1] if records else 0
    return Statement(
        rows=rows, lines=lines, format="CSV", total=total, unit="lines", skipped=skipped, unmapped_categories=unmapped
    )


def _layout(text: str, *, path: Path, mapping: Mapping[str, str]) -> tuple[list[Record], int, dict[str, int]]:
    """The records, where the header stands (-1: nowhere) and the column of each role."""
    best: list[Record] = []
    for delimiter in sorted(_DELIMITERS, key=lambda d: -text[:20_000].count(d)):
        records = _records(text, delimiter=delimiter, path=path)
        found = mapped_columns(records, mapping) if mapping else recognised_columns(records)
        if found:
            return records, *found
        if usual_width(records) > usual_width(best):
            best = records
    raise UserError(unknown_layout(best, path=path, mapping=mapping))


def _records(text: str, *, delimiter: str, path: Path) -> list[Record]:
    widest = max((line.count(delimiter) for line in text.split("\n", 10_000)[:10_000]), default=0) + 1
    if widest > MAX_COLUMNS:
        raise UserError(f"{path} has {widest:,} columns, expected a statement of at most {MAX_COLUMNS}; check the file")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
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
            records.append((first, previous, cells))
    except csv.Error:  # its message may quote the file
        raise UserError(f"{path} is not sound CSV near line {previous + 1}; export it again") from None
    return records


def _set_aside(cells: Sequence[str], *, header: Sequence[str], columns: Mapping[str, int]) -> str | None:
    """Why a record is no transaction; None where it may be one."""
    filled = [cell for cell in cells if cell.strip()]
    if not filled:
        return "blank"
    if list(cells) == list(header):
        return "repeated header"
    words = layouts()["words"]
    starts = [folded(cell).rstrip(" 0123456789") for cell in filled]
    date = cell_at(cells, columns["date"]).strip()
    text = [folded(cell_at(cells, columns[role])) for role in ("description", "payee") if role in columns]
    if any(value in words["balance"] for value in text) or (not date and any(s in words["balance"] for s in starts)):
        return "balance"
    is_dated = read_dates([date], order="dmy")[0] or read_dates([date], order="mdy")[0]
    if not is_dated:
        if any(start in words["total"] for start in starts):
            return "total"
        if any(start in words["balance"] for start in starts):
            return "balance"
        return "no date" if not date else "no readable date"
    return None


def _amounts(column: Mapping[str, Sequence[str]], *, currency: str) -> list[Decimal | None]:
    """Signed amounts from one column, from one and a column that says debit or credit, or from two."""
    if "debit" in column and "credit" in column and "amount" not in column:
        out, into = (read_amounts(column[role], currency=currency) for role in ("debit", "credit"))
        turned = -1 if sum((v or 0) > 0 for v in out) >= sum((v or 0) < 0 for v in out) else 1
        return [
            None if left is None and right is None else turned * (left or Decimal(0)) + (right or Decimal(0))
            for left, right in zip(out, into, strict=True)
        ]
    role = next(role for role in ("amount", "debit", "credit") if role in column)
    values = read_amounts(column[role], currency=currency)
    if "type" in column and not any(value is not None and value < 0 for value in values):
        signs = [_direction(kind) for kind in column["type"]]
        if any(signs):
            return [
                value * sign if value is not None and sign else None for value, sign in zip(values, signs, strict=True)
            ]
    return values


def _direction(kind: str) -> int:
    words = layouts()["words"]
    name = folded(kind)
    for text in (name, *name.split()):
        if text in words["debit"]:
            return -1
        if text in words["credit"]:
            return 1
    return 0


def _description(column: Mapping[str, Sequence[str]], number: int) -> str:
    parts: list[str] = []
    for role in ("payee", "description", "memo"):
        text = " ".join(_at(column, role, number).split())
        if text and not any(text.casefold() in part.casefold() for part in parts):
            parts = [part for part in parts if part.casefold() not in text.casefold()] + [text]
    return " ".join(parts)


def _at(column: Mapping[str, Sequence[str]], role: str, number: int) -> str:
    return column[role][number].strip() if role in column else ""
