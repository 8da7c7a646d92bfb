"""The words that names.py goes by: cues, titles, merchants and the first and last names of all Faker's locales.

Phrases are kept by their first word: a line is looked up word by word, and not tried against a thousand alternatives.
"""

import importlib
import pkgutil
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fintune_kit.bank.taxonomy import load_taxonomy

BLANK = "\0"
"""Stands where something has been claimed, so that no later pattern reads across it."""
BRAND = "\1"
"""Stands where a known merchant has been: the words beside it belong to it, as its branch or its town."""

_WITHOUT_TRADE = ("Transfers", "Income", "Fees & Cash")  # their words stand beside names of people
_CUES = ("strong_cues", "middle_cues", "weak_cues", "card_cues", "transfer_words", "personal_words", "stop_words")
_LETTERS = str.maketrans("øłđðħı", "olddhi")
"""Letters that Unicode does not write as a letter with an accent."""
_WORD = re.compile(r"(?<![^\W_])[^\W_]+")


class Phrases:
    """Whole phrases to be found in a line without regard to case and accents, the longest first."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[str]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}  # made when a line first holds the word: there are thousands
        for phrase in {fold(phrase) for phrase in phrases}:
            first = _WORD.search(phrase)
            assert first is not None, phrase
            self._by_first.setdefault(first.group(), []).append(phrase)

    def spans(self, line: str) -> Iterator[tuple[int, int]]:
        """Where phrases stand, left to right, not overlapping."""
        folded = fold_keeping_length(line)
        position = 0
        for word in _WORD.finditer(folded):
            if word.group() not in self._by_first or word.start() < position:
                continue
            if match := self._pattern(word.group()).match(folded, word.start()):
                position = match.end()
                yield match.span()

    def _pattern(self, first: str) -> re.Pattern[str]:
        if first not in self._patterns:
            self._patterns[first] = _alternatives(self._by_first[first])
        return self._patterns[first]

    def blanked(self, line: str, *, by: str = BLANK) -> str:
        """The line with its phrases replaced by one character, of the same length."""
        for start, end in self.spans(line):
            line = line[:start] + by * (end - start) + line[end:]
        return line

    def any_in(self, line: str) -> bool:
        """Whether a phrase stands in the line."""
        return next(self.spans(line), None) is not None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Sets of folded words, and phrases."""

    first: frozenset[str]
    last: frozenset[str]
    common: frozenset[str]
    business: frozenset[str]
    heads: frozenset[str]
    """First words of known merchants that nobody is called: `fidelity`, `techniker`."""
    stops: frozenset[str]
    titles: frozenset[str]
    particles: frozenset[str]
    strong: Phrases
    middle: Phrases
    weak: Phrases
    card: Phrases
    transfer: Phrases
    personal: Phrases
    cue_words: frozenset[str]
    """Words of cues. They are not part of a name."""
    bank_words: frozenset[str]
    """Words that banks write around merchants: those of cues, of card payments and those that end a name."""
    merchants: Phrases
    surname_merchants: Phrases
    """Merchants of one word that is a last name too: `PERKINS`, `ZABKA`."""
    person_brands: Phrases
    glued_merchants: frozenset[str]
    """Names of merchants without blanks, as they stand in `PAYPAL *STEAMGAMES`."""


def fold(text: str) -> str:
    """Lower case without accents, as the word lists are compared."""
    if text.isascii():
        return text.casefold()
    plain = text.casefold().translate(_LETTERS)
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))


def fold_keeping_length(text: str) -> str:
    """`fold`, but character for character, so that positions stay valid."""
    if text.isascii():
        return text.lower()
    return "".join(folded if len(folded := fold(character)) == 1 else character for character in text)


@cache
def business_words() -> frozenset[str]:
    """Words that say business: of names.toml, the nouns of the taxonomy's small businesses and of its trades."""
    nouns = {word for c in load_taxonomy().categories for g in c.groups for noun in g.local for word in noun.split()}
    trades = {
        word
        for category in load_taxonomy().categories
        if category.name not in _WITHOUT_TRADE
        for phrase in category.words
        for word in map(fold, phrase.split())
        if len(word) > 3
    }
    first, last = _known_names()
    return frozenset(map(fold, (*_raw()["business_words"], *nouns))) | (trades - first - last)


