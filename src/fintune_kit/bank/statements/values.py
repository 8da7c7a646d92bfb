"""Dates and amounts as banks write them. A column is read as a whole: one value is often ambiguous, a column rarely.

    03/04/2024  14/04/2024                  the day comes first: no month has the number 14
    24-01-05    24-01-17                    the year comes first: a statement does not run from 2005 to 2017
    5 mars 2024   05/Mar/2024   45352       month names of many languages; days counted as Excel counts them
    1.234,56   17,80                        the comma is the decimal mark
    -1.000     -12                          open: thousands or decimals? the file's other signs decide, else we ask
    (12.50)  12.50-  12.50 DR  −12,50 €     all twelve fifty, out of the account
    Rs 500/-   -3.-   ="-4.20"   R$ 5,00    signs of currencies and of habit are set aside

`values.toml` lists the signs, the marks and the months. No error quotes a value: a statement is private.
"""

import datetime
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from fintune_kit.errors import UserError

DateOrder = Literal["dmy", "mdy", "ymd"]
DecimalMark = Literal[",", "."]
Flow = Literal["", "out", "in"]

_NUMERIC = re.compile(r"^\D{0,5}?(\d{1,4})([./\- ])\s?(\d{1,2})\2\s?(\d{1,4})(?!\d)")
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?:[ T]?\d{4,6})?(?!\d)(?:\D.*)?$")
_COMPACT_DAY_FIRST = re.compile(r"^(\d{2})(\d{2})((?:19|20)\d{2})$")
_CJK = re.compile(r"^(\d{4})\s?[年.]\s?(\d{1,2})\s?[月.]\s?(\d{1,2})\s?日?")
_NAMED = re.compile(
    r"^(?:[^\W\d_]{2,12}[,.]{0,2} )?(\d{1,2})(?:st|nd|rd|th|er|º|ª)?[\s./-]*(?:de )?([^\W\d_]{3,12})\.?"
    r"(?: de)?[\s./,-]*(\d{4}|\d{2})(?!\d)",
    re.IGNORECASE,
)
_NAMED_US = re.compile(
    r"^(?:[^\W\d_]{2,12}[,.]{0,2} )?([^\W\d_]{3,12})\.?[\s-](\d{1,2})(?:st|nd|rd|th)?,?[\s-](\d{4})", re.IGNORECASE
)
_NAMED_ISO = re.compile(r"^(\d{4})[-/. ]([^\W\d_]{3,12})\.?[-/. ](\d{1,2})(?!\d)")
_SERIAL = re.compile(r"^([2-6]\d{4})(?:[.,]\d+)?$")
_EXCEL_EPOCH = datetime.date(1899, 12, 30)
_GUARD = re.compile(r'^(?:=\s*"?(.*?)"?|\'(.*))$', re.DOTALL)

_NUMBER = re.compile(r"(?:\d(?:[\d.,'’‘´_ ]*\d)?|(?<!\d)[.,]\d+)")
_SWISS_ZERO = re.compile(r"^[.,] ?(?:-{1,2}|–|—)")
_GROUPED = re.compile(r"\d{1,3}(?:[ '’‘´_]\d{3})+(?:[.,]\d+)?|\d{1,2}(?:[ '’‘´_]\d{2})*[ '’‘´_]\d{3}(?:[.,]\d+)?")
_MIN_DATES = 0.5
"""Share of a column's values that must be dates for it to hold dates."""


class WrittenAmount(NamedTuple):
    """One amount, before it is known what its comma means."""

    digits: str
    """Digits with `.` and `,` where they stood; other marks of thousands are gone."""
    negative: bool
    """Whether a minus sign or brackets stood around it."""
    mark: Flow
    """The direction that a mark beside it says: `12.50 DR` went out."""
    currency: str
    """ISO code, where a sign or a code stood beside it."""
    spaced: bool
    """Whether blanks or apostrophes grouped its thousands. Then any other mark is the decimal mark."""
    shared_sign: str = ""
    """The sign beside it, where several currencies write it; `currency` is then the usual one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Evidence from the rest of a file, for columns of amounts that leave the decimal mark open."""

    comma_decimal: bool = False
    """Delimiter or dates are those of a country that writes `1.234,56`."""
    decimals: int | None = None
    """Decimals of the currency: 3 for dinars, 0 for yen, 2 for most; None where the currency is not known."""


