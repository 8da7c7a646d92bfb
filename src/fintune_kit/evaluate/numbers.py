"""Reads numbers as people write them in finance, with signs, separators, currencies, per cent and scales.

    "$1.2 million"  1,200,000 ± 50,000        "(3.5)"  -3.5, as in accounts        "12 %"  12 per cent

A number keeps the size of its last digit. So a rounded number equals the exact one, but 2018 does not equal 2019.
"""

import re
from dataclasses import dataclass

TOLERANCE = 0.005
"""Relative. A rounded number may differ by this much, but never by more than half of its last digit."""
_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "b": 1e9, "billion": 1e9}
_SCALES |= {"trillion": 1e12, "tn": 1e12}
_CURRENCY = r"(?:(?:US)?\$|[€£¥]|(?-i:[A-Z]{3})\s)"
_NUMBER = re.compile(
    rf"(?P<open>\()?(?P<sign>[-−–])?\s?{_CURRENCY}?\s?(?P<sign2>[-−–])?"
    r"(?P<digits>\d{1,3}(?:,\d{2,3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)\s?(?P<percent_in>%)?(?P<close>\))?"
    r"\s?(?:(?P<percent>%|percent\b|per cent\b)|(?P<scale>thousand|million|billion|trillion|mn|bn|tn|k|m|b)\b)?",
    re.IGNORECASE,
)
_VERDICT = re.compile(r"(?:\banswer(?: is)?\s*:?|=)\s*(?=[-−–(]?\s?[$€£¥]?[-−–]?\s?\.?\d)", re.IGNORECASE)
_SCALE_AT_END = re.compile(r"\s(thousand|million|billion|trillion)\s*\.?$", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number, and how it was written."""

    value: float
    """The scale is included, per cent is not: 1,200,000 for `1.2 million`, 12 for `12 %`."""
    is_percent: bool = False
    last_digit: float = 1.0
    """The size of the last written digit: 100,000 for `1.2 million`."""


def whole_number(text: str) -> Number | None:
    """The number, if the whole text is one number; else None."""
    match = _NUMBER.fullmatch(text.strip().rstrip("."))
    return _read(match) if match else None


def stated_number(text: str) -> Number | None:
    """The number that an answer states; None if it states none, or several different ones.

    It is the whole text, else the first number after the last `answer` or `=`, else the only number in the text.
    """
    whole = whole_number(text)
    if whole is not None:
        return whole
    verdicts = list(_VERDICT.finditer(text))
    if verdicts:
        match = _NUMBER.search(text, verdicts[-1].end())
        return _read(match) if match else None
    found = {number.value: number for number in map(_read, _NUMBER.finditer(text))}
    return next(iter(found.values())) if len(found) == 1 else None


def same_number(given: Number, wanted: Number) -> bool:
    """Whether two numbers are equal, or one of them is the other one rounded.

    If only the wanted number has a `%`, the given one may leave it out or be the share: `12` and `0.12` are 12 %. If
    only the given number has a `%`, it must be the percentage of a wanted share: `12 %` is 0.12, and not 12.
    """
    factors = [1.0]
    if wanted.is_percent and not given.is_percent:
        factors = [1.0, 100.0]
    if given.is_percent and not wanted.is_percent:
        factors = [0.01]
    return any(
        abs(given.value * factor - wanted.value) <= _room(wanted, last_digit=given.last_digit * factor)
        for factor in factors
    )


def scale_at_end(text: str) -> str:
    """The scale word at the end of a text, `thousand` to `trillion`; empty if it has none."""
    match = _SCALE_AT_END.search(text)
    return match[1].lower() if match else ""


def _room(wanted: Number, *, last_digit: float) -> float:
    rounding = max(wanted.last_digit, last_digit) / 2
    return min(rounding, TOLERANCE * abs(wanted.value)) + 1e-12 * max(1.0, abs(wanted.value))


def _read(match: re.Match[str]) -> Number:
    digits = match["digits"].replace(",", "")
    scale = _SCALES[match["scale"].lower()] if match["scale"] else 1.0
    decimals = len(digits.partition(".")[2])
    minus = bool(match["sign"] or match["sign2"]) != bool(match["open"] and match["close"])
    value = float(digits) * scale
    return Number(
        value=-value if minus else value,
        is_percent=bool(match["percent"] or match["percent_in"]),
        last_digit=scale * 10.0**-decimals,
    )
