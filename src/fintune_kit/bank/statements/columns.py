"""Which column of a table is which: by its name in `layouts.toml` and by its content, or by the user's `--map`.

    Date | Type           | Debit/credit | Amount (EUR)      "Type" could say which way money went, but only
    ...  | Online Banking | Debit        | 4,20              "Debit/credit" holds such words: that one is taken

A name alone is not trusted: a date column must hold dates and an amount column amounts, else the next column whose name
fits is tried. A layout that is not known ends in an error. The error shows the header if the header holds no data, and
else the shape of the columns (9 for a digit, a for a letter): without a header, a table starts with a transaction.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fintune_kit.bank.statements.currencies import marks_in
from fintune_kit.bank.statements.values import (
    currency_code,
    currency_of,
    is_currency_word,
    looks_like_date,
    parse_amount,
    unguarded,
)
from fintune_kit.errors import UserError

TEXT_ROLES = ("payee", "payer", "description", "memo", "kind")
"""Columns whose text can become a transaction's description."""
ROLES = (
    "date",
    *TEXT_ROLES,
    "amount",
    "debit",
    "credit",
    "type",
    "currency",
    "category",
    "account",
    "status",
    "pending",
    "balance",
    "fee",
    "reference",
)
"""The roles of columns. `kind` is the sort of payment, `type` says debit or credit, `pending` says yes or no, and
`reference` is the bank's own number of a payment."""
MAX_MEMOS = 3

_ORDER = (
    *("date", "status", "pending", "balance", "debit", "credit", "amount", "currency", "type"),
    *("payee", "payer", "description", "memo", "category", "account", "fee", "kind", "reference"),
)
"""In which order roles choose: a column that fits two is taken by the earlier one."""
_HEADER_WITHIN = 60  # records before the header at most
_SAMPLE = 400
_CURRENCY = "Currency"
_MIN_REFERENCE = 5  # characters: shorter ones count the lines of an export
_MAX_STATUSES = 8  # different texts of a column that says how far a payment is; more is free text
_IN_ANY_MAPPING = ("status", "pending", "currency", "balance", "type", "reference")
"""Roles that are found by name even where the user maps the rest."""


class Record(NamedTuple):
    """One record of a table."""

    first: int
    """Line that it begins in, from 1."""
    last: int
    cells: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLayout:
    """Where a table's header stands and which columns play which role."""

    header_at: int
    """Index of the header among the records; -1 without a header."""
    columns: dict[str, int]
    """Index of the column by role."""
    more_memos: tuple[int, ...] = ()
    """Further columns of text beside description and memo: `Description 2`."""
    names: tuple[str, ...] = field(default=())
    """The header's cells; empty without a header."""

    def name_of(self, index: int) -> str:
        """How to call a column in a report: its name, or its number from 1."""
        name = self.names[index].strip() if index < len(self.names) else ""
        return " ".join(name.split())[:40] if name else f"column {index + 1}"


def recognised_layout(records: Sequence[Record]) -> ColumnLayout | None:
    """The layout of a table whose column names are known and hold what they promise."""
    for index, record in enumerate(records[:_HEADER_WITHIN]):
        if is_header(record.cells):
            layout = _by_name_and_content(index, records)
            if layout is not None:
                return layout
    return None


def is_header(cells: Sequence[str]) -> bool:
    """Whether a record has the names of a date, of an amount and of a text."""
    filled = [cell for cell in cells if cell.strip()]
    if len(filled) < 3 or any(looks_like_date(cell) for cell in filled):
        return False
    names = [folded(cell) for cell in cells]
    found = {role for role in ROLES if any(_is_called(name, role) for name in names)}
    has_amount = "amount" in found or {"debit", "credit"} <= found
    return "date" in found and has_amount and bool(found & set(TEXT_ROLES))


