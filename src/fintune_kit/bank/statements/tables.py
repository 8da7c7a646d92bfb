"""Reads the transactions of a table: which role each column plays, and which kind each line is.

    Kontoauszug;;;;                                preamble
    Buchungstag;Verwendungszweck;Betrag;Status     header        date, description, amount, status
    03.04.2024;REWE SAGT DANKE;-17,80;gebucht      transaction
    04.04.2024;HOTEL;-150,00;vorgemerkt            pending
    ;;;;                                           blank
    Summe;;-17,80;;                                total

Every record becomes a transaction or is set aside by name. A file may hold several tables, each with its own header.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from fintune_kit.bank.statements.columns import (
    ColumnLayout,
    Record,
    answer_of,
    cell_at,
    folded,
    is_called_amount,
    is_header,
    mapped_layout,
    recognised_layout,
    status_of,
    unknown_layout,
    usual_width,
    word_list,
)
from fintune_kit.bank.statements.currencies import meaning_of_mark
from fintune_kit.bank.statements.direction import balance_note, resolve, two_column_amounts
from fintune_kit.bank.statements.records import csv_records, filled_lines, workbook_sheets
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.statements.values import (
    DateOrder,
    DecimalMark,
    Style,
    WrittenAmount,
    currencies_of_mark,
    currency_code,
    currency_of,
    decimal_mark,
    decimals_of,
    looks_like_date,
    parse_amount,
    read_dates,
    sign_in,
    size_of,
    unguarded,
)
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction
from fintune_kit.errors import UserError

MAX_UNREADABLE = 0.02
"""Share of the dated records whose amount may be unreadable; more means that the file was misunderstood."""
_MAX_EMPTY = 0.5
_TEXTS = 400  # records whose letters are looked at
_MAX_WIDE = 0.2  # of the records: more, and the header is short, not the records wrong
_AMOUNT_ROLES = ("amount", "debit", "credit")
_BARE = re.compile(r"[-+\d.,'’ ]*")
_CUT = re.compile(r"\s*[-+−]?\d{1,3}(?:\.?\d{3})*\|\d\d\s*")
_MARK = re.compile(r"^[\[(*]*([^\W\d_][^\W\d_ ]*(?: [^\W\d_]+)?)[\])*]* ?[-:|*\])]")
_NOT_MOVED = {"pending": "pending", "void": "cancelled, declined or reverted"}

Column = Mapping[str, Sequence[str]]
"""The cells of the records that may be transactions, by role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The user's answers to questions that a file leaves open."""

    mapping: Mapping[str, str]
    """Column by role, by name or by number from 1."""
    date_order: DateOrder | None = None
    decimal: DecimalMark | None = None
    currency: str = ""
    """Of amounts that name none."""
    charges_positive: bool | None = None
    """Money out is written with a plus sign (True), or is not (False); None finds out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    layout: ColumnLayout
    header: Record | None
    body: Sequence[Record]
    path: Path
    reading: Reading
    delimiter: str
    preamble: Sequence[Record] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    """The currency of each sign of this table that several currencies share."""

    def name_of(self, role: str) -> str:
        return self.layout.name_of(self.layout.columns[role])

    def cell(self, record: Record, role: str) -> str:
        return cell_at(record.cells, self.layout.columns.get(role, -1)).strip()


class _Amounts(NamedTuple):
    values: list[Decimal | None]
    notes: list[str]
    undirected: frozenset[int]
    """Indices of amounts that can be read, and of which nothing says whether they came in or went out."""


def read_csv(text: str, *, path: Path, reading: Reading) -> Statement:
    """Transactions of a CSV file; see `load.load_statement`.

    Raises:
        UserError: no layout of columns can be made out, or the file is not sound.
    """
    widest: list[Record] = []
    for delimiter, records in csv_records(text, path=path):
        if _layout(records, mapping=reading.mapping):
            statement = Statement(format="CSV", unit="lines", total=filled_lines(records))
            if records[0].first > 1:
                statement.skip(1, "header")
            return read_tables(records, statement, path=path, reading=reading, delimiter=delimiter)
        if usual_width(records) > usual_width(widest):
            widest = records
    raise UserError(unknown_layout(widest, path=path, mapping=reading.mapping))


def read_workbook(raw: bytes, *, path: Path, reading: Reading) -> Statement:
    """Transactions of the first sheet of a workbook that has a known layout; the other sheets are named in a note.

    Raises:
        UserError: no sheet has one, or the workbook is damaged.
    """
    sheets = workbook_sheets(raw, path=path)
    for _, records in sheets:
        if _layout(records, mapping=reading.mapping):
            statement = Statement(format="Excel", unit="lines", total=filled_lines(records))
            if len(sheets) > 1:
                statement.notes.append(f"only the first of {len(sheets)} sheets that holds transactions was read")
            return read_tables(records, statement, path=path, reading=reading, delimiter="")
    widest = max((records for _, records in sheets), key=usual_width, default=[])
    raise UserError(unknown_layout(widest, path=path, mapping=reading.mapping))


def read_tables(
    records: Sequence[Record], statement: Statement, *, path: Path, reading: Reading, delimiter: str
) -> Statement:
    """Fills a statement from records, table after table.

    Raises:
        UserError: dates or amounts are ambiguous, or the amounts of too many dated records cannot be read.
    """
    while layout := _layout(records, mapping=reading.mapping):
        at = layout.header_at
        end = _end_of_table(records, layout, mapped=bool(reading.mapping))
        for record in records[: max(0, at)]:
            statement.skip(record.first, "preamble" if any(record.cells) else "blank", last=record.last)
        header = records[at] if at >= 0 else None
        if header:
            statement.skip(header.first, "header", last=header.last)
        table = _Table(
            layout=layout,
            header=header,
            body=records[at + 1 : end],
            path=path,
            reading=reading,
            delimiter=delimiter,
            preamble=records[: max(0, at)],
        )
        _read_table(table, statement)
        records = records[end:]
        if not records:
            break
    for record in records:
        statement.skip(record.first, "after the last table", last=record.last)
    return statement


def _layout(records: Sequence[Record], *, mapping: Mapping[str, str]) -> ColumnLayout | None:
    return mapped_layout(records, mapping) if mapping else recognised_layout(records)


def _end_of_table(records: Sequence[Record], layout: ColumnLayout, *, mapped: bool) -> int:
    """Index of the next header with other columns than this table's: another table begins there."""
    own = [folded(name) for name in layout.names]
    for index in range(layout.header_at + 1, len(records)):
        cells = records[index].cells
        if not mapped and is_header(cells) and [folded(cell) for cell in cells] != own:
            return index
    return len(records)


