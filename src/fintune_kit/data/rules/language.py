"""Whether a text is English, told by its function words: rules that know only English words ask this first.

"The shares of the maker fell by a tenth"       the, of, the, by       English
"Der Gewinn steigt auf 5,1 Mio. Euro"           auf                    not English
"Nokia Q3 EPS 0.07"                             none                   unknown: its origin decides
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules.terms import ENGLISH, OTHER_LANGUAGES
from fintune_kit.data.rules.words import URL

_WORD = re.compile(r"[^\W\d_]+")
_LINK = re.compile(URL)
MAX_CHARACTERS = 2_000
"""Of a text, this many are looked at."""
MAX_PROMPTS = 500
"""Prompts of an origin that decide its language."""


def is_english(text: str) -> bool | None:
    """Whether a text is English; None where its words do not tell."""
    words = _WORD.findall(_LINK.sub(" ", text[:MAX_CHARACTERS]))
    if words and 2 * sum(word.isascii() for word in words) < len(words):
        return False
    english = sum(word.lower() in ENGLISH for word in words)
    other = sum(word in OTHER_LANGUAGES for word in words)  # in small letters: names of places begin with a capital
    return None if english == other else english > other


class Languages:
    """Which conversations are English. A prompt whose words do not tell is taken for the language of its origin.

    An origin is English unless more of its first prompts are in another language.
    """

    def __init__(self, conversations: Sequence[Conversation], origins: Sequence[str]) -> None:
        self._origins = origins
        self._first: dict[str, list[int]] = defaultdict(list)
        for index, origin in enumerate(origins):
            if len(self._first[origin]) < MAX_PROMPTS:
                self._first[origin].append(index)
        self._is_english = lru_cache(maxsize=1 << 16)(lambda index: is_english(conversations[index].prompt))
        self._origin_is_english = lru_cache(maxsize=None)(self._vote)

    def is_english(self, index: int) -> bool:
        """Whether the prompt at an index is English."""
        found = self._is_english(index)
        return self._origin_is_english(self._origins[index]) if found is None else found

    def _vote(self, origin: str) -> bool:
        votes = [found for index in self._first[origin] if (found := self._is_english(index)) is not None]
        return 2 * sum(votes) >= len(votes)