def mapped_layout(records: Sequence[Record], mapping: Mapping[str, str]) -> ColumnLayout | None:
    """The layout that the user names, if the table has these columns.

    Raises:
        UserError: the mapping lacks the date or the amounts.
    """
    if "date" not in mapping or not {"amount", "debit", "credit"} & set(mapping):
        raise UserError("--map needs at least date= and amount= (or debit= and credit=); name their columns too")
    by_number = {role: int(column) - 1 for role, column in mapping.items() if column.isdigit()}
    by_name = {role: folded(column) for role, column in mapping.items() if not column.isdigit()}
    for index, record in enumerate(records[:_HEADER_WITHIN]):
        names = [folded(cell) for cell in record.cells]
        if by_name and all(name in names for name in by_name.values()):
            columns = by_number | {role: names.index(name) for role, name in by_name.items()}
            return _with_unmapped_roles(index, columns, records)
    if by_name or not records:
        return None
    for index, record in enumerate(records[:_HEADER_WITHIN]):
        if looks_like_date(cell_at(record.cells, by_number["date"])) or _is_serial(record, by_number["date"]):
            return ColumnLayout(header_at=index - 1, columns=by_number)
    return None


def unknown_layout(records: Sequence[Record], *, path: Path, mapping: Mapping[str, str]) -> str:
    """The sentence for a file whose columns are not known, with the `--map` that its content suggests."""
    if missing := _missing_names(records, mapping):
        header = next((record for record in records[:_HEADER_WITHIN] if is_header(record.cells)), None)
        found = f"; found {', '.join(cell.strip()[:40] for cell in header.cells)}" if header else ""
        return f"{path} has no line with the columns {', '.join(missing)} that --map names{found}: check their spelling"
    width = usual_width(records)
    usual = [record.cells for record in records[:_HEADER_WITHIN] if len(record.cells) == width]
    if header := next((record for record in records[:_HEADER_WITHIN] if is_header(record.cells)), None):
        return (
            f"{path} has a header in line {header.first}, and no transaction that can be read below it: its columns "
            "hold no dates or no amounts; check the file, or name other columns with --map"
        )
    if width < 2 or not any(_is_data(cell) for cells in usual for cell in cells):
        return (
            f"{path} has no columns that can be told apart; expected a table with a date, a description and an "
            "amount: check the file"
        )
    names = usual[0]
    if any(_is_data(cell) for cell in names):
        shapes = " | ".join(f"{number}: {_shape(cell)}" for number, cell in enumerate(names[:20], start=1))
        return (
            f"{path} has no header; its columns look like: {shapes} (9 a digit, a a letter); say what they are by "
            f"number, as {_suggested(records, width=width)}"
        )
    shown = ", ".join(cell.strip()[:40] for cell in names[:20] if cell.strip())
    problem = "does not have the columns that --map names" if mapping else "has columns of an unknown layout"
    return (
        f"{path} {problem}: found {shown}; expected a date, a description and an amount: say which they are, as "
        '--map date="..." --map description="..." --map amount="..."'
    )


def _missing_names(records: Sequence[Record], mapping: Mapping[str, str]) -> list[str]:
    """The columns that the user names and no record holds."""
    held = {folded(cell) for record in records[:_HEADER_WITHIN] for cell in record.cells}
    return [column for column in mapping.values() if not column.isdigit() and folded(column) not in held]


def usual_width(records: Sequence[Record]) -> int:
    """Columns of most records."""
    widths = Counter(len(record.cells) for record in records[:500] if any(record.cells))
    return max(widths, key=lambda width: (widths[width], width)) if widths else 0


def folded(text: str) -> str:
    """A name as names are compared: lower case, no accents, no punctuation; `Währung`, `Waehrung` are one."""
    plain = text.casefold().translate(_LETTERS)
    plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    for pair, letter in (("ae", "a"), ("oe", "o"), ("ue", "u")):
        plain = plain.replace(pair, letter)
    return " ".join(re.findall(r"[^\W_]+", plain))