def _read_table(table: _Table, statement: Statement) -> None:
    table, currencies = _with_other_currencies(table)
    records = _candidates(table, statement)
    column = {role: [cell_at(r.cells, index).strip() for r in records] for role, index in table.layout.columns.items()}
    table, notes = _with_marks(table, column)
    dates = _dates(table, records, column)
    names = [_text_of(table, record) for record in records]
    amounts = _amounts(table, column, texts=names)
    _refuse_unreadable(table, records, dates, amounts, column)
    _describe(table, statement, [*amounts.notes, *notes], column)
    shared = _shared_currency(table, column)
    for index, (record, date, amount) in enumerate(zip(records, dates, amounts.values, strict=True)):
        if date is None or amount is None:
            written = any(table.cell(record, role) for role in _AMOUNT_ROLES)
            reason = "direction cannot be told" if index in amounts.undirected else "no readable amount"
            reason = "no readable date" if date is None else reason if written else "no amount"
            statement.skip(record.first, reason, last=record.last)
            continue
        label = table.cell(record, "category")
        category = load_taxonomy().category_of(label) if label else None
        if label and not category:
            statement.unknown_labels.append(record.first)
        transaction = Transaction(
            account=unguarded(table.cell(record, "account")),
            date=date,
            description=_text_of(table, record, money_in=amount > 0),
            amount=amount,
            currency=currencies.get(record.first) or _currency_of(table, record) or shared,
            category=category or "",
        )
        statement.add(transaction, line=record.first, reference=unguarded(table.cell(record, "reference")))


