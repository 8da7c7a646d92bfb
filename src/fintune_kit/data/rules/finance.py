"""Whether a row is about finance: money, markets, companies' accounts, banking, tax, insurance, the economy.

Most of Sujet's open questions are general Alpaca rows ("Write a haiku about autumn"). A row is weighed by the distinct
terms that it uses (see `terms`): a strong one counts 2 (`dividend`), a weak one 1 (`price`: it may be figurative), and
a term in the prompt counts twice one in the answer. Terms and `RELEVANT` were set on every other row of
`tests/data/finance_relevance.csv`, 342 rows of our own writing; precision and recall on the rows between are measured
by `benchmarks/data.py --only relevance`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.rules.terms import PHRASES, STRONG, WEAK

RELEVANT = 4.0
"""The weight of one strong term in the prompt, or of two weak ones, or of twice as many in the answer."""

READ = 3_000
"""Characters of a prompt and of an answer that are weighed: what a text is about shows in its beginning."""

CLASSIFICATION_TASKS = frozenset(
    {"sentiment_analysis", "ner_sentiment_analysis", "topic_classification", "yes_no_question", "classification"}
)
"""Their prompts are financial texts by the task's definition; a headline need not use a term to be one."""

_MONEY = re.compile(
    r"[$€£¥₹]\s?\d|\d\s?(?:dollars?|euros?|pounds|cents|usd|eur|gbp|rupees|yen)\b|\$[A-Za-z]{1,5}\b", re.I
)
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def finance_weights(candidates: Sequence[Candidate]) -> list[float]:
    """The weight of each candidate; classifications, which need none, have `RELEVANT`."""
    return [
        RELEVANT
        if candidate.task_type in CLASSIFICATION_TASKS
        else finance_weight(candidate.prompt, candidate.answer)[0]
        for candidate in candidates
    ]


def not_finance(candidates: Sequence[Candidate], weights: Sequence[float]) -> dict[int, str]:
    """Positions of open questions that are not about finance."""
    findings = {}
    for position, weight in enumerate(weights):
        if weight < RELEVANT:
            _, terms = finance_weight(candidates[position].prompt, candidates[position].answer)
            found = f"only {', '.join(terms[:5])}" if terms else "no term of finance"
            findings[position] = f"weight {weight:g}, expected {RELEVANT:g}: {found}"
    return findings


def finance_weight(prompt: str, answer: str) -> tuple[float, list[str]]:
    """The weight of a row's terms, and the terms.

    Long texts use weak terms by chance, so these count for less the more words there are beyond a hundred.
    """
    weight, terms = 0.0, []
    for text, factor in ((prompt, 2.0), (answer, 1.0)):
        words = _WORD.findall(text[:READ].lower())
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
