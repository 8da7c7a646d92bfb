"""How good a conversation is to learn from, so that the best of many of one kind can be chosen.

The score is the mean of five parts between 0 and 1, each simple enough to check by eye:

    length     an open answer of 12 to 250 words counts in full; one of a word or two, or of a thousand, does not. An
               answer that is a figure or stands in its prompt counts in full. For a closed question the prompt counts:
               8 to 80 words are enough to judge by
    finance    how many terms of finance the row uses (see `finance`); 1 for closed questions
    whole      an open answer ends as a sentence, and begins with a capital letter, a figure or a list mark
    grounded   the figures of an answer are in the prompt, where the prompt has figures; a computed one counts half
    clean      few links, mentions and hashtags, few words in capitals, no phrase repeated many times
"""

import re
from itertools import pairwise

from fintune_kit.conversations import Conversation

PARTS = ("length", "finance", "whole", "grounded", "clean")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_BARE_FIGURE = re.compile(
    r"[-(]?[$€£¥₹]?\s?-?\d[\d.,]*\)?\s?%?(?: (?:thousand|million|billion|trillion|percent|years?|days?))?\.?"
)
_NOISE = re.compile(r"https?://\S+|[@#]\w+|www\.\S+")
_SHOUT = re.compile(r"\b[A-Z]{5,}\b")
MAX_CHARACTERS = 2_000
"""Of a prompt and of an answer, this many are looked at."""


def score(conversation: Conversation, *, is_open: bool, finance_weight: float) -> float:
    """The score of a conversation, rounded so that all machines agree on it."""
    parts = score_parts(conversation, is_open=is_open, finance_weight=finance_weight)
    return round(sum(parts.values()) / len(PARTS), 6)


def score_parts(conversation: Conversation, *, is_open: bool, finance_weight: float) -> dict[str, float]:
    """The five parts of a conversation's score."""
    prompt, answer = conversation.prompt[-MAX_CHARACTERS:], conversation.answer[:MAX_CHARACTERS]
    words = conversation.answer.count(" ") + 1 if is_open else prompt.count(" ") + 1
    return {
        "length": _length(conversation, words) if is_open else _within(words, 8, 80),
        "finance": min(1.0, finance_weight / 16) if is_open else 1.0,
        "whole": _whole(conversation.answer) if is_open and not _is_taken(conversation) else 1.0,
        "grounded": _grounded(prompt, answer),
        "clean": _clean(answer if is_open else prompt, words),
    }


def _length(conversation: Conversation, words: int) -> float:
    return 1.0 if _is_taken(conversation) else _within(words, 12, 250)


def _is_taken(conversation: Conversation) -> bool:
    """Whether an answer is a figure, or stands in its prompt: how long it is says nothing about it."""
    answer = conversation.answer.strip()
    return _BARE_FIGURE.fullmatch(answer) is not None or answer.rstrip(".").lower() in conversation.prompt.lower()


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