def read_dates(
    values: Sequence[str],
    *,
    order: DateOrder | None = None,
    day_first_hint: bool = False,
    evidence: Iterable[str] = (),
) -> list[str | None]:
    """ISO dates of a column; None where a value is not a date.

    Args:
        values: the column, in the order of the file.
        order: which of day, month and year comes first; None finds out.
        day_first_hint: the language of the header suggests that the day comes first.
        evidence: other cells of the same file that may be dates, written by the same bank.

    Raises:
        UserError: every date could be read in two orders.
    """
    texts = [unguarded(value) for value in values]
    filled = [text for text in texts if text]
    if filled and sum(bool(_SERIAL.match(text)) for text in filled) > _MIN_DATES * len(filled):
        return [_serial_date(text) for text in texts]
    if order is None:
        order = _date_order(texts, day_first_hint=day_first_hint, evidence=[unguarded(value) for value in evidence])
    return [_date(text, order=order) for text in texts]


def looks_like_date(value: str) -> bool:
    """Whether a cell holds a date in some order. A bare number is not one: it may be an amount."""
    text = unguarded(value)
    return any(_date(text, order=order) is not None for order in ("dmy", "mdy"))


def parse_amount(value: str) -> WrittenAmount | None:
    """The parts of one written amount; None where the cell is not an amount.

    `("1234,56", True, "out", "EUR", False)` for `-1234,56 EUR DR`.
    """
    text = unguarded(value).replace("\u00a0", " ").replace("\u202f", " ").replace("\u2009", " ")
    text = re.sub(r"[−–—‐‑]", "-", text)
    number = _NUMBER.search(text)
    if number is None:
        return None
    digits, before, after = number.group(), text[: number.start()], text[number.end() :]
    if zero := _SWISS_ZERO.match(after):
        after = after[zero.end() :]
    if after.startswith("/-"):  # Rs 500/-
        after = after[2:]
    spaced = any(mark in digits for mark in " '’‘´_")
    if spaced and not _GROUPED.fullmatch(digits):
        return None
    around = _signs_around(before, after)
    if around is None:
        return None
    negative, mark, currency, shared = around
    return WrittenAmount(re.sub(r"[ '’‘´_]", "", digits), negative, mark, currency, spaced, shared)


def decimal_mark(
    numbers: Sequence[WrittenAmount], *, style: Style, others: Sequence[WrittenAmount] = ()
) -> DecimalMark:
    """The mark that separates the decimals in a file's amounts.

    Args:
        numbers: the amounts.
        style: the file's delimiter, dates and currency. They decide if the amounts leave it open.
        others: amounts of other columns (a balance), looked at where the amounts themselves leave it open.

    Raises:
        UserError: the amounts contradict one another, or leave it open and nothing else decides.
    """
    for group in (numbers, others):
        comma, dot = _evidence(group, three_decimals=style.decimals == 3)
        if comma and dot and group is numbers and min(comma, dot) > 0.02 * (comma + dot):
            raise UserError(
                f"{comma} amounts have a decimal comma and {dot} a decimal point; say which the file means with "
                "--decimal , or --decimal ."
            )
        if comma or dot:
            return "," if comma > dot else "."
    open_marks = {mark for number in numbers for mark in ",." if mark in number.digits}
    if not open_marks:
        return "," if style.comma_decimal else "."
    if len(open_marks) == 1:
        (mark,) = open_marks
        if (mark == ".") == style.comma_decimal or _cannot_be_decimals(numbers, style=style):
            return "." if mark == "," else ","
    raise UserError(
        "the amounts have three digits after their only comma or point, which may be decimals or thousands, and "
        "nothing in the file decides it; say which mark the decimals have with --decimal . or --decimal ,"
    )


