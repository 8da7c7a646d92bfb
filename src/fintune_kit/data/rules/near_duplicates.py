"""Near-duplicates: whether two prompts that look alike make one statement or two.

They make one statement where few words differ, and where no differing word changes the meaning:

    ... profit rose to EUR 5.1 mn        ... profit rose to EUR 6.2 mn        another figure: two statements
    ... shares fell after the report     ... shares rose after the report     a contrast: two statements
    Nokia signed the contract ...        Ericsson signed the contract ...     another name: two statements
    ... price going up?                  ... price in the past?               two common wordings: two questions
    Oil trades near a month's low        Oil trades close to a month's low    one statement
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rapidfuzz.distance import Editop, Levenshtein

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules.prompts import Prompts
from fintune_kit.data.rules.terms import CONTRASTS, FUNCTION_WORDS, NEGATIONS, NUMBERS
from fintune_kit.data.rules.words import without_urls, written_words

MIN_OWN_WORDS = 5
"""A statement with fewer words of its own is compared as a whole only: a single word is too large a part of it."""
MIN_WORDS = 8
"""The same for a statement with fewer words in all."""
EDITS_PER_CONTRAST = 4
"""Two prompts differ in meaning from one contrast or one other name in this many edits on. In a long text with many
edits, one may be a slip."""
MIN_USES = 3
"""A pair of words that occurs this often is in use, so it is not a slip."""
SHORT_ANSWER_WORDS = 6
"""Answers up to this length either are equal or contradict each other. Longer ones may be two good wordings."""
_WORD = re.compile(r"[^\W_]+")


def answer_words(conversation: Conversation) -> list[str]:
    """The words of the answer, or the answer itself where it has none."""
    return _WORD.findall(conversation.answer.lower()) or [conversation.answer.strip()]


def answers_agree(one: list[str], other: list[str]) -> bool:
    """Whether two answers have the same words, or are long and differ in at most one word of twelve."""
    if one == other:
        return True
    if min(len(one), len(other)) <= SHORT_ANSWER_WORDS:
        return False
    allowed = math.ceil(max(len(one), len(other)) / 12)
    return bool(Levenshtein.distance(one, other, score_cutoff=allowed) <= allowed)


@dataclass(frozen=True)
class PromptPair:
    """Two prompts, and the edits that make the second one of the first."""

    texts: tuple[str, str]
    answers: tuple[list[str], list[str]]
    own_words: int
    """The smaller number of words that are not common wording."""
    edits: list[Editop]
    changes: list[tuple[str, str]]
    """The word before and after each edit; an empty text stands for no word."""
    uses: list[tuple[int, int]]
    """How often all prompts use the words before and after each edit together with their neighbours."""
    common: int
    """From this many uses on, words are common wording."""
    names: tuple[set[str], set[str]]
    """The words of the changes that are rarely written in small letters."""

    def says_the_same(self) -> bool:
        """Whether the two prompts make one statement."""
        if not self._leaves_enough() or not self._is_sparse() or self._are_choices() or self._rewords_a_passage():
            return False
        if self._asks_for_more() or self._answered():
            return False
        if any(_is_other_figure(*change) for change in self.changes):
            return False
        contrasts = max(
            sum(_is_contrast(*change) for change in self.changes),
            min(len(self.names[0] - self.names[1]), len(self.names[1] - self.names[0])),
            self._other_capitals(),
        )
        return EDITS_PER_CONTRAST * contrasts < max(1, len(self.edits))

    def _leaves_enough(self) -> bool:
        """Whether enough of the statement's own words stay the same. An edit of common wording takes none of them."""
        edits = sum(max(use) < self.common for use in self.uses)
        return edits == 0 or (self.own_words >= MIN_OWN_WORDS and 3 * edits <= self.own_words)

    def _is_sparse(self) -> bool:
        """Whether the edits are few for their lines. Another question about the same report changes a whole line."""
        lines = [Counter(" ".join(_WORD.findall(line.lower())) for line in text.split("\n")) for text in self.texts]
        differing = [sum(len(line.split()) for line in (lines[a] - lines[1 - a]).elements()) for a in (0, 1)]
        return len(self.edits) <= math.ceil(max(differing) / 8) or not self.edits

    def _are_choices(self) -> bool:
        """Whether most edits replace one well-known wording by another: both are used by other prompts.

        Two common wordings are two choices of a prompt. Two unlike words that are both in use are two subjects. A rare
        variant of a common wording is a slip, and not a choice.
        """
        if not self.changes or (len(self.changes) == 1 and set(self.changes[0]) & FUNCTION_WORDS):
            return False
        wording = [min(use) >= self.common for use in self.uses]
        in_use = [
            MIN_USES <= min(use) <= max(use) < self.common and _unlike(*change)
            for use, change in zip(self.uses, self.changes, strict=True)
        ]
        either = sum(one or other for one, other in zip(wording, in_use, strict=True))
        return 2 * sum(wording) >= len(self.changes) or 2 * either > len(self.changes)

    def _rewords_a_passage(self) -> bool:
        """Whether two or more words in a row differ, with unlike words among them (`Sintex Industries`, `the sector`).

        In a text with many edits, this must happen more than now and then.
        """
        gaps = [_gaps(text) for text in self.texts]
        passages = 0
        for (first, second), both in zip(pairwise(self.edits), pairwise(self.changes), strict=True):
            in_a_row = second.src_pos - first.src_pos <= 1 and second.dest_pos - first.dest_pos <= 1
            between = gaps[0][first.src_pos : second.src_pos] + gaps[1][first.dest_pos : second.dest_pos]
            passages += in_a_row and "" not in between and any(_unlike(*change) for change in both)
        return passages > 0 and EDITS_PER_CONTRAST * passages >= len(self.edits) - 1

    def _asks_for_more(self) -> bool:
        """Whether a word comes in or goes out of a short question with a long answer: then it asks something else."""
        short_question = len(self.answers[0]) > SHORT_ANSWER_WORDS and self.own_words < 2 * MIN_OWN_WORDS
        return short_question and not all(map(all, self.changes))

    def _answered(self) -> bool:
        """Whether the answers differ in a word that differs between the prompts: then these ask different things."""
        changed = {word for change in self.changes for word in change if word}
        return bool(changed & (set(self.answers[0]) ^ set(self.answers[1])))

    def _other_capitals(self) -> int:
        """How many words with a capital replace an unlike one with a capital: names, or the subjects of headlines."""
        before, after = (written_words(text) for text in self.texts)
        return sum(
            edit.tag == "replace"
            and before[edit.src_pos][0].isupper()
            and after[edit.dest_pos][0].isupper()
            and before[edit.src_pos][:2].lower() != after[edit.dest_pos][:2].lower()
            for edit in self.edits
        )


