"""Rows that say what another row already says, and rows that contradict each other.

Two prompts of the same task are near-duplicates where their words are the same (URL, case, punctuation and encoding
aside), or where so few words differ that they are one statement, and no word that differs makes it another one:

    ... profit rose to EUR 5.1 mn        ... profit rose to EUR 6.2 mn        another figure: two statements
    ... shares fell after the report     ... shares rose after the report     a contrast: two statements
    Nokia signed the contract ...        Ericsson signed the contract ...     another name: two statements
    ... price going up?                  ... price in the past?               both common wording: two questions
    Oil trades near a month's low        Oil trades close to a month's low    one statement

Their answers must agree as well. Prompts that are equal with short answers that differ contradict each other.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Editop, Levenshtein

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.neighbours import Neighbours, Wording, connected, find_neighbours
from fintune_kit.data.terms import CONTRASTS, NEGATIONS, NUMBERS
from fintune_kit.data.words import Words, words_of

CANDIDATE_SIMILARITY = 0.35
"""Below it the estimate of 128 numbers is noise for texts with one word in ten changed."""
GROUP_SIMILARITY = 0.5
"""Rows that share half of what is particular to them stay on one side of the validation split."""
OWN_WORDS = 6
"""A statement of fewer words of its own is only compared as a whole: one word is too much of it."""
SHORT_ANSWER_WORDS = 6
"""Answers up to this length are the same or contradict each other; longer ones may be two good wordings."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run's candidates, compared once: their words, their keys, their neighbours."""

    row_ids: dict[str, int]
    words: Words
    keys: list[int]
    neighbours: Neighbours
    wording: Wording

    def groups(self, candidates: Sequence[Candidate]) -> list[int]:
        """Of each candidate, the number of its group: rows of a conversation, with equal or with similar prompts."""
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
        return [roots[place] for place in places]


def compare_prompts(candidates: Sequence[Candidate]) -> Prompts:
    """Reads all prompts as words and finds their neighbours."""
    words = words_of([candidate.prompt for candidate in candidates])
    neighbours, wording = find_neighbours(words, similarity=CANDIDATE_SIMILARITY)
    row_ids = {candidate.row_id: place for place, candidate in enumerate(candidates)}
    return Prompts(row_ids, words, words.keys().tolist(), neighbours, wording)


def near_duplicate(candidates: Sequence[Candidate], prompts: Prompts) -> dict[int, str]:
    """Positions of rows that say what an earlier row says, which stays."""
    answers = [_answer_words(candidate) for candidate in candidates]
    keeper: dict[int, int] = {}
    findings: dict[int, str] = {}
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    partners = _partners(prompts)
    for place, candidate in enumerate(candidates):
        same_prompt = seen[candidate.system, prompts.keys[place]] if prompts.keys[place] else []
        equal = next((other for other in same_prompt if _answers_agree(answers[other], answers[place])), None)
        if equal is not None:
            keeper[place] = equal
            findings[place] = f"the same words as {candidates[equal].row_id}"
            continue
        for partner in dict.fromkeys(keeper.get(other, other) for other in partners[place]):
            changes = _changes(candidates, prompts, answers, partner, place)
            if changes is not None:
                keeper[place] = partner
                findings[place] = f"{candidates[partner].row_id} but for {_in_words(changes)}"
                break
        else:
            same_prompt.append(place)
    return findings


