"""Whether two prompts that look alike make one statement or two.

They make one where so few words differ that nothing else can be meant, and no word that differs makes it another one:

    ... profit rose to EUR 5.1 mn        ... profit rose to EUR 6.2 mn        another figure: two statements
    ... shares fell after the report     ... shares rose after the report     a contrast: two statements
    Nokia signed the contract ...        Ericsson signed the contract ...     another name: two statements
    ... price going up?                  ... price in the past?               both common wording: two questions
    Oil trades near a month's low        Oil trades close to a month's low    one statement
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rapidfuzz.distance import Editop, Levenshtein

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.rules.prompts import Prompts
from fintune_kit.data.rules.terms import CONTRASTS, FUNCTION_WORDS, NEGATIONS, NUMBERS
from fintune_kit.data.rules.words import Words, without_urls, written_words

OWN_WORDS = 5
WORDS = 8
"""A statement of fewer words of its own, or in all, is only compared as a whole: one word is too much of it."""
FEW = 4
"""Opposites and other names make another statement from one edit in so many on: in a long text one may be a slip."""
KNOWN = 3
"""A pair of words that stands so often is in use, and no slip."""
SHORT_ANSWER_WORDS = 6
"""Answers up to this length are the same or contradict each other; longer ones may be two good wordings."""


_WORD = re.compile(r"[^\W_]+")


def answer_words(candidate: Candidate) -> list[str]:
    """The words of the answer, or the answer where it has none."""
    return _WORD.findall(candidate.answer.lower()) or [candidate.answer.strip()]


def answers_agree(one: list[str], other: list[str]) -> bool:
    """Whether two answers are the same but for case and punctuation, or long and the same but for a word in twelve."""
    if one == other:
        return True
    if min(len(one), len(other)) <= SHORT_ANSWER_WORDS:
        return False
    allowed = math.ceil(max(len(one), len(other)) / 12)
    return bool(Levenshtein.distance(one, other, score_cutoff=allowed) <= allowed)


def changes_of(
    candidates: Sequence[Candidate], prompts: Prompts, answers: Sequence[list[str]], one: int, other: int
) -> list[tuple[str, str]] | None:
    """The words that differ between two prompts that make one statement (`''`: no word); None where they make two."""
    if candidates[one].system != candidates[other].system or not answers_agree(answers[one], answers[other]):
        return None
    words, own = prompts.words, int(min(prompts.wording.own_words[[one, other]]))
    texts = [words.of(place).tolist() for place in (one, other)]
    allowed = math.ceil(max(map(len, texts)) / 8)
    if own < 2 * OWN_WORDS and answers[one] != answers[other]:
        return None
    if min(map(len, texts)) < WORDS or Levenshtein.distance(*texts, score_cutoff=allowed) > allowed:
        return None
    edits = list(Levenshtein.editops(*texts))
    uses = [_uses(prompts, edit, one, other) for edit in edits]
    if not _leaves_enough(uses, own, common=prompts.wording.common):
        return None
    if not _spread(candidates[one].prompt, candidates[other].prompt, len(edits)):
        return None
    changes = [
        (texts[0][e.src_pos] if e.tag != "insert" else None, texts[1][e.dest_pos] if e.tag != "delete" else None)
        for e in edits
    ]
    spelled = [(_spelled(words, before), _spelled(words, after)) for before, after in changes]
    if _are_choices(uses, spelled, common=prompts.wording.common) or _rewords_a_passage(
        edits, spelled, candidates[one].prompt, candidates[other].prompt
    ):
        return None
    if len(answers[one]) > SHORT_ANSWER_WORDS and own < 2 * OWN_WORDS and not all(map(all, spelled)):
        return None  # a short question that is answered at length asks for something else with each word more
    if any(_is_other_figure(*change) for change in spelled) or _answered(spelled, answers[one], answers[other]):
        return None
    others = max(
        sum(_is_contrast(*change) for change in spelled),
        _other_names(words, changes),
        _other_capitals(candidates, edits, one, other),
    )
    return None if FEW * others >= max(1, len(edits)) else spelled


def _uses(prompts: Prompts, edit: Editop, one: int, other: int) -> tuple[int, int]:
    """How often all texts use what stands on each side of an edit, with the words around it."""
    counts, offsets = prompts.wording.pair_counts, prompts.words.offsets

    def rarest(place: int, position: int, *, present: bool) -> int:
        start, end = int(offsets[place]), int(offsets[place + 1])
        around = range(start + position - 1, start + position + (1 if present else 0))
        inside = [int(counts[pair]) for pair in around if start <= pair < end - 1]
        return min(inside, default=0 if present else prompts.wording.common)

    return (
        rarest(one, edit.src_pos, present=edit.tag != "insert"),
        rarest(other, edit.dest_pos, present=edit.tag != "delete"),
    )


def _leaves_enough(uses: Sequence[tuple[int, int]], own: int, *, common: int) -> bool:
    """Whether the edits leave enough of the statement's own words; an edit of a prompt's common wording takes none."""
    edits = sum(max(use) < common for use in uses)
    return edits == 0 or (own >= OWN_WORDS and 3 * edits <= own)


def _are_choices(uses: Sequence[tuple[int, int]], changes: Sequence[tuple[str, str]], *, common: int) -> bool:
    """Whether most edits stand between two things that are well known: common wording (one of a prompt's choices
    against another), or two unlike words that other texts use just so; what stands now and then where the wording
    stands a hundred times is a slip in it."""
    wording = [min(use) >= common for use in uses]
    in_use = [KNOWN <= min(use) <= max(use) < common and _unlike(*c) for use, c in zip(uses, changes, strict=True)]
    either = sum(one or other for one, other in zip(wording, in_use, strict=True))
    if len(changes) == 1 and set(changes[0]) & FUNCTION_WORDS:
        return False
    return bool(changes) and (2 * sum(wording) >= len(changes) or 2 * either > len(changes))


def _unlike(before: str, after: str) -> bool:
    """Whether two words of meaning differ from their beginning on (`says` and `said` do not)."""
    return bool(before and after) and not {before, after} & FUNCTION_WORDS and before[:2] != after[:2]


def _rewords_a_passage(edits: Sequence[Editop], changes: Sequence[tuple[str, str]], one: str, other: str) -> bool:
    """Whether two or more words in a row differ, unlike words among them (`Sintex Industries`, `the retail sector`);
    in a text with many edits, whether that happens more than now and then."""
    gaps = [_gaps(text) for text in (one, other)]
    passages = 0
    for (first, second), both in zip(pairwise(edits), pairwise(changes), strict=True):
        in_a_row = second.src_pos - first.src_pos <= 1 and second.dest_pos - first.dest_pos <= 1
        is_one_token = "" in (gaps[0][first.src_pos : second.src_pos] + gaps[1][first.dest_pos : second.dest_pos])
        passages += in_a_row and not is_one_token and any(_unlike(*change) for change in both)
    return passages > 0 and FEW * passages >= len(edits) - 1


def _gaps(text: str) -> list[str]:
    """What stands between each written word and the next: '' for nothing but punctuation (`text:Nokia`), else ' '."""
    return ["" if not re.search(r"\s", gap) else " " for gap in re.split("[A-Za-z0-9]+", without_urls(text))[1:]]


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
    return edits <= math.ceil(max(differing) / 8) or edits == 0


def _other_capitals(candidates: Sequence[Candidate], edits: Iterable[Editop], one: int, other: int) -> int:
    """How often a word with a capital stands for an unlike one with a capital: a name, or the subject of a headline."""
    before, after = (written_words(candidates[place].prompt) for place in (one, other))
    return sum(
        edit.tag == "replace"
        and before[edit.src_pos][0].isupper()
        and after[edit.dest_pos][0].isupper()
        and before[edit.src_pos][:2].lower() != after[edit.dest_pos][:2].lower()
        for edit in edits
    )


def _other_names(words: Words, changes: Sequence[tuple[int | None, int | None]]) -> int:
    """How many names of one prompt stand for names of the other."""
    before, after = (
        {code for change in changes if (code := change[side]) is not None and words.is_name[code]} for side in (0, 1)
    )
    return min(len(before - after), len(after - before))


def _is_other_figure(before: str, after: str) -> bool:
    """Whether a figure stands for another, or comes in or goes."""
    figures = [word in NUMBERS or any(character.isdigit() for character in word) for word in (before, after)]
    return all(figures) or (any(figures) and not (before and after))


def _is_contrast(before: str, after: str) -> bool:
    """Whether a change is one to the opposite, or brings in or takes away a negation."""
    return bool({before, after} & NEGATIONS) or any(before in words and after in words for words in CONTRASTS)
