"""Dates and amounts as banks write them, read a column at a time: one value alone may be ambiguous, a column rarely is.

    03/04/2024 14/04/2024      day first: 14 is no month
    1.234,56   17,80           comma for decimals, dot for thousands
    (12.50)    12.50-   12.50 DR   −12,50 €     all twelve fifty out

Nothing here quotes a value in an error: a statement is private.
"""

import datetime
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from fintune_kit.errors import UserError

DateOrder = Literal["dmy", "mdy", "ymd"]

_NUMERIC = re.compile(r"^\D{0,5}?(\d{1,4})([./\- ])(\d{1,2})\2(\d{1,4})(?!\d)")
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?:\d{6})?(?:\D.*)?$")
_NAMED = re.compile(r"^(?:[^\W\d_]{2,10}[,.]? )?(\d{1,2})[. -]*([^\W\d_]{3,10})\.?[ ,-]*(\d{4}|\d{2})(?!\d)")
_NAMED_US = re.compile(r"^(?:[^\W\d_]{2,10}[,.]? )?([^\W\d_]{3,10})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})")
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan janv ene gen", "feb fev fevr febr", "mar maer mrz mars mrt marz", "apr avr abr",
            "may mai mei mag maj", "jun juin giu",
            "jul juil lug", "aug aout ago", "sep sept set", "oct okt ott", "nov", "dec dez dic",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_CURRENCY_SIGNS = {"$": "USD", "€": "EUR", "£": "GBP", "₹": "INR", "¥": "JPY"}
_AMOUNT = re.compile(r"^\d+(?:[.,]\d+)*$|^[.,]\d+$")
_THREE_DECIMALS = {"KWD", "BHD", "OMR", "TND", "JOD"}


def read_dates(
    values: Sequence[str], *, order: DateOrder | None = None, day_first_hint: bool = False
) -> list[str | None]:
    """ISO dates of a column; None where a value is not a date.

    Args:
        values: the column, in the order of the file.
        order: which of day, month and year comes first; None finds out.
        day_first_hint: what the rest of the file suggests, for columns that leave it open.

    Raises:
        UserError: every date could be read in two orders.
    """
    if order is None:
        order = _date_order(values, day_first_hint=day_first_hint)
    return [_date(value, order=order) for value in values]


def read_amounts(values: Sequence[str], *, currency: str = "") -> list[Decimal | None]:
    """Signed amounts of a column; None where a value is not one. The column decides what a comma means."""
    cleaned = [_split_sign(value) for value in values]
    numbers = [number for _, number in cleaned if number]
    comma = _comma_is_decimal(numbers, three_decimals=currency in _THREE_DECIMALS)
    return [_decimal(number, sign=sign, comma=comma) for sign, number in cleaned]


def currency_of(values: Sequence[str]) -> str:
    """The currency that a column's signs or codes name, if all that name one agree; else empty."""
    found = {code for value in values for sign, code in _CURRENCY_SIGNS.items() if sign in value}
    for value in values:
        found.update(re.findall(r"\b(?:USD|EUR|GBP|INR|CHF|JPY|CAD|AUD|SEK|DKK|NOK|PLN|BRL|MXN|SGD|NZD|ZAR)\b", value))
    return found.pop() if len(found) == 1 else ""


def _date_order(values: Sequence[str], *, day_first_hint: bool) -> DateOrder:
    numeric = [match.groups() for value in values if (match := _NUMERIC.match(value.strip()))]
    if not numeric or all(len(first) == 4 for first, _, _, _ in numeric):
        return "ymd"
    dmy, mdy = ([_date(value, order=order) for value in values] for order in ("dmy", "mdy"))
    read = [sum(date is not None for date in dates) for dates in (dmy, mdy)]
    if read[0] != read[1]:
        return "dmy" if read[0] > read[1] else "mdy"
    if dmy == mdy or all(separator == "." for _, separator, _, _ in numeric):
        return "dmy"
    disorder = [_disorder([date for date in dates if date]) for dates in (dmy, mdy)]
    if disorder[0] != disorder[1]:
        return "dmy" if disorder[0] < disorder[1] else "mdy"
    if day_first_hint:
        return "dmy"
    raise UserError(
        "the dates can be read with the day or with the month first, and nothing in the file decides it; say which "
        "with --date-order dmy or --date-order mdy"
    )


def _disorder(dates: Sequence[str]) -> int:
    """How many neighbours break the file's order, whichever way it runs."""
    pairs = list(pairwise(dates))
    return min(sum(left > right for left, right in pairs), sum(left < right for left, right in pairs))


def _date(value: str, *, order: DateOrder) -> str | None:
    value = value.strip()
    if match := _NUMERIC.match(value):
        first, _, second, third = match.groups()
        if len(first) == 4:
            return _iso(first, second, third)
        if order == "ymd":
            return _iso(first, second, third)
        day, month = (first, second) if order == "dmy" else (second, first)
        return _iso(third, month, day)
    if match := _COMPACT.match(value):
        return _iso(*match.groups())
    if match := _NAMED_US.match(value):
        return _iso(match.group(3), _month(match.group(1)), match.group(2))
    if match := _NAMED.match(value):
        return _iso(match.group(3), _month(match.group(2)), match.group(1))
    return None


def _month(name: str) -> str:
    plain = name.casefold().replace("ä", "ae").replace("é", "e").replace("û", "u")
    return str(next((_MONTHS[plain[:n]] for n in (4, 3) if plain[:n] in _MONTHS), 0))


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


def _split_sign(value: str) -> tuple[int, str]:
    """The sign (0: the value is no amount) and the digits with their separators."""
    text = value.strip().replace("−", "-").replace("–", "-")
    text = re.sub(r"[$€£₹¥]|\b(?:Rs\.?|[A-Z]{3})(?![A-Za-z])", "", text)
    sign = 1
    if match := re.fullmatch(r"\((.*)\)", text.strip()):
        sign, text = -1, match.group(1)
    if match := re.search(r"(?i)(?<=[\d\s])(dr|cr|d|c|s|h)\.?\s*$", text):
        sign = -sign if match.group(1).casefold() in ("dr", "d", "s") else sign
        text = text[: match.start()]
    text = re.sub(r"[\s'’_]", "", text)
    if text.startswith("-") or text.endswith("-"):
        sign, text = -sign, text.strip("-")
    text = text.strip("+")
    return (sign, text) if _AMOUNT.match(text) else (0, "")


def _comma_is_decimal(numbers: Sequence[str], *, three_decimals: bool) -> bool:
    comma = dot = 0
    for number in numbers:
        last = max(number.rfind(","), number.rfind("."))
        if last < 0 or (number.count(number[last]) > 1):
            continue
        both = "," in number and "." in number
        decimals = len(number) - last - 1
        if both or decimals != 3 or number[:last] in ("", "0") or three_decimals:
            comma, dot = comma + (number[last] == ","), dot + (number[last] == ".")
    return comma > dot


def _decimal(number: str, *, sign: int, comma: bool) -> Decimal | None:
    if sign == 0:
        return None
    thousands, point = (".", ",") if comma else (",", ".")
    plain = number.replace(thousands, "")
    if plain.count(point) > 1:
        plain = plain.replace(point, "")
    return sign * Decimal(plain.replace(point, "."))