def changes_of(
    conversations: Sequence[Conversation],
    prompts: Prompts,
    one: int,
    other: int,
) -> list[tuple[str, str]] | None:
    """The words that differ between two prompts with one statement; None if the prompts make two statements.

    Args:
        one, other: indices of two conversations.
    """
    pair = _compare(conversations, prompts, one, other)
    return pair.changes if pair and pair.says_the_same() else None


def _compare(
    conversations: Sequence[Conversation],
    prompts: Prompts,
    one: int,
    other: int,
) -> PromptPair | None:
    """The pair; None where the answers disagree, the system prompts differ or too many words do."""
    if conversations[one].system != conversations[other].system:
        return None
    answers = (answer_words(conversations[one]), answer_words(conversations[other]))
    if not answers_agree(*answers):
        return None
    words, own = prompts.words, int(min(prompts.wording.own_words[[one, other]]))
    if own < 2 * MIN_OWN_WORDS and answers[0] != answers[1]:
        return None
    codes = [words.of(index).tolist() for index in (one, other)]
    allowed = math.ceil(max(map(len, codes)) / 8)
    if min(map(len, codes)) < MIN_WORDS or Levenshtein.distance(*codes, score_cutoff=allowed) > allowed:
        return None
    edits = list(Levenshtein.editops(*codes))
    before = [codes[0][edit.src_pos] if edit.tag != "insert" else None for edit in edits]
    after = [codes[1][edit.dest_pos] if edit.tag != "delete" else None for edit in edits]
    spelled = [["" if code is None else words.word(code) for code in side] for side in (before, after)]
    names = [{words.word(c) for c in side if c is not None and words.is_name[c]} for side in (before, after)]
    return PromptPair(
        texts=(conversations[one].prompt, conversations[other].prompt),
        answers=answers,
        own_words=own,
        edits=edits,
        changes=list(zip(*spelled, strict=True)),
        uses=[_uses(prompts, edit, one, other) for edit in edits],
        common=prompts.wording.common,
        names=(names[0], names[1]),
    )


def _uses(prompts: Prompts, edit: Editop, one: int, other: int) -> tuple[int, int]:
    """How often all prompts use the words on each side of an edit, together with the words around them."""
    counts, offsets = prompts.wording.pair_counts, prompts.words.offsets

    def rarest(index: int, word: int, *, present: bool) -> int:
        """The smallest count of the word pairs around a word, or around the gap before it."""
        start, end = int(offsets[index]), int(offsets[index + 1])
        around = range(start + word - 1, start + word + (1 if present else 0))
        inside = [int(counts[pair]) for pair in around if start <= pair < end - 1]
        return min(inside, default=0 if present else prompts.wording.common)

    return (
        rarest(one, edit.src_pos, present=edit.tag != "insert"),
        rarest(other, edit.dest_pos, present=edit.tag != "delete"),
    )


def _unlike(before: str, after: str) -> bool:
    """Whether two words, neither a function word, begin differently (`says` and `said` do not)."""
    return bool(before and after) and not {before, after} & FUNCTION_WORDS and before[:2] != after[:2]


def _gaps(text: str) -> list[str]:
    """For each gap between two words: '' where only punctuation stands in it (`text:Nokia`), else ' '."""
    return ["" if not re.search(r"\s", gap) else " " for gap in re.split("[A-Za-z0-9]+", without_urls(text))[1:]]


def _is_other_figure(before: str, after: str) -> bool:
    """Whether a figure replaces another one, comes in or goes."""
    figures = [word in NUMBERS or any(character.isdigit() for character in word) for word in (before, after)]
    return all(figures) or (any(figures) and not (before and after))


def _is_contrast(before: str, after: str) -> bool:
    """Whether a word is replaced by its opposite, or a negation comes in or goes."""
    return bool({before, after} & NEGATIONS) or any(before in words and after in words for words in CONTRASTS)