def cell_at(cells: Sequence[str], index: int) -> str:
    """A record's cell, empty where the record is too short."""
    return cells[index] if 0 <= index < len(cells) else ""


@cache
def word_list(table: str, name: str) -> frozenset[str]:
    """A list of words of layouts.toml, folded."""
    return frozenset(folded(word) or word for word in _raw()[table][name])


_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe"})


@cache
def _raw() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(resources.files(__package__).joinpath("layouts.toml").read_text(encoding="utf-8"))


@cache
def _aliases(role: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(folded(name) for name in _raw()["columns"][role]))


_NUMBERED = re.compile(r" ?\d$")


@cache
def _base_names(name: str) -> tuple[str, ...]:
    """A folded name, and the same without the currency at its end.

    A column that is called like a currency is one of amounts, and one with the word status in its name is a status.
    """
    words = name.split()
    if name and is_currency_word(name):
        return (name, "amount")
    if "status" in words:
        return (name, "status")
    if name.endswith("1"):  # the first of several: Description 1
        return (name, name[:-1].strip())
    if len(words) < 2 or not is_currency_word(words[-1]):
        return (name,)
    shorter = " ".join(words[:-1])
    return (name, shorter, " ".join(words[:-2])) if words[-2] in ("in", "en", "i", "w") else (name, shorter)


@cache
def _is_called(name: str, role: str) -> bool:
    return any(base in _aliases(role) for base in _base_names(name))


def _by_name_and_content(header_at: int, records: Sequence[Record]) -> ColumnLayout | None:
    samples = _samples(header_at, records)
    header = _with_names_of_pairs(records[header_at].cells, samples)
    columns = _columns_by_role([folded(cell) for cell in header], samples)
    columns = _in_the_accounts_currency(header, _one_kind_of_amount(columns, samples), samples)
    has_amount = bool({"amount", "debit", "credit"} & set(columns))
    if "date" not in columns or not has_amount or not set(TEXT_ROLES) & set(columns):
        return None
    return _finished(header_at, header, columns, samples)


def _with_names_of_pairs(header: Sequence[str], samples: list[list[str]]) -> list[str]:
    """The header of a broker that names two columns once: `Change | (empty)` over `EUR | -4.20`."""
    names = list(header)
    for index, name in enumerate(header[:-1]):
        unnamed = name.strip() and not header[index + 1].strip()
        if unnamed and _holds_currencies(samples[index]) and _holds_amounts(samples[index + 1]):
            names[index : index + 2] = [_CURRENCY if is_called_amount(name) else f"{name} {_CURRENCY}", name]
    return names


def _with_unmapped_roles(header_at: int, columns: dict[str, int], records: Sequence[Record]) -> ColumnLayout:
    """The user's columns, with the column of the status and the like, which only set aside or decide."""
    header = records[header_at].cells
    samples = _samples(header_at, records)
    found = _columns_by_role([folded(cell) for cell in header], samples, taken=set(columns.values()))
    more = {role: index for role, index in found.items() if role in _IN_ANY_MAPPING and role not in columns}
    return _finished(header_at, header, columns | more, samples, memos=False)


def _finished(
    header_at: int, header: Sequence[str], columns: dict[str, int], samples: list[list[str]], *, memos: bool = True
) -> ColumnLayout:
    taken = set(columns.values())
    names = [folded(cell) for cell in header]
    more: list[int] = []
    for index, name in enumerate(names):
        base = _NUMBERED.sub("", name)
        wanted = any(base in _aliases(role) or name in _aliases(role) for role in ("description", "memo"))
        if memos and index not in taken and wanted and len(more) < MAX_MEMOS and _holds_text(samples[index]):
            more.append(index)
    return ColumnLayout(header_at=header_at, columns=columns, more_memos=tuple(more), names=tuple(header))