def _with_marks(table: _Table, column: Column) -> tuple[_Table, list[str]]:
    """The table with the currency of each sign that several share, and a note for each that nothing decides."""
    layout, roles = table.layout, [role for role in _AMOUNT_ROLES if role in column]
    own = [layout.columns[role] for role in roles] if layout.names else []
    cells = {cell for role in (*roles, "balance") for cell in column.get(role, ()) if not _BARE.fullmatch(cell)}
    written = {cell: amount for role in roles for cell in column[role] if (amount := parse_amount(cell))}
    in_cells = {amount.shared_sign for amount in written.values()} | {*map(unguarded, column.get("currency", ()))}
    in_names = {sign_in(layout.names[index]) for index in own}
    meanings = {}
    for sign in sorted((in_cells | in_names) & set(currencies_of_mark())):
        meanings[sign] = meaning_of_mark(
            sign,
            amounts=[amount for amount in written.values() if amount.shared_sign == sign],
            named=(
                [table.reading.currency.upper()],
                [cell_at(layout.names, index) for index in own],
                set(column.get("currency", ())) - {sign},
                [cell for cell in cells if sign not in cell],  # of US$ beside $ the second is another dollar
                layout.names,
                [cell for record in table.preamble for cell in record.cells],
            ),
            texts=[*layout.names, *(cell for record in table.body[:_TEXTS] for cell in record.cells)],
        )
    notes = [_doubtful_mark(sign, meaning.code) for sign, meaning in meanings.items() if not meaning.is_told]
    return replace(table, marks={sign: meaning.code for sign, meaning in meanings.items()}), notes


def _doubtful_mark(sign: str, code: str) -> str:
    taken = f"it was read as {code}: say another" if code else "its transactions have no currency: say it"
    return f"{sign} is the sign of several currencies, and nothing in the file says of which; {taken} with --currency"


def _with_other_currencies(table: _Table) -> tuple[_Table, dict[int, str]]:
    """A table whose amounts stand in one column for each currency, `CAD$ | USD$`, with all of them in the first.

    Returns:
        The table, and the currency by line where an amount came from another column.
    """
    names, amount = table.layout.names, table.layout.columns.get("amount", -1)
    own = currency_of([cell_at(names, amount)])
    others = {i: code for i, name in enumerate(names) if is_called_amount(name) and (code := currency_of([name]))}
    others = {index: code for index, code in others.items() if own and code != own}
    currencies: dict[int, str] = {}
    body = []
    for record in table.body:
        filled = [index for index in others if cell_at(record.cells, index).strip()]
        if len(filled) == 1 and not cell_at(record.cells, amount).strip():
            cells = list(record.cells)
            cells[amount] = cells[filled[0]]
            currencies[record.first] = others[filled[0]]
            record = record._replace(cells=cells)
        body.append(record)
    return (replace(table, body=body) if currencies else table), currencies


def _candidates(table: _Table, statement: Statement) -> list[Record]:
    """The records that may be transactions; all others are set aside by name."""
    width = max((index + 1 for index, name in enumerate(table.layout.names) if name.strip()), default=0)
    _refuse_cut_amounts(table, width=width)
    wide = [record for record in table.body if width and any(cell.strip() for cell in record.cells[width:])]
    misaligned = {record.first for record in wide} if len(wide) <= _MAX_WIDE * len(table.body) else set()
    kept = []
    for record in table.body:
        reason = "more columns than the header" if record.first in misaligned else _reason(table, record)
        if reason:
            statement.skip(record.first, reason, last=record.last)
        else:
            kept.append(record)
    return kept


def _refuse_cut_amounts(table: _Table, *, width: int) -> None:
    """A decimal comma without quotes in a file of commas cuts an amount in two: `-12,10` becomes `-12` and `10`."""
    index = next((table.layout.columns[role] for role in _AMOUNT_ROLES if role in table.layout.columns), -1)
    filled = [record.cells for record in table.body if any(cell.strip() for cell in record.cells)]
    cut = [cells for cells in filled if len(cells) > width and _CUT.fullmatch("|".join(cells[index : index + 2]))]
    if table.delimiter == "," and width and len(cut) > _MAX_WIDE * len(filled):
        raise UserError(
            f"{table.path} has more columns than its header in {len(cut)} lines, since a decimal comma without quotes "
            "cuts its amounts in two; expected amounts with a decimal point or in quotes: export it with another "
            "delimiter or as Excel"
        )


def _reason(table: _Table, record: Record) -> str:
    """Why a record is not a transaction; empty where it may be one."""
    filled = [cell for cell in record.cells if cell.strip()]
    if not filled:
        return "blank"
    if table.header and list(record.cells) == list(table.header.cells):
        return "repeated header"
    date = unguarded(table.cell(record, "date"))
    for value in (table.cell(record, "status"), date):
        if (status := status_of(value)) in _NOT_MOVED:
            return _NOT_MOVED[status]
    if answer_of(table.cell(record, "pending")) or _is_marked_pending(table, record):
        return "pending"
    texts = [folded(table.cell(record, role)).rstrip(" 0123456789") for role in ("description", "payee", "kind")]
    starts = [folded(cell).rstrip(" 0123456789") for cell in filled]
    dated = _may_be_date(date)
    for name in ("balance", "total"):
        words = word_list("words", name)
        phrases = tuple(f"{word} " for word in words if " " in word)
        if any(text in words or text.startswith(phrases) for text in texts if text):
            return name
        if not dated and any(start in words or start.startswith(phrases) for start in starts):
            return name
    return "" if dated else "no readable date" if date else "no date"


