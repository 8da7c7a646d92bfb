"""How good a conversation is to learn from, so that of many of a kind the best are chosen.

The score is the mean of five parts between 0 and 1, each simple enough to check by eye:

    length     an open answer of 12 to 250 words is full; one of a word or two, or of a thousand, is not. Of a
               classification the text counts: 8 to 80 words say enough to judge by
    finance    how many terms of finance the row uses (see `finance`); 1 for classifications
    whole      an open answer ends as a sentence and begins with a capital letter, a figure or a list mark
    grounded   figures of an answer stand in the prompt, where the prompt holds figures; a computed one counts half
    clean      few links, mentions and hashtags, no shouting, no phrase said again and again
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.rules.finance import CLASSIFICATION_TASKS

PARTS = ("length", "finance", "whole", "grounded", "clean")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_NOISE = re.compile(r"https?://\S+|[@#]\w+|www\.\S+")
_SHOUT = re.compile(r"\b[A-Z]{5,}\b")
READ = 2_000
"""Characters of a prompt and of an answer that are looked at."""


def scores_of(candidates: Sequence[Candidate], finance_weights: Sequence[float]) -> list[float]:
    """The score of each candidate, rounded so that machines agree on it."""
    return [
        round(sum(score_parts(candidate, finance_weight=weight).values()) / len(PARTS), 6)
        for candidate, weight in zip(candidates, finance_weights, strict=True)
    ]


def score_parts(candidate: Candidate, *, finance_weight: float) -> dict[str, float]:
    """The five parts of one candidate's score."""
    prompt, answer = candidate.prompt[-READ:], candidate.answer[:READ]
    closed = candidate.task_type in CLASSIFICATION_TASKS
    words = prompt.count(" ") + 1 if closed else candidate.answer.count(" ") + 1
    return {
        "length": _within(words, 8, 80) if closed else _within(words, 12, 250),
        "finance": 1.0 if closed else min(1.0, finance_weight / 16),
        "whole": 1.0 if closed else _whole(candidate.answer),
        "grounded": _grounded(prompt, answer),
        "clean": _clean(prompt if closed else answer, words),
    }


def _within(words: int, low: int, high: int) -> float:
    return min(1.0, words / low, (high / words) ** 0.5)


def _whole(answer: str) -> float:
    text = answer.strip()
    return (text[0].isupper() + (not text[0].isalpha()) + text.endswith((".", "!", "?", ")", '"')) + 0.0) / 2


def _grounded(prompt: str, answer: str) -> float:
    asked, given = set(_FIGURE.findall(prompt)), set(_FIGURE.findall(answer))
    if not asked or not given:
        return 1.0
    return 0.5 + 0.5 * len(given & asked) / len(given)


def _clean(text: str, words: int) -> float:
    noise = len(_NOISE.findall(text)) + len(_SHOUT.findall(text))
    tokens = text.lower().split()
    pairs = list(pairwise(tokens))
    repeated = 1 - len(set(pairs)) / len(pairs) if len(pairs) >= 20 else 0.0
    return max(0.0, 1 - 2 * noise / max(8, words) - repeated)