def _columns_by_role(
    names: Sequence[str], samples: list[list[str]], *, taken: set[int] | None = None
) -> dict[str, int]:
    """For each role the first column whose name is known and whose content fits."""
    taken = set(taken or ())
    columns: dict[str, int] = {}
    for role in _ORDER:
        candidates = [
            index
            for alias in _aliases(role)
            for index, name in enumerate(names)
            if index not in taken and alias in _base_names(name)
        ]
        fits = _FITS[role]
        index = next((i for i in dict.fromkeys(candidates) if fits(samples[i])), None)
        if role == "payee" and index is not None:
            index = _varied(candidates, samples, index)
        if index is not None and not (role == "payer" and len(samples[index]) > 1 and len(set(samples[index])) == 1):
            columns[role] = index
            taken.add(index)
    return columns


def _varied(candidates: Iterable[int], samples: list[list[str]], first: int) -> int:
    """The column itself, unless it names one person throughout (the account's own holder) and another does not."""
    if len(samples[first]) < 2 or len(set(samples[first])) > 1:
        return first
    return next((i for i in candidates if len(set(samples[i])) > 1 and _holds_text(samples[i])), first)


def _one_kind_of_amount(columns: dict[str, int], samples: list[list[str]]) -> dict[str, int]:
    """Either one amount column or a pair: the pair where it fills as many records as the single column does."""
    pair = {"debit", "credit"} & set(columns)
    if "amount" in columns and pair:
        filled = sum(len(samples[columns[role]]) for role in pair)
        drop = {"amount"} if len(pair) == 2 and filled >= 0.95 * len(samples[columns["amount"]]) else pair
        return {role: index for role, index in columns.items() if role not in drop}
    return columns


def _in_the_accounts_currency(
    header: Sequence[str], columns: dict[str, int], samples: list[list[str]]
) -> dict[str, int]:
    """Where a file writes amounts twice, `Amount | Currency | Amount in EUR`: those that all have one currency."""
    if "amount" not in columns:
        return columns
    amount = columns["amount"]
    told = {currency_code(cell) for cell in samples[columns["currency"]]} if "currency" in columns else set()
    amounts = [index for index, cell in enumerate(header) if _is_amount(cell, samples[index])]
    beside = {index: _currencies_beside(index, header, samples, marks=marks_in(told)) for index in amounts}
    uniform = {i: found for i, found in beside.items() if len(found.codes) == 1}
    if amount not in uniform:
        filled = [i for i in uniform if len(samples[i]) >= len(samples[amount])]
        if len(told) < 2 or len(filled) != 1:
            return columns
        (amount,) = filled
    column, codes = uniform[amount]
    columns = columns | {"amount": amount}
    if column is not None:
        return columns | {"currency": column}
    return {role: index for role, index in columns.items() if role != "currency" or told <= codes}


def _is_amount(cell: str, sample: Sequence[str]) -> bool:
    return _is_called(folded(cell), "amount") and _holds_amounts(sample)


class _Currencies(NamedTuple):
    """The currencies of a column of amounts."""

    column: int | None
    """Index of the column that holds them; None where the name of the amounts tells it, or nothing does."""
    codes: frozenset[str]


def _currencies_beside(
    index: int, header: Sequence[str], samples: list[list[str]], *, marks: Mapping[str, str]
) -> _Currencies:
    """Currencies by the name of the amounts, `Betrag (EUR)`, or in a column of a like name: `Billing Currency`."""
    if code := currency_of([header[index]], marks=marks):
        return _Currencies(None, frozenset({code}))
    kin = set(folded(header[index]).split()) - {"amount"}
    for other, cell in enumerate(header):
        words = set(folded(cell).split())
        if kin and "currency" in words and words - {"currency", "code"} == kin and _holds_currencies(samples[other]):
            return _Currencies(other, frozenset(map(currency_code, samples[other])))
    return _Currencies(None, frozenset())