def conflicting_answers(candidates: Sequence[Candidate], prompts: Prompts) -> dict[int, str]:
    """Positions of rows whose prompt another row answers with another label, figure or few words: none is trusted."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for position, candidate in enumerate(candidates):
        key = prompts.keys[prompts.row_ids[candidate.row_id]]
        if key:
            groups[candidate.system, key].append(position)
    findings = {}
    for positions in groups.values():
        short = [p for p in positions if len(_answer_words(candidates[p])) <= SHORT_ANSWER_WORDS]
        for position in short if len(short) > 1 else []:
            other = next(p for p in short if p != position)
            mine, theirs = (candidates[p].answer.strip()[:40] for p in (position, other))
            findings[position] = f"answers {mine!r} where {candidates[other].row_id} answers {theirs!r}"
    return findings


def _equal_neighbours(keys: Sequence[int]) -> list[tuple[int, int]]:
    first: dict[int, int] = {}
    return [(place, first.setdefault(key, place)) for place, key in enumerate(keys) if key]


def _partners(prompts: Prompts) -> dict[int, list[int]]:
    partners: dict[int, list[int]] = defaultdict(list)
    for first, second in zip(prompts.neighbours.first.tolist(), prompts.neighbours.second.tolist(), strict=True):
        partners[second].append(first)
    return partners


_WORD = re.compile(r"[^\W_]+")


def _answer_words(candidate: Candidate) -> list[str]:
    return _WORD.findall(candidate.answer.lower()) or [candidate.answer.strip()]


def _answers_agree(one: list[str], other: list[str]) -> bool:
    """Whether two answers are the same but for case and punctuation, or long and the same but for a word in twelve."""
    if one == other:
        return True
    if min(len(one), len(other)) <= SHORT_ANSWER_WORDS:
        return False
    allowed = math.ceil(max(len(one), len(other)) / 12)
    return bool(Levenshtein.distance(one, other, score_cutoff=allowed) <= allowed)


def _changes(
    candidates: Sequence[Candidate], prompts: Prompts, answers: Sequence[list[str]], one: int, other: int
) -> list[tuple[str, str]] | None:
    """The words that differ between two prompts that make one statement (`''`: no word); None where they make two."""
    if candidates[one].system != candidates[other].system or not _answers_agree(answers[one], answers[other]):
        return None
    words, own = prompts.words, min(prompts.wording.own_words[[one, other]])
    texts = [words.codes[words.offsets[place] : words.offsets[place + 1]].tolist() for place in (one, other)]
    allowed = math.ceil(min(map(len, texts)) / 10)
    if own < 2 * OWN_WORDS and answers[one] != answers[other]:
        return None
    if own < OWN_WORDS or Levenshtein.distance(*texts, score_cutoff=allowed) > allowed:
        return None
    edits = Levenshtein.editops(*texts)
    if 3 * len(edits) > own or not _spread(candidates[one].prompt, candidates[other].prompt, len(edits)):
        return None
    changes = []
    for edit in edits:
        before = texts[0][edit.src_pos] if edit.tag != "insert" else None
        after = texts[1][edit.dest_pos] if edit.tag != "delete" else None
        if _both_wording(prompts, edit, one, other):
            return None
        changes.append((before, after))
    if _other_names(words, changes):
        return None
    spelled = [(_spelled(words, before), _spelled(words, after)) for before, after in changes]
    if any(_is_contrast(*change) for change in spelled) or _answered(spelled, answers[one], answers[other]):
        return None
    return spelled


def _spelled(words: Words, code: int | None) -> str:
    return "" if code is None else words.vocabulary[code]


def _answered(changes: Sequence[tuple[str, str]], one: list[str], other: list[str]) -> bool:
    """Whether the answers take up what differs: then the prompts ask for different things."""
    changed = {word for change in changes for word in change if word}
    return bool(changed & (set(one) ^ set(other)))


def _spread(one: str, other: str, edits: int) -> bool:
    """Whether the edits are few for the lines that they stand in: another question on one report is not."""
    lines = [Counter(" ".join(_WORD.findall(line.lower())) for line in text.split("\n")) for text in (one, other)]
    differing = [sum(len(line.split()) for line in (lines[a] - lines[1 - a]).elements()) for a in (0, 1)]
    return edits <= math.ceil(max(differing) / 10) or edits == 0


def _both_wording(prompts: Prompts, edit: Editop, one: int, other: int) -> bool:
    """Whether what differs is common wording on both sides: one of a prompt's choices against another."""
    common, offsets = prompts.wording.pair_is_common, prompts.words.offsets

    def is_common(place: int, position: int, *, present: bool) -> bool:
        start, end = int(offsets[place]), int(offsets[place + 1])
        around = range(start + position - 1, start + position + (1 if present else 0))
        inside = [pair for pair in around if start <= pair < end - 1]
        return bool(inside) and all(common[pair] for pair in inside)

    return is_common(one, edit.src_pos, present=edit.tag != "insert") and is_common(
        other, edit.dest_pos, present=edit.tag != "delete"
    )


def _other_names(words: Words, changes: Sequence[tuple[int | None, int | None]]) -> bool:
    """Whether one prompt names what the other does not, and the other way round."""
    before, after = (
        {code for change in changes if (code := change[side]) is not None and words.is_name[code]} for side in (0, 1)
    )
    return bool(before - after) and bool(after - before)


def _is_contrast(before: str, after: str) -> bool:
    """Whether a change makes another statement: another figure, an opposite, a negation."""
    figures = [word in NUMBERS or any(character.isdigit() for character in word) for word in (before, after)]
    if all(figures) or (any(figures) and not (before and after)):
        return True
    if {before, after} & NEGATIONS:
        return True
    return any(before in words and after in words for words in CONTRASTS)


def _in_words(changes: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{before or '(nothing)'} for {after or '(nothing)'}" for before, after in changes[:3])
    return f"{shown} and {len(changes) - 3} more" if len(changes) > 3 else shown or "punctuation"
