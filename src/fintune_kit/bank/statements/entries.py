"""Entries of the formats that name their fields (OFX, CAMT, QIF), read as columns are: all dates, then all amounts.

<STMTTRN> <DTPOSTED>20240304 <TRNAMT>-12,80 <NAME>CAFE       Entry(number=1, date="20240304", amount="-12,80", ...)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from fintune_kit.bank.statements.direction import resolve
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.statements.tables import MAX_UNREADABLE, Reading
from fintune_kit.bank.statements.values import (
    DecimalMark,
    Style,
    WrittenAmount,
    decimal_mark,
    decimals_of,
    parse_amount,
    read_dates,
    size_of,
)
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction
from fintune_kit.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One transaction as its format writes it."""

    number: int
    """The line or the entry, from 1."""
    date: str
    amount: str
    description: str
    currency: str = ""
    account: str = ""
    kind: str = ""
    """A word that may say debit or credit."""
    category: str = ""
    reference: str = ""
    """The bank's own number of the transaction."""


def add_entries(
    statement: Statement,
    entries: Sequence[Entry],
    *,
    path: Path,
    reading: Reading,
    iso_dates: bool,
    trusted: bool = False,
) -> None:
    """Adds the transactions of some entries to a statement; sets aside those without a readable date or amount.

    Args:
        statement: the transactions of the file so far; these are added.
        entries: in the order of the file.
        path: for errors.
        reading: the user's own information about the file.
        iso_dates: the format writes the year first.
        trusted: the format says how signs and decimals are written; banks that write a decimal comma are understood.

    Raises:
        UserError: dates or amounts are ambiguous, or too many amounts cannot be read.
    """
    order = reading.date_order or ("ymd" if iso_dates else None)
    dates = read_dates([entry.date for entry in entries], order=order)
    written = [parse_amount(entry.amount) for entry in entries]
    mark = _decimal_mark(entries, written, reading=reading, trusted=trusted)
    sizes = [size_of(number, mark=mark) if number else None for number in written]
    kinds = [entry.kind for entry in entries]
    found = resolve(
        written,
        sizes=sizes,
        kinds=kinds if any(kinds) else None,
        texts=[entry.description for entry in entries],
        balances=None,
        charges_positive=reading.charges_positive,
        trusted=trusted,
    )
    statement.notes += [note for note in found.notes if note not in statement.notes]
    _refuse_unreadable(entries, sizes, path=path)
    for entry, date, size, sign in zip(entries, dates, sizes, found.signs, strict=True):
        if date is None or size is None or sign is None:
            statement.skip(entry.number, "no readable date or amount")
            continue
        transaction = _transaction(entry, date=date, amount=sign * size, currency=reading.currency)
        if entry.category and not transaction.category:
            statement.unknown_labels.append(entry.number)
        statement.add(transaction, line=entry.number, reference=entry.reference)


def _transaction(entry: Entry, *, date: str, amount: Decimal, currency: str) -> Transaction:
    category = load_taxonomy().category_of(entry.category) if entry.category else None
    return Transaction(
        account=entry.account,
        date=date,
        description=" ".join(entry.description.split()),
        amount=amount,
        currency=(entry.currency or currency)[:3].upper(),
        category=category or "",
    )


def _decimal_mark(
    entries: Sequence[Entry], written: Sequence[WrittenAmount | None], *, reading: Reading, trusted: bool
) -> DecimalMark:
    """The decimal mark of all amounts; a trusted format writes a point, unless some amount holds a comma."""
    numbers = [number for number in written if number]
    decimals = {decimals_of(entry.currency or reading.currency.upper()) for entry in entries}
    style = Style(decimals=decimals.pop() if len(decimals) == 1 else None)
    has_comma = any("," in number.digits for number in numbers)
    return reading.decimal or ("." if trusted and not has_comma else decimal_mark(numbers, style=style))


def _refuse_unreadable(entries: Sequence[Entry], sizes: Sequence[Decimal | None], *, path: Path) -> None:
    unreadable = [entry.number for entry, size in zip(entries, sizes, strict=True) if size is None and entry.amount]
    if len(unreadable) > max(1, MAX_UNREADABLE * len(entries)):
        raise UserError(
            f"{len(unreadable)} of {len(entries)} entries of {path} have an amount that cannot be read (entry "
            f"{', '.join(map(str, unreadable[:5]))}); expected -1234.56: say how it writes decimals with --decimal"
        )