def _samples(header_at: int, records: Sequence[Record]) -> list[list[str]]:
    """For each column the filled cells of the records after the header that hold a date somewhere."""
    width = len(records[header_at].cells)
    rest = records[header_at + 1 : header_at + 1 + _SAMPLE]
    end = next((index for index, record in enumerate(rest) if is_header(record.cells)), len(rest))
    body = [record.cells for record in rest[:end] if _has_date(record)] or [r.cells for r in rest if _has_date(r)]
    return [[text for cells in body if (text := unguarded(cell_at(cells, index)))] for index in range(width)]


def _has_date(record: Record) -> bool:
    filled = [cell for cell in record.cells if cell.strip()]
    return len(filled) > 1 and any(looks_like_date(cell) or _SERIAL_CELL.match(cell.strip()) for cell in filled)


_SERIAL_CELL = re.compile(r"^[2-6]\d{4}(?:[.,]\d+)?$")


def _is_serial(record: Record, index: int) -> bool:
    return _SERIAL_CELL.match(unguarded(cell_at(record.cells, index))) is not None


def _share(values: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, values)) / len(values) if values else 0.0


def _holds_dates(values: Sequence[str]) -> bool:
    return _share(values, lambda value: looks_like_date(value) or bool(_SERIAL_CELL.match(value))) >= 0.5


def _holds_amounts(values: Sequence[str]) -> bool:
    return _share(values, lambda value: parse_amount(value) is not None) > 0.5


def _holds_amounts_or_nothing(values: Sequence[str]) -> bool:
    return not values or _share(values, lambda value: parse_amount(value) is not None) >= 0.5


def _holds_text(values: Sequence[str]) -> bool:
    return _share(values, _is_text) >= 0.5


def _is_text(value: str) -> bool:
    letters = sum(character.isalpha() for character in value)
    return letters >= 1 and letters >= 0.3 * len(value) and not looks_like_date(value)


def _holds_flows(values: Sequence[str]) -> bool:
    return bool(values) and sum(flow != 0 for flow in flows_of(values)) >= 0.9 * len(values)


def _holds_statuses(values: Sequence[str]) -> bool:
    """Mostly words of a status, or few different texts of which one says that the money has not moved."""
    if _share(values, lambda value: status_of(value) != "") >= 0.6:
        return True
    different = {folded(value) for value in values}
    unmoved = word_list("status_words", "pending") | word_list("status_words", "void")
    return len(different) <= _MAX_STATUSES and not different.isdisjoint(unmoved)


def _holds_answers(values: Sequence[str]) -> bool:
    return _share(values, lambda value: answer_of(value) is not None) >= 0.9


def answer_of(value: str) -> bool | None:
    """Whether a cell says yes or no; None where it says neither."""
    name = folded(value)
    if name in word_list("answer_words", "yes"):
        return True
    return False if name in word_list("answer_words", "no") else None


def _holds_currencies(values: Sequence[str]) -> bool:
    return _share(values, lambda value: currency_code(value) != "") >= 0.9


