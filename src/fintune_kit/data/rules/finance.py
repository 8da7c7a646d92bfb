"""Whether a row is about finance: money, markets, companies' accounts, banking, tax, insurance, the economy.

Relevance is first of all a property of a dataset. So the rule judges only rows of upstream datasets that are known to
be mixed, and all rows where the user asks for it. It never judges closed questions, or text that is not English.

A row is weighed by the distinct terms that it uses (see `terms`). In the prompt a strong one counts 4 (`dividend`) and
a weak one 1 (`price`: it may be figurative), in the answer 1.5 and 0.25. The terms were set on 450 rows of the
stand-in's mixed origins. `benchmarks/data.py --only relevance` measures precision and recall on 600 others.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.rules.labels import OPEN
from fintune_kit.data.rules.language import Languages
from fintune_kit.data.rules.terms import BETWEEN, PHRASES, STRONG, WEAK

RELEVANT = 4.0
"""The weight of one strong term in the prompt, or of four weak ones."""
MIXED_ORIGINS = ("alpaca", "general-instructions")
"""Parts of the names of upstream datasets that hold general questions too: gbharti/finance-alpaca is mostly Alpaca."""
MAX_CHARACTERS = 3_000
"""Of a prompt and of an answer, this many are weighed: the beginning of a text shows its subject."""

_UNCHANGED = frozenset({"basis", "gross", "series", "always", "dow", "analysis", "various"})
"""Words that end as a plural does."""
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def is_mixed(origin: str, source: str) -> bool:
    """Whether an upstream dataset is known to hold general questions too. The name of the user's file tells nothing."""
    return origin != source and any(part in origin.lower() for part in MIXED_ORIGINS)


def not_finance(
    conversations: Sequence[Conversation],
    origins: Sequence[str],
    labels: Sequence[str],
    kept: Sequence[int],
    languages: Languages,
    *,
    every_origin: bool,
) -> Findings:
    """Open questions in English that are not about finance.

    Args:
        every_origin: judges the rows of all datasets, and not only of those that are known to be mixed.
    """
    findings = {}
    for index in kept:
        conversation = conversations[index]
        if labels[index] != OPEN or not (every_origin or is_mixed(origins[index], conversation.source)):
            continue
        weight, terms = finance_weight(conversation.prompt, conversation.answer)
        if weight < RELEVANT and languages.is_english(index):
            found = f"only {', '.join(terms[:5])}" if terms else "no term of finance"
            findings[index] = f"weight {weight:g}, expected {RELEVANT:g}: {found}"
    return findings


def finance_weight(prompt: str, answer: str) -> tuple[float, list[str]]:
    """The weight of a row's terms, and the terms.

    Long texts use weak terms by chance. These count for less, the more words a text has beyond a hundred.
    """
    weight, terms = 0.0, []
    for text, strong_weight, weak_weight in ((prompt, 4.0, 1.0), (answer, 1.5, 0.25)):
        words = _WORD.findall(text[:MAX_CHARACTERS].lower())
        stems = [_singular(word) for word in words]
        strong = set(STRONG.intersection(stems) | STRONG.intersection(words))
        weak = WEAK.intersection(stems) - strong
        strong |= {" ".join(pair) for pair in PHRASES.intersection(pairwise(s for s in stems if s not in BETWEEN))}
        dilution = max(1.0, len(words) / 100)
        weight += strong_weight * len(strong) / dilution**0.25 + weak_weight * len(weak) / dilution
        terms += sorted(strong) + sorted(weak)
    return round(weight, 2), list(dict.fromkeys(terms))


@lru_cache(maxsize=1 << 16)
def _singular(word: str) -> str:
    word = word.removesuffix("'s")
    if word in _UNCHANGED:
        return word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
