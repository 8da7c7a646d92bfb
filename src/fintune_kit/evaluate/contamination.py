"""Which questions the adapter has seen: each one is looked up in the training conversations, not assumed clean.

Texts are compared as lower-case `[a-z0-9]+` words with links removed, so that mojibake and a new t.co link hide
nothing. A question is contaminated where four fifths of its runs of eight words stand in some training conversation
(of a text shorter than that: where all of it does).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RUN = 8
SHARE = 0.8
SHORTEST = 3
"""Words; anything below is in every corpus."""
_LINK = re.compile(r"https?://\S+|www\.\S+|\bt\.co/\S+", re.IGNORECASE)
_WORD = re.compile(r"[a-z0-9]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """The words that count."""
    return _WORD.findall(_LINK.sub(" ", text.lower()))


@dataclass(frozen=True)
class TrainingText:
    """All words of the training conversations, a conversation after the other.

    `words` int64 [n] are numbers of `vocabulary`; `-1` stands between conversations.
    """

    words: NDArray[np.int64]
    vocabulary: dict[str, int]

    @classmethod
    def of(cls, conversations: Iterable[Sequence[str]]) -> "TrainingText":
        """
        Args:
            conversations: the contents of each conversation's messages.
        """
        vocabulary: dict[str, int] = {}
        numbers: list[int] = []
        for contents in conversations:
            for content in contents:
                numbers += [vocabulary.setdefault(word, len(vocabulary)) for word in words_of(content)]
            numbers.append(-1)
        return cls(np.array(numbers, np.int64), vocabulary)

    def runs(self, length: int) -> Hashes:
        """Sorted distinct hashes of all runs of `length` words within a conversation."""
        return np.unique(_runs(self.words, length))


def contaminated(texts: Sequence[str], training: TrainingText) -> list[bool]:
    """Of each text, whether training has shown it."""
    numbered = [_numbers(text, training.vocabulary) for text in texts]
    lengths = {min(RUN, len(words)) for words in numbered if len(words) >= SHORTEST}
    seen = {length: training.runs(length) for length in lengths}
    found = []
    for words in numbered:
        if len(words) < SHORTEST:
            found.append(False)
            continue
        length = min(RUN, len(words))
        own, known = _runs(words, length), seen[length]
        places = np.searchsorted(known, own)
        hits = (places < len(known)) & (known[np.minimum(places, len(known) - 1)] == own) if len(known) else own < 0
        found.append(bool(np.mean(hits) >= SHARE))
    return found


def _numbers(text: str, vocabulary: dict[str, int]) -> NDArray[np.int64]:
    return np.array([vocabulary.get(word, -2) for word in words_of(text)], np.int64)


def _runs(words: NDArray[np.int64], length: int) -> Hashes:
    """Polynomial hashes of all runs of `length` words. One over a gap (-1) equals no question's: these have none, and
    their unknown words are -2."""
    count = len(words) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    values = (words + 3).astype(np.uint64)
    hashes = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(length):
            hashes = hashes * _FACTOR + values[offset : offset + count] * (values[offset : offset + count] + _FACTOR)
    return hashes
