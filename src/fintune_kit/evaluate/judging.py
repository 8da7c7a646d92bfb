"""Judging generated text: a value from 0 to 1, whether the answer is right, and whether it could be read at all.

    exact        the same label, in any case
    exact_match  the same characters, as FLARE scores FinQA and ConvFinQA
    numeric      the same number if the whole target is one number; else as `spans`
    spans        lists as sets of spans: exact match and F1, as TAT-QA's own scorer
    token_f1     words, as SQuAD
    rouge_l      longest common subsequence, as Google's rouge_score
    json         the share of right fields of a JSON object
    entities, mentions, tokens    entity F1 (see `entities`)
    categories   the share of right categories in a batch of transactions

An answer that the metric cannot read is wrong, and is counted as unreadable. FinGPT reads such an answer as "neutral",
which rewards silence.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import numpy as np
from scipy.optimize import linear_sum_assignment

from fintune_kit.bank.conversations import parse_batch_answer
from fintune_kit.conversations import fold_label
from fintune_kit.evaluate import entities
from fintune_kit.evaluate.generation import GeneratedText
from fintune_kit.evaluate.numbers import Number, same_number, scale_at_end, stated_number, whole_number
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.tasks import Metric, Task

ENTITY_FORMS: dict[Metric, entities.Form] = {"entities": "pairs", "mentions": "mentions", "tokens": "tokens"}
_BETWEEN_SPANS = re.compile(r";\s*|\n+|,\s+(?:and\s+)?|\s+and\s+(?=[$€£]?\d)")
_OUTER = string.punctuation.replace("-", "").replace("$", "").replace("%", "")
_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Verdict:
    """The judgement of one answer."""

    value: float
    right: bool
    readable: bool = True


def judge(task: Task, generated: Sequence[GeneratedText]) -> list[Answer]:
    """The answers to a task, judged by its metric."""
    metric = _METRICS[task.metric]
    answers = []
    for question, given in zip(task.questions, generated, strict=True):
        verdict = metric(given.text, question.target) if given.text else Verdict(0.0, False, readable=False)
        answers.append(
            Answer(
                text=given.text,
                right=verdict.right,
                value=verdict.value,
                unreadable=not verdict.readable,
                unfinished=not given.finished,
            )
        )
    return answers


def exact(given: str, target: str) -> Verdict:
    """The same label, apart from case, outer blanks and a final full stop."""
    same = fold_label(given) == fold_label(target)
    return Verdict(float(same), same)


def exact_match(given: str, target: str) -> Verdict:
    """The same characters, apart from outer blanks. It is the published rule of FLARE's question answering (EmAcc)."""
    same = given.strip() == target.strip()
    return Verdict(float(same), same)


def numeric(given: str, target: str) -> Verdict:
    """The same number, if the whole target is one number. Other targets are judged as `spans`.

    Separators, currency, per cent and scale are read: `$1.2 million` is 1,200,000. An answer with several different
    numbers cannot be read, unless it says which one it means.
    """
    wanted = whole_number(target)
    if wanted is None:
        return spans(given, target)
    found = stated_number(given)
    if found is None:
        return Verdict(0.0, False, readable=False)
    same = same_number(found, wanted)
    return Verdict(float(same), same)


def spans(given: str, target: str) -> Verdict:
    """Exact match of two sets of spans, and their F1 after the best pairing (TAT-QA, arXiv 2105.07624).

    A scale word at the end belongs to every number: `346, 411 thousand` are 346,000 and 411,000. The order does not
    matter. Missing and additional spans lower the score.
    """
    found, wanted = _spans_of(given), _spans_of(target)
    overlap = np.array([[_overlap(span, other) for other in found] for span in wanted])
    best = overlap[linear_sum_assignment(-overlap)]
    right = len(found) == len(wanted) and bool((best == 1).all())
    return Verdict(float(best.sum() / max(len(found), len(wanted))), right)


def token_f1(given: str, target: str) -> Verdict:
    """F1 over words without case, punctuation and articles (SQuAD, arXiv 1606.05250)."""
    found, wanted = _words(given), _words(target)
    common = (Counter(found) & Counter(wanted)).total()
    value = 2 * common / (len(found) + len(wanted)) if common else float(found == wanted)
    return Verdict(value, found == wanted)


