"""The prompts of a run, compared once: which are equal, which are near, which belong together.

Rules that look at pairs of rows and the validation split read their answers here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.rules.neighbours import Neighbours, Wording, connected, find_neighbours
from fintune_kit.data.rules.words import Words, squashed, words_of

CANDIDATE_SIMILARITY = 0.3
"""Below it the estimate of 126 numbers is noise for texts with one word in ten changed."""
GROUP_SIMILARITY = 0.5
"""Rows that share half of what is particular to them stay on one side of the validation split."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run's candidates, compared once: their words, their keys, their neighbours."""

    row_ids: dict[str, int]
    words: Words
    keys: list[int]
    neighbours: Neighbours
    wording: Wording

    def groups(self, candidates: Sequence[Candidate]) -> list[str]:
        """Of each candidate, the row id that names its group: rows of a conversation, with equal or similar prompts."""
        places = [self.row_ids[candidate.row_id] for candidate in candidates]
        similar = self.neighbours.similarity >= GROUP_SIMILARITY
        links = list(
            zip(self.neighbours.first[similar].tolist(), self.neighbours.second[similar].tolist(), strict=True)
        )
        links += _equal_neighbours(self.keys)
        conversations: dict[str, int] = {}
        for place, candidate in zip(places, candidates, strict=True):
            links.append((place, conversations.setdefault(candidate.conversation_id, place)))
        roots = connected(links, count=len(self.keys))
        names = list(self.row_ids)
        return [names[roots[place]] for place in places]


def compare_prompts(candidates: Sequence[Candidate]) -> Prompts:
    """Reads all prompts as words and finds their neighbours."""
    texts = [candidate.prompt for candidate in candidates]
    words = words_of(texts)
    neighbours, wording = find_neighbours(words, similarity=CANDIDATE_SIMILARITY)
    row_ids = {candidate.row_id: place for place, candidate in enumerate(candidates)}
    return Prompts(row_ids, words, _keys(texts, words), neighbours, wording)


def _keys(texts: Sequence[str], words: Words) -> list[int]:
    """Equal numbers for texts with the same words, or with the same letters and figures; 0 for those without any."""
    first: dict[int | str, int] = {}
    keys = []
    for number, both in enumerate(zip(words.keys().tolist(), squashed(texts), strict=True), start=1):
        present = [key for key in both if key]
        found = next((first[key] for key in present if key in first), number)
        for key in present:
            first.setdefault(key, found)
        keys.append(found if present else 0)
    return keys


def _equal_neighbours(keys: Sequence[int]) -> list[tuple[int, int]]:
    first: dict[int, int] = {}
    return [(place, first.setdefault(key, place)) for place, key in enumerate(keys) if key]