@cache
def numbered_merchants() -> Phrases:
    """Merchants of the taxonomy and of names.toml with digits in their name."""
    names = [
        merchant.name
        for category in load_taxonomy().categories
        for group in category.groups
        for merchant in group.merchants
        if category.name != "Transfers"
    ]
    digits = [name for name in names if any(character.isdigit() for character in name)]
    return Phrases([*digits, *_raw()["numbered_merchants"]])


@cache
def _raw() -> dict[str, list[str]]:
    return tomllib.loads(resources.files(__package__).joinpath("names.toml").read_text(encoding="utf-8"))


@cache
def vocabulary() -> Vocabulary:
    """The words of names.toml, the taxonomy and Faker."""
    raw = _raw()
    first, last = _known_names()
    merchants = {merchant.name for c in load_taxonomy().categories for g in c.groups for merchant in g.merchants} - {
        merchant for g in _groups_of("Transfers") for merchant in g
    }
    common = frozenset(map(fold, raw["common_words"]))
    heads = {fold(name.split()[0]) for name in merchants if len(name.split()) > 1}
    nameable, surnames = first | last | common, last - first - common
    cue_words = frozenset(fold(word) for role in _CUES for phrase in raw[role] for word in phrase.split())
    return Vocabulary(
        first=first,
        last=last,
        common=common,
        business=business_words(),
        heads=frozenset(word for word in heads if len(word) > 4 and word.isalpha() and word not in nameable),
        stops=frozenset(map(fold, raw["stop_words"])),
        titles=frozenset(map(fold, raw["titles"])),
        particles=frozenset(map(fold, raw["particles"])),
        strong=Phrases(raw["strong_cues"]),
        middle=Phrases(raw["middle_cues"]),
        weak=Phrases(raw["weak_cues"]),
        card=Phrases(raw["card_cues"]),
        transfer=Phrases((*raw["transfer_words"], *raw["personal_words"], *raw["strong_cues"], *raw["middle_cues"])),
        personal=Phrases((*raw["personal_words"], *raw["strong_cues"])),
        cue_words=cue_words - frozenset(map(fold, raw["particles"])),
        bank_words=cue_words | frozenset(map(fold, raw["line_words"])),
        merchants=Phrases(
            name for name in merchants if _is_distinct(fold(name), first=first, last=last, common=common)
        ),
        surname_merchants=Phrases(name for name in merchants if fold(name) in surnames and len(name) > 3),
        person_brands=Phrases((*raw["person_brands"], *merchants)),
        glued_merchants=frozenset("".join(filter(str.isalnum, fold(name))) for name in merchants),
    )


def _is_distinct(name: str, *, first: frozenset[str], last: frozenset[str], common: frozenset[str]) -> bool:
    """Whether a merchant's name is nobody's: `OTTO` alone and `JOHN LEWIS` could be a person's."""
    words = name.split()
    if len(words) == 2:
        left, right = words
        return not ((left in first and right in last) or (left in last and right in first))
    return len(words) > 2 or (len(name) > 2 and not (name in first or name in last or name in common))


def _groups_of(category: str) -> Iterator[list[str]]:
    for entry in load_taxonomy().categories:
        if entry.name == category:
            yield from ([merchant.name for merchant in group.merchants] for group in entry.groups)


def _alternatives(phrases: Iterable[str]) -> re.Pattern[str]:
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    inner = "|".join(re.escape(phrase).replace(r"\ ", " +") for phrase in ordered)
    return re.compile(rf"(?:{inner})(?![^\W_])")


@cache
def _known_names() -> tuple[frozenset[str], frozenset[str]]:
    """First and last names of all Faker's locales, and those of names.toml."""
    import faker.providers.person as person

    first = set(map(fold, _raw()["first_names"]))
    last = set(map(fold, _raw()["last_names"]))
    for module in pkgutil.iter_modules(person.__path__):
        provider = importlib.import_module(f"faker.providers.person.{module.name}").Provider
        for attribute in dir(provider):
            values = getattr(provider, attribute)
            if attribute.startswith("_") or isinstance(values, str) or not isinstance(values, Iterable):
                continue
            if "first_name" in attribute:
                first.update(fold(str(value)) for value in values)
            elif "last_name" in attribute:
                last.update(fold(str(value)) for value in values)
    return frozenset(name for name in first if len(name) > 1), frozenset(name for name in last if len(name) > 1)