def size_of(written: WrittenAmount, *, mark: DecimalMark) -> Decimal | None:
    """The amount without its sign; None where its digits are not grouped as that decimal mark asks."""
    thousands = "." if mark == "," else ","
    whole, _, decimals = written.digits.partition(mark)
    if mark in decimals or thousands in decimals:
        return None
    groups = whole.split(thousands)
    if len(groups) > 1 and (
        not 1 <= len(groups[0]) <= 3
        or len(groups[-1]) != 3
        or any(len(group) not in (2, 3) for group in groups[1:-1])
        or written.spaced
    ):
        return None
    return Decimal("".join(groups) + "." + (decimals or "0")) if decimals else Decimal("".join(groups) or "0")


def read_amounts(
    values: Sequence[str], *, mark: DecimalMark | None = None, style: Style | None = None
) -> list[Decimal | None]:
    """Amounts of one column with the sign that is written at each; None where a value is not an amount.

    Args:
        values: the column.
        mark: the decimal mark; None finds out.
        style: see `decimal_mark`.

    Raises:
        UserError: as `decimal_mark`.
    """
    written = [parse_amount(value) for value in values]
    if mark is None:
        mark = decimal_mark([number for number in written if number], style=style or Style())
    return [_signed(number, mark=mark) for number in written]


def currency_of(values: Iterable[str], *, marks: Mapping[str, str] | None = None) -> str:
    """The ISO code that the amounts or the names of columns carry, if all that carry one agree; else empty.

    Args:
        values: the amounts or names.
        marks: the code of signs that several currencies share, where it is known; else the usual one is taken.
    """
    found: set[str] = set()
    signs = {**_table()["signs"], **(marks or {})}
    for value in values:
        codes = _codes_in(value)
        sign = sign_in(value)
        told = set(_table()["shared_signs"].get(sign, ()))
        found |= codes
        if signs.get(sign) and not codes & told:  # in "CAD ($)" the code says what the sign means
            found.add(signs[sign])
    return found.pop() if len(found) == 1 else ""


def named_currencies(value: str) -> frozenset[str]:
    """All ISO codes that a cell may name: `{CAD}` for `Balance (CAD)`, and each dollar for `Amount ($)`."""
    sign = sign_in(value)
    shared = _table()["shared_signs"].get(sign, (_table()["signs"].get(sign, ""),))
    return (_codes_in(value) or frozenset(shared)) - {""}


def currencies_of_mark() -> Mapping[str, Sequence[str]]:
    """The currencies of each sign that several share, the usual one first; "" first where none is usual."""
    shared: Mapping[str, Sequence[str]] = _table()["shared_signs"]
    return shared


def sign_in(value: str) -> str:
    """The longest sign of a currency that stands in a text by itself; empty without one."""
    return next((sign for sign, pattern in _table()["sign_patterns"].items() if pattern.search(value)), "")


def currency_code(value: str, *, marks: Mapping[str, str] | None = None) -> str:
    """The ISO code that a cell of a currency column means; empty where it means none. For `marks` see `currency_of`."""
    text = unguarded(value)
    if text.upper() in _table()["codes"]:
        return text.upper()
    return str({**_table()["signs"], **(marks or {})}.get(text, ""))


def is_currency_word(word: str) -> bool:
    """Whether a folded word at the end of a column's name is a currency: `eur`, `rs`, `kc`."""
    return word in _table()["words"]


def decimals_of(currency: str) -> int | None:
    """How many decimals a currency has; None for one that is not known."""
    table = _table()
    if currency not in table["codes"]:
        return None
    return 3 if currency in table["three_decimals"] else 0 if currency in table["no_decimals"] else 2


def unguarded(value: str) -> str:
    """A cell without blanks around it and without what keeps Excel from reading it: `="-4.20"`, `'0012`."""
    text = value.strip().strip("\ufeff\u200e\u200f").strip()
    match = _GUARD.match(text)
    return (match.group(1) or match.group(2) or "").strip() if match else text


def _signed(written: WrittenAmount | None, *, mark: DecimalMark) -> Decimal | None:
    size = size_of(written, mark=mark) if written else None
    if size is None or written is None:
        return None
    out = written.mark == "out" or (written.mark == "" and written.negative)
    return -size if out else size


def _codes_in(value: str) -> frozenset[str]:
    found = re.findall(r"(?<![A-Za-z])[A-Z]{3}(?![A-Za-z])", value)
    return frozenset(code for code in found if code in _table()["codes"])


