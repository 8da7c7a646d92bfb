"""The prompts of a run, compared once: which are equal, which are near, which belong together.

The rules that look at pairs of rows and the validation split read their answers here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    keys: list[int]
    """Equal for prompts with the same words, or with the same letters and figures; 0 for those without any."""
    neighbours: Neighbours
    wording: Wording

    def groups(self, conversations: Sequence[Conversation], kept: Sequence[int]) -> list[str]:
        """For each kept index, the row id that names its group.

        A group holds the rows of one conversation, and rows with equal or similar prompts.
        """
        similar = self.neighbours.similarity >= GROUP_SIMILARITY
        pairs = list(
            zip(self.neighbours.first[similar].tolist(), self.neighbours.second[similar].tolist(), strict=True)
        )
        by_key: dict[int, int] = {}
        pairs += [(index, by_key.setdefault(key, index)) for index, key in enumerate(self.keys) if key]
        by_conversation: dict[str, int] = {}
        for index in kept:
            pairs.append((index, by_conversation.setdefault(conversations[index].conversation_id, index)))
        first = smallest_connected(pairs, count=len(self.keys))
        return [conversations[first[index]].row_id for index in kept]


def compare_prompts(conversations: Sequence[Conversation], kept: Sequence[int]) -> Prompts:
    """Divides the prompts of the kept conversations into words and finds their neighbours."""
    texts = [""] * len(conversations)
    for index in kept:
        texts[index] = conversations[index].prompt
    words = words_of(texts)
    neighbours, wording = find_neighbours(words, similarity=MIN_SIMILARITY)
    return Prompts(words, _keys(texts, words), neighbours, wording)


def _keys(texts: Sequence[str], words: Words) -> list[int]:
    first: dict[int | str, int] = {}
    keys = []
    for number, both in enumerate(zip(words.keys().tolist(), letters_only(texts), strict=True), start=1):
        present = [key for key in both if key]
        found = next((first[key] for key in present if key in first), number)
        for key in present:
            first.setdefault(key, found)
        keys.append(found if present else 0)
    return keys
