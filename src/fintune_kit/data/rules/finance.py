"""Whether a row is about finance: money, markets, companies' accounts, banking, tax, insurance, the economy.

Most of Sujet's open questions are general Alpaca rows ("Write a haiku about autumn"). A row is weighed by the distinct
terms that it uses (see `terms`). A strong one counts 2 (`dividend`), a weak one 1 (`price`: it may be figurative). A
term in the prompt counts twice as much as one in the answer. The terms and `RELEVANT` were set on every other row of
`tests/data/rules/finance_relevance.csv`, 342 rows of our own writing. `benchmarks/data.py --only relevance` measures
precision and recall on the rows between.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.rules.labels import OPEN
from fintune_kit.data.rules.terms import PHRASES, STRONG, WEAK

RELEVANT = 4.0
"""The weight of one strong term in the prompt, of two weak ones there, or of twice as many in the answer."""
MAX_CHARACTERS = 3_000
"""Of a prompt and of an answer, this many are weighed: the beginning of a text shows its subject."""

_MONEY = re.compile(
    r"[$€£¥₹]\s?\d|\d\s?(?:dollars?|euros?|pounds|cents|usd|eur|gbp|rupees|yen)\b|\$[A-Za-z]{1,5}\b", re.I
)
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def finance_weights(conversations: Sequence[Conversation], labels: Sequence[str], kept: Sequence[int]) -> list[float]:
    """The weight of each conversation. Closed questions need no terms and have the weight `RELEVANT`, as have rows that
    are not kept.
    """
    weights = [RELEVANT] * len(conversations)
    for index in kept:
        if labels[index] == OPEN:
            weights[index] = finance_weight(conversations[index].prompt, conversations[index].answer)[0]
    return weights


def not_finance(conversations: Sequence[Conversation], kept: Sequence[int], weights: Sequence[float]) -> Findings:
    """Open questions that are not about finance."""
    findings = {}
    for index in kept:
        if weights[index] < RELEVANT:
            _, terms = finance_weight(conversations[index].prompt, conversations[index].answer)
            found = f"only {', '.join(terms[:5])}" if terms else "no term of finance"
            findings[index] = f"weight {weights[index]:g}, expected {RELEVANT:g}: {found}"
    return findings


def finance_weight(prompt: str, answer: str) -> tuple[float, list[str]]:
    """The weight of a row's terms, and the terms.

    Long texts use weak terms by chance. These count for less, the more words a text has beyond a hundred.
    """
    weight, terms = 0.0, []
    for text, factor in ((prompt, 2.0), (answer, 1.0)):
        words = _WORD.findall(text[:MAX_CHARACTERS].lower())
        stems = [_singular(word) for word in words]
        strong = set(STRONG.intersection(stems) | STRONG.intersection(words))
        weak = WEAK.intersection(stems) - strong
        strong |= {" ".join(pair) for pair in PHRASES.intersection(pairwise(stems))}
        if _MONEY.search(text):
            strong.add("an amount of money")
        dilution = max(1.0, len(words) / 100)
        weight += factor * (2 * len(strong) / dilution**0.5 + len(weak) / dilution)
        terms += sorted(strong) + sorted(weak)
    return round(weight, 2), list(dict.fromkeys(terms))


@lru_cache(maxsize=1 << 16)
def _singular(word: str) -> str:
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