def _signs_around(before: str, after: str) -> tuple[bool, Flow, str, str] | None:
    """Minus, mark, currency and shared sign of what stands around a number; None where something else stands there."""
    negative, mark, currency, shared = False, "", "", ""
    if (before + after).count("(") != (before + after).count(")"):
        return None
    if "(" in before:
        negative = True
    for text in (before, after):
        rest = text.replace("(", " ").replace(")", " ").strip()
        while rest:
            piece = _SIGN.match(rest)
            if piece is None:
                return None
            if piece["minus"]:
                following = _SIGN.match(rest[1:].strip()) if text is after else None
                joins = following is not None and following["mark"]  # the hyphen of "12.50-CR"
                negative = negative or not joins
            elif piece["mark"]:
                mark = _table()["marks"][piece["mark"].casefold()]
            elif piece["currency"]:
                name = piece["currency"]
                currency = _table()["signs"].get(name, name.upper() if name.upper() in _table()["codes"] else "")
                shared = name if name in _table()["shared_signs"] else ""
            rest = rest[piece.end() :].strip()
    return negative, mark, currency, shared  # type: ignore[return-value]


def _cannot_be_decimals(numbers: Sequence[WrittenAmount], *, style: Style) -> bool:
    """Whether three digits after a mark are thousands, since the currency has fewer decimals."""
    plain = [number.digits for number in numbers if number.digits.isdigit()]
    small = plain and all(len(digits) <= 3 for digits in plain)  # 12 beside 1.000: no decimals are written
    return style.decimals == 0 or (style.decimals == 2 and bool(small))


def _evidence(numbers: Sequence[WrittenAmount], *, three_decimals: bool) -> tuple[int, int]:
    """How many amounts can only be read with a decimal comma, and how many only with a decimal point."""
    comma = dot = 0
    for number in numbers:
        digits = number.digits
        last = max(digits.rfind(","), digits.rfind("."))
        if last < 0:
            continue
        other = "." if digits[last] == "," else ","
        if digits.count(digits[last]) > 1:  # 1.234.567: only thousands are repeated
            decimal = other
        elif (
            other in digits
            or number.spaced
            or len(digits) - last - 1 != 3
            or three_decimals
            or digits[:last] in ("", "0")
            or last > 3
        ):
            decimal = digits[last]
        else:
            continue
        comma, dot = comma + (decimal == ","), dot + (decimal == ".")
    return comma, dot


def _date_order(texts: Sequence[str], *, day_first_hint: bool, evidence: Sequence[str]) -> DateOrder:
    numeric = [match.groups() for text in texts if (match := _NUMERIC.match(text))]
    if not numeric or all(len(first) == 4 for first, _, _, _ in numeric):
        return "ymd"
    dmy, mdy = ([_date(text, order=order) for text in texts] for order in ("dmy", "mdy"))
    read = [sum(date is not None for date in dates) for dates in (dmy, mdy)]
    ymd = [_date(text, order="ymd") for text in texts]
    others = [_years(dates) for dates, count in zip((dmy, mdy), read, strict=True) if count == max(read)]
    if sum(date is not None for date in ymd) >= max(read) and _years(ymd) < min(others):
        return "ymd"
    if read[0] != read[1]:
        return "dmy" if read[0] > read[1] else "mdy"
    if dmy == mdy or all(separator == "." for _, separator, _, _ in numeric):
        return "dmy"
    known = [[_date(text, order=order) is not None for text in evidence] for order in ("dmy", "mdy")]
    if sum(known[0]) != sum(known[1]):
        return "dmy" if sum(known[0]) > sum(known[1]) else "mdy"
    disorder = [_disorder([date for date in dates if date]) for dates in (dmy, mdy)]
    if disorder[0] != disorder[1]:
        return "dmy" if disorder[0] < disorder[1] else "mdy"
    if day_first_hint:
        return "dmy"
    raise UserError(
        "the dates can be read with the day or with the month first, and nothing in the file decides it; say which "
        "with --date-order dmy or --date-order mdy"
    )


