"""Finds accounts, cards, IBANs, national ids, phones, e-mail, UPI ids, references and addresses in a bank line.

    ZELLE TO +1 312 555 0100 CONF# A7K2P9Q  03/17  12.50
             PHONE            REF           kept   kept

Dates, times and amounts are set aside first. Of what is left, a run of five or more digits, or a token that mixes
letters and digits as no word does, is an identifier whether or not its kind is known: a line loses a store number
sooner than it keeps a card. IBANs and cards are told by their check digits (python-stdnum).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from stdnum import iban, luhn

from fintune_kit.bank.privacy import patterns
from fintune_kit.bank.privacy.name_words import BLANK, business_words, numbered_merchants


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters of a line that identify somebody: `text[start:end]`."""

    start: int
    end: int
    kind: str


def plain_characters(text: str) -> str:
    """The text with digits, dashes and spaces of any script as ASCII, character for character."""
    if text.isascii():
        return text
    return "".join(character if character.isascii() else _plain(character) for character in text)


def find_identifiers(text: str, *, keep: Iterable[str] = ()) -> tuple[list[Span], str]:
    """Identifiers of a line, left to right, and the line with them (and its dates and amounts) blanked.

    Args:
        text: the line.
        keep: words of merchants that are no identifier, whatever they look like.

    Returns:
        The spans, and the blanked line: of the same length, so that names are looked for in it at valid positions.
    """
    line, spans = plain_characters(text), []
    kept: list[tuple[str | None, Finder]] = [
        (None, _matches(re.compile(re.escape(words), re.IGNORECASE))) for words in keep if words
    ]
    for kind, finder in (*kept, *_FINDERS):
        for start, end in list(finder(line)):
            if BLANK in line[start:end]:
                continue
            line = line[:start] + BLANK * (end - start) + line[end:]
            if kind is not None:
                spans.append(Span(start, end, _refined(kind, text[start:end])))
    return sorted(spans), line


def dates_and_amounts(text: str) -> list[Span]:
    """Where dates, times, amounts and rates stand, left to right (kinds DATE and AMOUNT)."""
    line = plain_characters(text)
    spans = [Span(*span, "DATE") for span in _dates(line)]
    spans += [
        Span(start, end, "AMOUNT")
        for start, end in _amounts(line)
        if all(end <= date.start or date.end <= start for date in spans)
    ]
    return sorted(spans)


def _plain(character: str) -> str:
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    if category in ("Pd", "Cf"):  # a zero-width character inside a number must not hide it
        return "-"
    if unicodedata.east_asian_width(character) == "F":
        return unicodedata.normalize("NFKC", character)[:1]
    return "*" if character in "•●∗" else character


Finder = Callable[[str], Iterable[tuple[int, int]]]


def _matches(pattern: re.Pattern[str]) -> Finder:
    return lambda line: ((match.start(), match.end()) for match in pattern.finditer(line) if match.group())


def _named_groups(pattern: re.Pattern[str]) -> Finder:
    return lambda line: (match.span(match.lastgroup) for match in pattern.finditer(line) if match.lastgroup)


def _dates(line: str) -> Iterator[tuple[int, int]]:
    return ((match.start(), match.end()) for match in patterns.DATE.finditer(line))


def _amounts(line: str) -> Iterator[tuple[int, int]]:
    return ((match.start(), match.end()) for match in patterns.AMOUNT.finditer(line))


def _merchants_with_digits(line: str) -> Iterator[tuple[int, int]]:
    """`BET365`, `24 HOUR FITNESS`: the digits are the name."""
    return numbered_merchants().spans(line)


def _addresses(line: str) -> Iterator[tuple[int, int]]:
    for match in patterns.ADDRESS.finditer(line):
        following = patterns.TOKEN.search(line, match.end())
        # "4411 ELM STREET DINER" is a terminal's number and a diner
        if following is None or following.group().casefold() not in business_words():
            yield match.span()


def _ibans(line: str) -> Iterator[tuple[int, int]]:
    """Account numbers whose check digits hold, with or without spaces."""
    for match in patterns.IBAN_START.finditer(line):
        characters = [i for i in range(match.start(), min(len(line), match.start() + 48)) if line[i].isalnum()]
        for length in range(min(34, len(characters)), 14, -1):
            start, end = characters[0], characters[length - 1] + 1
            inner = line[start:end]
            if (
                len(inner) - length > 9
                or (end < len(line) and line[end].isalnum())
                or not re.fullmatch(r"[\w -]+", inner)
            ):
                continue
            # a wrong national check digit inside still leaves an account number
            if iban.is_valid(inner.replace(" ", "").replace("-", ""), check_country=False):
                yield start, end
                break


def _cards(line: str) -> Iterator[tuple[int, int]]:
    """13 to 19 digits, in groups or not, whose Luhn digit holds."""
    for match in patterns.CARD.finditer(line):
        digits = "".join(character for character in match.group() if character.isdigit())
        if digits[0] in "23456" and luhn.is_valid(digits):
            yield match.span()