def rouge_l(given: str, target: str) -> Verdict:
    """F-measure of the longest common subsequence of stemmed words (Lin 2004), by Google's `rouge_score`."""
    value = _rouge().score(target, given)["rougeL"].fmeasure
    return Verdict(float(value), _words(given) == _words(target))


def strict_json(given: str, target: str) -> Verdict:
    """The share of an object's fields that is exactly right; for other JSON values 0 or 1. Only pure JSON is read."""
    wanted = json.loads(target)
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        return Verdict(0.0, False, readable=False)
    if isinstance(wanted, dict) and isinstance(found, dict) and wanted:
        hits = sum(key in found and _same_json(found[key], value) for key, value in wanted.items())
        return Verdict(hits / len(set(wanted) | set(found)), _same_json(found, wanted))
    same = _same_json(found, wanted)
    return Verdict(float(same), same)


def entity_list(given: str, target: str, *, form: entities.Form) -> Verdict:
    """F1 over the entities of one answer."""
    found, wanted = entities.found_and_wanted(given, target, form=form)
    if not found and wanted:
        return Verdict(0.0, False, readable=False)
    return Verdict(entities.f1(found, wanted), found == wanted)


def entity_f1(metric: Metric, pairs: Sequence[tuple[str, str]]) -> float:
    """Entity F1 over all (answer, target) pairs of a task."""
    return entities.f1_over_all(pairs, form=ENTITY_FORMS[metric])


def categories(given: str, target: str) -> Verdict:
    """The share of a batch's transactions with the right category. Only the strict JSON of the prompt is read."""
    wanted = json.loads(target)
    labels = parse_batch_answer(given, texts=[entry["transaction"] for entry in wanted])
    if labels is None:
        return Verdict(0.0, False, readable=False)
    hits = sum(label == entry["category"] for label, entry in zip(labels, wanted, strict=True))
    return Verdict(hits / len(wanted), hits == len(wanted))


_METRICS: dict[Metric, Callable[[str, str], Verdict]] = {
    "exact": exact,
    "exact_match": exact_match,
    "numeric": numeric,
    "spans": spans,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "json": strict_json,
    "categories": categories,
    **{metric: partial(entity_list, form=form) for metric, form in ENTITY_FORMS.items()},
}


def _spans_of(text: str) -> list[str | Number]:
    """The spans of an answer: a number if the whole span is one, else its words."""
    scale = scale_at_end(text)
    parts = [part for part in _BETWEEN_SPANS.split(text.strip()) if part.strip()] or [text]
    found: list[str | Number] = []
    for part in parts:
        number = whole_number(part)
        if number is not None and scale and scale_at_end(f" {part}") != scale:
            number = whole_number(f"{part.strip()} {scale}")
        found.append(number if number is not None else " ".join(_span_words(part)))
    return found


def _overlap(span: str | Number, other: str | Number) -> float:
    """F1 of two spans' words. For numbers: 1 if they are the same, else 0."""
    if isinstance(span, Number) or isinstance(other, Number):
        both = isinstance(span, Number) and isinstance(other, Number)
        return float(both and same_number(cast("Number", other), cast("Number", span)))
    wanted, found = set(span.split()), set(other.split())
    common = len(wanted & found)
    return 1.0 if span == other else min(0.99, 2 * common / (len(wanted) + len(found))) if common else 0.0


def _same_json(found: Any, wanted: Any) -> bool:
    """Whether values and types are equal. Python's own `==` takes `true` for 1."""
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _span_words(text: str) -> list[str]:
    """Words without case, punctuation and articles; a word with a digit keeps its sign and its decimal point."""
    words = (
        word.strip(_OUTER) if any(map(str.isdigit, word)) else "".join(_words(word)) for word in text.casefold().split()
    )
    return [word for word in words if word and word not in _ARTICLES]


def _words(text: str) -> list[str]:
    bare = text.casefold().translate(str.maketrans("", "", string.punctuation))
    return [word for word in bare.split() if word not in _ARTICLES]


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