def _years(dates: Sequence[str | None]) -> int:
    """Years between the first and the last date of a column."""
    years = [int(date[:4]) for date in dates if date]
    return max(years) - min(years) if years else 0


def _disorder(dates: Sequence[str]) -> int:
    """How many neighbours break the file's order, whether it runs forwards or backwards."""
    pairs = list(pairwise(dates))
    return min(sum(left > right for left, right in pairs), sum(left < right for left, right in pairs))


def _date(text: str, *, order: DateOrder) -> str | None:
    if match := _CJK.match(text):
        return _iso(*match.groups())
    if match := _NUMERIC.match(text):
        first, _, second, third = match.groups()
        if len(first) == 4 or order == "ymd":
            return _iso(first, second, third)
        day, month = (first, second) if order == "dmy" else (second, first)
        return _iso(third, month, day)
    if (match := _COMPACT.match(text)) and (iso := _iso(*match.groups())):
        return iso
    if match := _COMPACT_DAY_FIRST.match(text):
        day, month, year = match.groups()
        return _iso(year, day, month) if order == "mdy" else _iso(year, month, day)
    for pattern, places in ((_NAMED_ISO, (1, 2, 3)), (_NAMED_US, (3, 1, 2)), (_NAMED, (3, 2, 1))):
        if match := pattern.match(text):
            year, name, day = (match.group(place) for place in places)
            if (month_number := _month(name)) and (iso := _iso(year, str(month_number), day)):
                return iso
    return None


def _serial_date(text: str) -> str | None:
    match = _SERIAL.match(text)
    return (_EXCEL_EPOCH + datetime.timedelta(days=int(match.group(1)))).isoformat() if match else None


def _month(name: str) -> int:
    plain = name.casefold().replace("ä", "ae")
    plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    plain = plain.replace("ł", "l").replace("ı", "i")
    months: dict[str, int] = _table()["months"]
    return months.get(plain) or next((months[plain[:n]] for n in (6, 5, 4, 3) if plain[:n] in months), 0)


def _iso(year: str, month: str, day: str) -> str | None:
    if len(year) not in (2, 4):
        return None
    full = int(year) if len(year) == 4 else int(year) + (2000 if int(year) < 70 else 1900)
    if not 1900 <= full <= 2100:
        return None
    try:
        return datetime.date(full, int(month), int(day)).isoformat()
    except ValueError:
        return None


@cache
def _table() -> dict[str, Any]:
    raw = tomllib.loads(resources.files(__package__).joinpath("values.toml").read_text(encoding="utf-8"))
    return {
        "signs": raw["currency_signs"],
        "shared_signs": raw["shared_signs"],
        "sign_patterns": {
            sign: re.compile(rf"(?<![^\W\d_]){re.escape(sign)}(?![^\W\d_])")
            for sign in sorted(raw["currency_signs"], key=len, reverse=True)
        },
        "codes": frozenset(raw["currencies"]["codes"]),
        "three_decimals": frozenset(raw["currencies"]["three_decimals"]),
        "no_decimals": frozenset(raw["currencies"]["no_decimals"]),
        "words": frozenset(
            ["euros", "local", *(re.sub(r"[^a-z円元]", "", sign.casefold()) for sign in raw["currency_signs"])]
        )
        | {code.casefold() for code in raw["currencies"]["codes"]},
        "marks": {word: flow for flow in ("out", "in") for word in raw["marks"][flow]},
        "months": {name: int(number) for number, names in raw["months"].items() for name in names},
    }


def _sign_pattern() -> re.Pattern[str]:
    """One sign beside a number: a minus, a plus, a mark or a currency."""
    table = _table()
    signs = "|".join(re.escape(sign) for sign in sorted(table["signs"], key=len, reverse=True))
    codes = "|".join(sorted(table["codes"] | {code.lower() for code in table["codes"]}))
    marks = "|".join(re.escape(word) for word in sorted(table["marks"], key=len, reverse=True))
    end = r"(?![^\W\d_])"
    return re.compile(
        rf"(?P<minus>-)|\+|(?P<currency>(?:{codes}){end}|(?:{signs}){end})|(?P<mark>(?i:{marks})){end}\.?"
    )


_SIGN = _sign_pattern()
