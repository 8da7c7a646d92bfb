"""The second look at a line that is about to be written: cruder rules than those that replaced what they found.

    PIN 1_2_3_4_5_6 SHOP       ->   a long number                    [4, 15)
    RENT STRADA MIHAI 14       ->   an address                       [5, 20)
    PAID [REF-90aa3f] SHOP     ->   nothing: the placeholder is ours

A doubt is a reason and a place, never the text itself: it may be printed.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fintune_kit.bank.privacy.identifiers import dates_and_amounts, plain_characters
from fintune_kit.bank.privacy.name_words import BLANK, numbered_merchants
from fintune_kit.bank.privacy.names import personal_names

SEARCHED = ("e-mail addresses and payment ids", "long numbers", "codes of letters and digits", "addresses", "names")
"""The kinds of identifiers that the scan looks for, in words for the report."""

_PLACEHOLDER = re.compile(r"\[[A-Z]+-[0-9a-f]+\]")
_AT_SIGN = re.compile(r"\S*\S@\S\S*")
_ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d(?:[\W_]{0,2}\d){5,}")
_TOKEN = re.compile(r"\w{8,}")
_STREET = (
    r"street|avenue|boulevard|stra(?:ss|ß)e|strada|straat|calle|rua|ulica|ulice|utca|gade|gatan?|vej|laan|allee|gasse|"
    r"apartment|apartments|flat|wohnung|whg"
)
_ADDRESS = re.compile(
    rf"\b\d{{1,4}}[a-z]?,? (?:[^\W\d]+ ){{1,2}}(?:{_STREET})\b|"
    rf"\b[^\W\d]*(?:{_STREET})\.? (?:[^\W\d]+ ){{0,2}}\d{{1,4}}\b",
    re.IGNORECASE,
)


class Doubt(NamedTuple):
    """Something that looks as if it identified somebody."""

    what: str
    start: int
    end: int


def find_doubts(
    text: str, *, is_ours: Callable[[str], bool], wanted: Iterable[re.Pattern[str]] = (), keep: Iterable[str] = ()
) -> Iterator[Doubt]:
    """The places that still look like an identifier, the surest kinds first.

    Args:
        text: the line as it would be written.
        is_ours: whether a placeholder was issued by this run; others are read as text.
        wanted: texts that the user asked to replace.
        keep: words of merchants that are not persons.
    """
    ours = _PLACEHOLDER.sub(lambda m: BLANK * len(m.group()) if is_ours(m.group()) else m.group(), text)
    plain = numbered_merchants().blanked(plain_characters(ours))
    for span in dates_and_amounts(plain):
        plain = f"{plain[: span.start]}{BLANK * (span.end - span.start)}{plain[span.end :]}"
    for what, patterns in (
        ("an e-mail address or a payment id", (_AT_SIGN,)),
        ("a long number", (_ACCOUNT, _NUMBER)),
        ("an address", (_ADDRESS,)),
        ("a text that was to be replaced", tuple(wanted)),
    ):
        for pattern in patterns:
            yield from (Doubt(what, *match.span()) for match in pattern.finditer(plain))
    for token in _TOKEN.finditer(plain):
        if sum(map(str.isdigit, token.group())) >= 3:
            yield Doubt("a code of letters and digits", *token.span())
    for start, end in personal_names(plain, keep=keep):
        yield Doubt("a personal name", start, end)