def _is_marked_pending(table: _Table, record: Record) -> bool:
    """Whether a text begins with a mark: `PENDING - COSTCO`, `Vorgemerkt: HOTEL`."""
    texts = (unguarded(table.cell(record, role)) for role in ("description", "payee", "memo"))
    starts = (match.group(1) for text in texts if (match := _MARK.match(text)))
    return any(folded(start) in word_list("words", "pending_mark") for start in starts)


def _may_be_date(value: str) -> bool:
    return looks_like_date(value) or read_dates([value])[0] is not None


def _dates(table: _Table, records: Sequence[Record], column: Column) -> list[str | None]:
    own = table.layout.columns["date"]
    others = [c for r in records for index, c in enumerate(r.cells) if index != own and looks_like_date(c)]
    words = ("datum", "buchung", "fecha", "date operation", "data operazione", "data transakcji", "dato")
    day_first = any(word in folded(name) for name in table.layout.names for word in words)
    return read_dates(
        column["date"], order=table.reading.date_order, day_first_hint=day_first, evidence=[] if day_first else others
    )


def _amounts(table: _Table, column: Column, *, texts: Sequence[str]) -> _Amounts:
    """Signed amounts, and the decisions about them."""
    roles = [role for role in _AMOUNT_ROLES if role in column]
    written = {role: [parse_amount(cell) for cell in column[role]] for role in (*roles, "balance") if role in column}
    numbers = [number for role in roles for number in written[role] if number]
    mark = table.reading.decimal or decimal_mark(
        numbers,
        style=_style(table, column, numbers),
        others=[number for number in written.get("balance", ()) if number],
    )
    sizes = {role: [size_of(n, mark=mark) if n else None for n in found] for role, found in written.items()}
    signed = {role: _as_written(written[role], sizes[role]) for role in written}
    if "amount" not in roles:
        nothing: list[Decimal | None] = [None] * len(texts)
        amounts, notes = two_column_amounts(signed.get("debit", nothing), signed.get("credit", nothing)), []
        undirected: frozenset[int] = frozenset()
    else:
        found = resolve(
            [n if size is not None else None for n, size in zip(written["amount"], sizes["amount"], strict=True)],
            sizes=sizes["amount"],
            kinds=column.get("type"),
            texts=texts,
            balances=signed.get("balance"),
            charges_positive=table.reading.charges_positive,
        )
        pairs = zip(sizes["amount"], found.signs, strict=True)
        amounts = [None if size is None or sign is None else sign * size for size, sign in pairs]
        notes = list(found.notes)
        undirected = frozenset(index for index, sign in enumerate(found.signs) if sign is None)
    if "balance" in signed and (note := balance_note(amounts, signed["balance"])):
        notes.append(note)
    return _Amounts(amounts, notes, undirected)


def _as_written(written: Sequence[WrittenAmount | None], sizes: Sequence[Decimal | None]) -> list[Decimal | None]:
    return [
        None if number is None or size is None else -size if number.negative else size
        for number, size in zip(written, sizes, strict=True)
    ]


def _style(table: _Table, column: Column, numbers: Sequence[WrittenAmount]) -> Style:
    """Evidence about the decimal mark: from delimiter, dates and currency."""
    dates = [value for cell in column["date"] if (value := unguarded(cell))]
    dotted = bool(dates) and all(value.count(".") >= 2 for value in dates)
    codes = {code for cell in column.get("currency", ()) if (code := currency_code(cell, marks=table.marks))}
    codes |= {code for number in numbers if (code := _code_beside(table, number))}
    decimals = {decimals_of(code) for code in codes or {table.reading.currency.upper()}}
    return Style(
        comma_decimal=table.delimiter == ";" or dotted, decimals=decimals.pop() if len(decimals) == 1 else None
    )