def _holds_few_values(values: Sequence[str]) -> bool:
    return bool(values) and len(set(values)) <= max(3, len(values) // 5)


def _holds_references(values: Sequence[str]) -> bool:
    """Nearly all differ and hold digits. A line number is not a reference, and a text of the customer is not either."""
    long = _share(values, lambda value: len(value) >= _MIN_REFERENCE and any(map(str.isdigit, value)))
    return long >= 0.9 and len(set(values)) >= 0.9 * len(values)


_FITS: Mapping[str, Callable[[Sequence[str]], bool]] = {
    "date": _holds_dates,
    "amount": _holds_amounts,
    "debit": _holds_amounts_or_nothing,
    "credit": _holds_amounts_or_nothing,
    "balance": _holds_amounts,
    "fee": _holds_amounts,
    "type": _holds_flows,
    "status": _holds_statuses,
    "pending": _holds_answers,
    "currency": _holds_currencies,
    "account": _holds_few_values,
    "reference": _holds_references,
    **dict.fromkeys(("payee", "payer", "description", "memo", "category", "kind"), _holds_text),
}
"""For each role, whether a column's content fits it; its name is not asked."""


def flows_of(kinds: Sequence[str]) -> list[int]:
    """For each cell of a column -1 where it says that money went out, 1 where it came in, 0 where it says neither.

    `Payment` alone depends on its neighbours: beside purchases it is a payment to the card, else one from the account.
    """
    beside_purchases = any(folded(kind) in _PURCHASES for kind in kinds)
    return [(1 if beside_purchases else -1) if folded(kind) in _PAYMENTS else _flow_of(kind) for kind in kinds]


_PURCHASES = frozenset(
    {"purchase", "purchases", "sale", "sales", "kauf", "achat", "compra", "acquisto", "aankoop", "kop"}
)
_PAYMENTS = frozenset({"payment", "payments", "zahlung", "paiement", "pago", "pagamento", "betaling", "betalning"})


@cache
def _flow_of(kind: str) -> int:
    name = folded(kind) or kind.strip()
    lists = ((-1, word_list("flow_words", "out")), (1, word_list("flow_words", "in")))
    for sign, words in lists:
        if name in words:
            return sign
    found = {sign for sign, words in lists for word in name.split() if len(word) > 1 and word in words}
    return found.pop() if len(found) == 1 else 0


@cache
def status_of(value: str) -> str:
    """`pending`, `void` or `booked` where a cell says so; else empty."""
    name = folded(value)
    for status in ("pending", "void", "booked"):
        if name in word_list("status_words", status):
            return status
    words, weak = f" {name} ", word_list("status_words", "weak")
    for status in ("pending", "void", "booked"):
        if any(f" {phrase} " in words for phrase in word_list("status_words", status) - weak if len(phrase) > 2):
            return status
    return ""


def _is_data(cell: str) -> bool:
    return len(re.findall(r"\d", cell)) >= 3 or len(cell) > 60 or "@" in cell


def _shape(cell: str) -> str:
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", cell.strip()))[:24]


def _suggested(records: Sequence[Record], *, width: int) -> str:
    """The `--map` flags for a table without a header, guessed from its content."""
    body = [record.cells for record in records[:_SAMPLE] if len(record.cells) == width]
    columns = [[text for cells in body if (text := unguarded(cells[index]))] for index in range(width)]
    dates = [i for i, values in enumerate(columns) if _share(values, looks_like_date) > 0.8]
    amounts = [i for i, values in enumerate(columns) if i not in dates and _holds_amounts(values)]
    texts = [i for i, values in enumerate(columns) if _holds_text(values)]
    if not dates or not amounts or not texts:
        return "--map date=1 --map description=2 --map amount=3"
    told = max(texts, key=lambda i: (len(set(columns[i])), sum(map(len, columns[i]))))
    start = f"--map date={dates[0] + 1} --map description={told + 1}"
    for left, right in pairwise(amounts):
        filled = [(bool(cells[left].strip()), bool(cells[right].strip())) for cells in body]
        if right == left + 1 and (True, True) not in filled and {(True, False), (False, True)} <= set(filled):
            return f"{start} --map debit={left + 1} --map credit={right + 1}"
    amount = max(amounts, key=lambda i: sum(bool(re.search(r"[.,]\d\d?$|^-", value)) for value in columns[i]))
    return f"{start} --map amount={amount + 1}"


def is_called_amount(cell: str) -> bool:
    """Whether a cell is the name of a column of amounts."""
    return any(_is_called(folded(cell), role) for role in ("amount", "debit", "credit"))


def is_known_name(cell: str) -> bool:
    """Whether a cell is the name of a column of some role."""
    return any(_is_called(folded(cell), role) for role in ROLES)