def _masked_numbers(line: str) -> Iterator[tuple[int, int]]:
    """Numbers that the bank has masked in part: the digits that are left still tell an account."""
    for match in patterns.MASKED.finditer(line):
        text = match.group()
        masks = sum(character in "xX*" for character in text)
        digits = sum(character.isdigit() for character in text)
        if masks + digits >= 4 and digits >= 2 and (masks >= 2 or (masks == 1 and text[0] in "xX*" and digits >= 4)):
            start = match.start() + len(text) - len(text.lstrip(" -"))
            yield start, match.start() + len(text.rstrip(" -*"))


def _digit_groups(line: str) -> Iterator[tuple[int, int]]:
    """Runs of digits joined by punctuation, and longer rows of groups joined by blanks."""
    for match in patterns.SPACED.finditer(line):
        groups = match.group().split(" ")
        if sum(map(len, groups)) >= 7 and (len(groups) >= 4 or min(map(len, groups)) >= 2):
            yield match.span()
    for match in patterns.GROUPS.finditer(line):
        count = sum(character.isdigit() for character in match.group())
        is_year = re.fullmatch(r"(?:19[5-9]|20[0-4])\d", match.group()) is not None
        if count >= 5 or (count == 4 and (not is_year or patterns.CUE_BEFORE_FOUR.search(line[: match.start()]))):
            yield match.span()


def _mixed_tokens(line: str) -> Iterator[tuple[int, int]]:
    """Tokens that mix letters and digits as no word does; of a merchant with a number after it, the number."""
    for chain in patterns.CHAIN.finditer(line):
        pieces = list(patterns.TOKEN.finditer(line, *chain.span()))
        texts = [piece.group() for piece in pieces]
        parts = [_id_part(text) for text in texts]
        if all(text.isdigit() or (text.isalpha() and part is None) for text, part in zip(texts, parts, strict=True)):
            continue  # plain numbers are for _digit_groups
        for number in (*range(1, len(texts)), *reversed(range(len(texts) - 1))):
            if parts[number] is None and _belongs(texts, parts, number):
                parts[number] = (0, len(texts[number]))
        spans = [(p.start() + part[0], p.start() + part[1]) for p, part in zip(pieces, parts, strict=True) if part]
        yield from _merged(spans)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans with one character between them become one."""
    start = end = -2
    for left, right in spans:
        if left > end + 1:
            if start >= 0:
                yield start, end
            start = left
        end = right
    if start >= 0:
        yield start, end


def _id_part(text: str) -> tuple[int, int] | None:
    """Which characters of one token are an identifier: all, the digits after a name, or none."""
    digits = sum(character.isdigit() for character in text)
    if digits == 0:
        return (0, len(text)) if patterns.UNSPEAKABLE.search(text) else None
    if digits == len(text):
        return (0, len(text)) if digits >= 4 else None
    if match := re.fullmatch(rf"({patterns.WORD}{{4,}})(\d{{3,}})", text):  # SHELL12345
        return match.span(2)
    if re.fullmatch(rf"\d{{2,4}}{patterns.WORD}{{4,}}", text) and not patterns.CONSONANTS.search(text):
        return None  # 1800FLOWERS
    changes = sum(left.isdigit() != right.isdigit() for left, right in pairwise(text))
    if digits >= 3 or (digits == 2 and (changes >= 2 or len(text) >= 8) and len(text) >= 4):
        return 0, len(text)
    is_code = (changes == 2 and len(text) >= 6) or (len(text) >= 8 and text.isupper())
    return (0, len(text)) if digits == 1 and is_code else None


def _belongs(texts: list[str], parts: list[tuple[int, int] | None], number: int) -> bool:
    """Whether a piece that looks innocent is part of the identifier that it hangs on: `ABCD` in ABCD-12F4-7788."""
    neighbours = [texts[i] for i in (number - 1, number + 1) if 0 <= i < len(texts) and parts[i] is not None]
    text = texts[number]
    if not neighbours or text.casefold() in patterns.KEEP_LETTERS:
        return False
    if any(character.isdigit() for character in text):
        return True
    return 3 <= len(text) <= 6 and any(len(other) == len(text) and not other.isdigit() for other in neighbours)


def _refined(kind: str, text: str) -> str:
    """CARD where the check digit of a card holds, REF for what is only a number."""
    digits = "".join(character for character in plain_characters(text) if character.isdigit())
    if kind in ("REF", "PHONE") and 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn.is_valid(digits):
        return "CARD"
    return kind


_FINDERS: tuple[tuple[str | None, Finder], ...] = (
    (None, _merchants_with_digits),
    ("EMAIL", _matches(patterns.EMAIL)),
    ("UPI", _matches(patterns.UPI)),
    ("HANDLE", _matches(patterns.HANDLE)),
    ("REF", _matches(patterns.UUID)),
    ("IBAN", _ibans),
    ("REF", _matches(patterns.IBAN_SHAPED)),
    ("CARD", _cards),
    ("CARD", _masked_numbers),
    ("ID", _matches(patterns.NATIONAL)),
    ("PHONE", _matches(patterns.PHONE)),
    (None, _dates),
    ("ADDRESS", _addresses),
    (None, _amounts),
    ("REF", _named_groups(patterns.CUED)),
    ("REF", _named_groups(patterns.STARRED)),
    ("REF", _mixed_tokens),
    ("REF", _digit_groups),
)
"""In the order of trust: what is claimed first is not looked at again. None keeps what it finds."""