def _refuse_unreadable(
    table: _Table,
    records: Sequence[Record],
    dates: Sequence[str | None],
    amounts: _Amounts,
    column: Column,
) -> None:
    """A dated record without a readable amount is rare, or the file was misunderstood."""
    roles = [role for role in _AMOUNT_ROLES if role in column]
    names = ", ".join(table.name_of(role) for role in roles)
    dated = [index for index, date in enumerate(dates) if date is not None]
    lost = [index for index in dated if amounts.values[index] is None]
    written = [index for index in lost if any(column[role][index] for role in roles)]
    if len(amounts.undirected) == 1:  # where the balance says the directions, the first one's step is not in the file
        written = [index for index in written if index not in amounts.undirected]
    if len(written) > MAX_UNREADABLE * len(dated):
        where = ", ".join(str(records[index].first) for index in written[:5])
        raise UserError(
            f"{len(written)} of {len(dated)} dated lines of {table.path} have no amount in {names} that can be read "
            f"(line {where}); expected amounts such as -1,234.56 or 1.234,56-: name another column with "
            "--map amount=..., or say how the file writes decimals with --decimal"
        )
    if len(dated) > 3 and len(lost) > _MAX_EMPTY * len(dated):
        raise UserError(
            f"{len(lost)} of {len(dated)} dated lines of {table.path} have nothing in {names}; expected an amount in "
            "each: name the right column with --map amount=..."
        )


def _describe(table: _Table, statement: Statement, notes: Iterable[str], column: Column) -> None:
    """Adds to the statement's report which column was read as what, and what was decided."""
    layout = table.layout
    for role, index in layout.columns.items():
        statement.columns.setdefault(role, layout.name_of(index))
    for count, index in enumerate(layout.more_memos, start=2):
        statement.columns.setdefault(f"memo {count}", layout.name_of(index))
    used = {*layout.columns.values(), *layout.more_memos}
    for index in range(len(layout.names)):
        cells = [cell for record in table.body[:200] if (cell := cell_at(record.cells, index).strip())]
        words = sum(any(character.isalpha() for character in cell) for cell in cells)
        told = words > 0.3 * len(cells) or (bool(cells) and is_called_amount(layout.names[index]))
        if index not in used and told and layout.name_of(index) not in statement.unused:
            statement.unused.append(layout.name_of(index))
    fees = [number for cell in column.get("fee", ()) if (number := parse_amount(cell)) and number.digits.strip("0.,")]
    if fees:
        is_net = {"net", "netto", "neto", "nett"} & {word for role in _AMOUNT_ROLES for word in _words_of(layout, role)}
        where = "are already taken off the amounts" if is_net else "are not part of the amounts"
        notes = [*notes, f"{table.name_of('fee')} holds {len(fees)} fees, which {where}"]
    statement.notes += [note for note in notes if note not in statement.notes]


def _words_of(layout: ColumnLayout, role: str) -> list[str]:
    """The words of a column's name, folded."""
    index = layout.columns.get(role, -1)
    return folded(cell_at(layout.names, index)).split()


def _currency_of(table: _Table, record: Record) -> str:
    """The currency that a record names, in a column of its own or beside the amount."""
    if code := currency_code(table.cell(record, "currency"), marks=table.marks):
        return code
    written = (parse_amount(table.cell(record, role)) for role in _AMOUNT_ROLES)
    return next((code for number in written if number and (code := _code_beside(table, number))), "")


def _code_beside(table: _Table, number: WrittenAmount) -> str:
    return table.marks.get(number.shared_sign, number.currency)


def _shared_currency(table: _Table, column: Column) -> str:
    """The currency of amounts that name none: the user's, else the one that names of columns or other amounts carry."""
    if table.reading.currency:
        return table.reading.currency[:3].upper()
    roles = [role for role in _AMOUNT_ROLES if role in column]
    names = [table.layout.names[table.layout.columns[role]] for role in roles if table.layout.names]
    cells = {cell for role in roles for cell in column[role]}
    return currency_of(names, marks=table.marks) or currency_of(cells, marks=table.marks)


def _text_of(table: _Table, record: Record, *, money_in: bool = False) -> str:
    """The counterparty and what was written to it, each once. Where money came in, the counterparty is the payer."""
    who = [table.cell(record, role) for role in (("payer", "payee") if money_in else ("payee", "payer"))]
    if "payer" in table.layout.columns:
        who = [next(filter(None, who), "")]
    more = [cell_at(record.cells, index) for index in table.layout.more_memos]
    cells = [*who, table.cell(record, "description"), table.cell(record, "memo"), *more]
    parts: list[str] = []
    for cell in cells:
        text = " ".join(unguarded(cell).split())
        if text and not any(text.casefold() in part.casefold() for part in parts):
            parts = [part for part in parts if part.casefold() not in text.casefold()] + [text]
    return " ".join(parts) or unguarded(table.cell(record, "kind"))
