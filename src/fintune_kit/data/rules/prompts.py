"""The prompts of a run, compared once: which are equal, which are near, which belong together.

The rules that look at pairs of rows and the validation split read their answers here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules.neighbours import Neighbours, Wording, find_neighbours, smallest_connected
from fintune_kit.data.rules.words import Words, letters_only, words_of

MIN_SIMILARITY = 0.3
"""Below it, an estimate from 126 numbers is noise for texts with one word in ten changed."""
GROUP_SIMILARITY = 0.5
"""Rows that share half of their own words stay on one side of the validation split."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run, each at the index of its conversation."""

    words: Words
    keys: NDArray[np.int64]
    """Equal for prompts with the same words, or with the same letters and figures; 0 for those without any."""
    neighbours: Neighbours
    wording: Wording

    def repeated(self, kept: Sequence[int]) -> NDArray[np.bool_]:
        """For each index, whether its key is the key of another kept prompt too."""
        own = self.keys[kept]
        counts = np.bincount(own, minlength=len(self.keys) + 1)
        return (counts[self.keys] > 1) & (self.keys > 0)

    def groups(self, conversations: Sequence[Conversation], kept: Sequence[int]) -> list[str]:
        """For each kept index, the row id that names its group.

        A group holds the rows of one conversation, and rows with equal or similar prompts.
        """
        similar = self.neighbours.similarity >= GROUP_SIMILARITY
        pairs = [np.column_stack([self.neighbours.first[similar], self.neighbours.second[similar]])]
        with_words = np.flatnonzero(self.keys)
        pairs.append(np.column_stack([with_words, self.keys[with_words] - 1]))
        ids = pa.array([conversations[index].conversation_id for index in kept], pa.large_string())
        codes = ids.dictionary_encode().indices.to_numpy()
        _, first_with = np.unique(codes, return_index=True)
        own = np.asarray(kept, np.int64)
        pairs.append(np.column_stack([own, own[first_with[codes]]]))
        first = smallest_connected(np.concatenate(pairs), count=len(self.keys))
        return [conversations[first[index]].row_id for index in kept]


def compare_prompts(conversations: Sequence[Conversation], kept: Sequence[int]) -> Prompts:
    """Divides the prompts of the kept conversations into words and finds their neighbours."""
    texts = [""] * len(conversations)
    for index in kept:
        texts[index] = conversations[index].prompt
    words = words_of(texts)
    neighbours, wording = find_neighbours(words, similarity=MIN_SIMILARITY)
    return Prompts(words, _keys(texts, words), neighbours, wording)


def _keys(texts: Sequence[str], words: Words) -> NDArray[np.int64]:
    """For each text, the number (from 1) of the first one with the same words or the same letters; 0 without any."""
    letters = letters_only(texts)
    by_letters = letters.dictionary_encode().unify_dictionaries().combine_chunks().indices.to_numpy()
    has_letters = pc.not_equal(letters, "").to_numpy(zero_copy_only=False)
    by_words = words.keys()
    pairs = [_with_first(by_words, by_words != 0), _with_first(by_letters, has_letters)]
    first = smallest_connected(np.concatenate(pairs), count=len(texts))
    return np.where((by_words != 0) | has_letters, np.asarray(first, np.int64) + 1, 0)


def _with_first(codes: NDArray[Any], is_present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of each index that has a code with the first index that has the same one."""
    own = np.flatnonzero(is_present)
    _, first, inverse = np.unique(codes[own], return_index=True, return_inverse=True)
    return np.column_stack([own, own[first[inverse]]])
