"""Unsupported answers: an answer that should come from its context, and has figures or names that are not in it.

    context  ... Google Cloud revenue was $33.1 billion ...
    answer   Google Cloud revenue was $26.3 billion in 2022.          26.3 and 2022 are not in the context

Only datasets whose answers come from their contexts are judged: at least nine of ten answers must be supported. Where
answers are computed, as in FinQA, a figure that is not in the context is the point of the question.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.rules.labels import OPEN

MIN_PROMPT_WORDS = 30
"""A shorter prompt holds no context."""
MIN_ROWS = 50
"""Rows of a dataset that tell whether its answers come from their contexts."""
MIN_SUPPORTED_SHARE = 0.9
MIN_NAMES = 2
"""A single name that is missing may be another word for one that is there."""
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*%?")
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)(?<![\w-])[A-Z][a-z]{2,}(?:[A-Z][a-z]+)?\b")
_ROUND = frozenset({"0", "100", "0%", "100%"})


def unsupported_answer(
    conversations: Sequence[Conversation], origins: Sequence[str], labels: Sequence[str], kept: Sequence[int]
) -> Findings:
    """Open answers with figures or names that are missing in their context.

    Only datasets whose contexts hold these as a rule are judged.
    """
    missing: dict[tuple[str, str], dict[int, list[str]]] = defaultdict(dict)
    for index in kept:
        conversation = conversations[index]
        if labels[index] == OPEN and conversation.prompt.count(" ") >= MIN_PROMPT_WORDS - 1:
            context = f"{conversation.system}\n{conversation.prompt}"
            missing[conversation.task_type, origins[index]][index] = missing_from(context, conversation.answer)
    findings: Findings = {}
    for rows in missing.values():
        broken = {index: words for index, words in rows.items() if words}
        if len(rows) >= MIN_ROWS and len(broken) <= (1 - MIN_SUPPORTED_SHARE) * len(rows):
            findings |= {index: f"the context does not hold {', '.join(words[:5])}" for index, words in broken.items()}
    return dict(sorted(findings.items()))


def missing_from(context: str, answer: str) -> list[str]:
    """The figures, and the names where there are several, that an answer has and its context has not.

    A percentage may be computed where the context has two figures or more, and so may 0 and 100.
    """
    given = {_plain(figure) for figure in _FIGURE.findall(context)}
    figures = [
        figure
        for figure in _FIGURE.findall(answer)
        if _plain(figure) not in given and figure not in _ROUND and not (figure.endswith("%") and len(given) >= 2)
    ]
    small = context.lower()
    names = list(dict.fromkeys(name for name in _NAME.findall(answer) if name.lower() not in small))
    return figures + (names if len(names) >= MIN_NAMES else [])


def _plain(figure: str) -> str:
    """A figure without thousands separators, closing zeros and percent sign: `1,250.50%` as `1250.5`."""
    plain = figure.rstrip("%").replace(",", "")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
