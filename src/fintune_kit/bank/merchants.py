"""Which merchant a line is about: a key that is the same for all lines of one merchant, whatever the bank adds.

    SQ *BLUE BOTTLE 0423 OAKLAND CA       ->  blue bottle        a till's prefix, a code and a town go
    KARTENZAHLUNG BAECKEREI HUBER KOELN   ->  baeckerei huber    the bank's words go
    UPI/[REF-90aa3f]/DR/SWIGGY/HDFC       ->  swiggy             a merchant of the taxonomy is its own key

The bank's words come from names.toml; beside them the statement itself shows what it writes before and after many
merchants. Keys of which one begins with the other are one merchant.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from fintune_kit.bank.privacy.name_words import BLANK, Phrases, fold, vocabulary
from fintune_kit.bank.taxonomy import load_taxonomy

_PLACEHOLDER = re.compile(r"\[[A-Z]+-[0-9a-f]+\]")
_TOKEN = re.compile(r"[^\W_]+(?:['’&.][^\W_]+)*")
_MANY = 4  # different words beside a word that the statement writes around merchants
_MAX_WORDS = 3
_SHORT = 2  # letters of a merchant that is not looked for: `BP` stands in too many words' company


def merchant_keys(descriptions: Sequence[str]) -> list[str]:
    """The key of each line's merchant, read together with the other lines of the statement.

    Returns:
        A key for each line, in order; empty where a line names no merchant.
    """
    known = [_known_merchant(text) for text in descriptions]
    rest = {text: _significant_words(text) for text, key in zip(descriptions, known, strict=True) if key is None}
    stripped = _without_frequent_ends(list(rest.values()))
    own = {text: " ".join(words[:_MAX_WORDS]) for text, words in zip(rest, stripped, strict=True)}
    grouped = _grouped({*filter(None, known), *own.values()})
    return [grouped[own[text] if key is None else key] for text, key in zip(descriptions, known, strict=True)]


class MerchantLabels:
    """Categories that a person gave to merchants, to be found in the lines of any statement."""

    def __init__(self, categories: Mapping[str, str]) -> None:
        """Takes a category for each merchant, written as `merchant_keys` writes it or as the person knows it."""
        self._categories = {fold(merchant): category for merchant, category in categories.items()}
        self._phrases = Phrases(self._categories)

    def category_of(self, description: str) -> str | None:
        """The category of the longest of these merchants that stands in the line, whole words only."""
        line = _PLACEHOLDER.sub(" ", description)
        found = [fold(line[start:end]) for start, end in self._phrases.spans(line)]
        merchants = [" ".join(merchant.split()) for merchant in sorted(found, key=len)]
        return self._categories.get(merchants[-1]) if merchants else None


def _known_merchant(text: str) -> str | None:
    """The longest merchant of the taxonomy in the line."""
    shops, _ = _taxonomy_merchants()
    return _longest(shops, text)


def _longest(merchants: Phrases, text: str) -> str | None:
    line = _PLACEHOLDER.sub(lambda match: BLANK * len(match.group()), text)
    found = [fold(line[start:end]) for start, end in merchants.spans(line)]
    return max(found, key=len) if found else None


@cache
def _taxonomy_merchants() -> tuple[Phrases, Phrases]:
    """The merchants of all categories but `Transfers`; and those of `Transfers`, which carry others: `UPI`, `ZELLE`."""
    shops, carriers = (
        [
            merchant.name
            for category in load_taxonomy().categories
            for group in category.groups
            for merchant in group.merchants
            if (category.name == "Transfers") == carries and len(merchant.name) > _SHORT
        ]
        for carries in (False, True)
    )
    return Phrases(shops), Phrases(carriers)


def _significant_words(text: str) -> tuple[str, ...]:
    """The words of a line without placeholders, codes, initials and the words that banks write around merchants.

    Where no other word is left, the service that moved the money: `zelle`.
    """
    words = vocabulary()
    tokens = [fold(token.group()) for token in _TOKEN.finditer(_PLACEHOLDER.sub(" ", text))]
    letters = [token for token in tokens if len(token) > 1 and not any(map(str.isdigit, token))]
    kept = [token for token in letters if token not in words.bank_words]
    _, carriers = _taxonomy_merchants()
    return tuple(kept or (_longest(carriers, text) or "").split() or letters)


def _without_frequent_ends(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The lines without last words that follow many merchants, then without first words that many follow."""
    distinct = set(lines)
    places = _frequent({(line[-1], line[-2]) for line in distinct if len(line) > 1})
    shorter = {line: _stripped(line, places, end=-1) for line in distinct}
    prefixes = _frequent({(line[0], line[1]) for line in shorter.values() if len(line) > 1})
    return [_stripped(shorter[line], prefixes, end=0) for line in lines]


def _frequent(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """First words of pairs that stand beside many others."""
    beside: dict[str, set[str]] = defaultdict(set)
    for word, neighbour in pairs:
        beside[word].add(neighbour)
    return {word for word, neighbours in beside.items() if len(neighbours) >= _MANY}


def _stripped(line: tuple[str, ...], words: set[str], *, end: int) -> tuple[str, ...]:
    while len(line) > 1 and line[end] in words:
        line = line[:-1] if end else line[1:]
    return line


def _grouped(keys: set[str]) -> dict[str, str]:
    """Each key's group: the shortest key that it begins with; blanks do not count (`bluebottle`, `blue bottle`)."""
    groups: dict[str, str] = {}
    by_letters: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: (len(key.split()), len(key), key)):
        words = key.split()
        heads = [" ".join(words[:count]) for count in range(1, len(words))]
        group = next((groups[head] for head in heads if head in groups and len(head) > 2), key)
        letters = "".join(filter(str.isalnum, key))
        groups[key] = by_letters.setdefault(letters, group) if letters else group
    return groups
