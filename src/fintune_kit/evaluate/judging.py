"""Judging generated text: a value from 0 to 1, whether it is right, and whether it could be read at all.

An answer that the metric cannot read is wrong, and is counted apart: to read it as some default label (FinGPT takes
"neutral") rewards silence.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fintune_kit.bank.conversations import parse_batch_answer
from fintune_kit.conversations import fold_label
from fintune_kit.evaluate.generation import Generated
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.tasks import Task

TOLERANCE = 0.005
"""Relative; a number rounded to three digits is the same number."""
_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "b": 1e9, "billion": 1e9}
_SCALES |= {"trillion": 1e12, "tn": 1e12}
_NUMBER = re.compile(
    r"(?P<open>\()?(?P<sign>[-−])?\s?[$€£]?\s?(?P<sign2>[-−])?(?P<digits>\d[\d,]*\.?\d*|\.\d+)\s?(?P<close>\))?"
    r"\s?(?:(?P<percent>%|percent\b)|(?P<scale>thousand|million|billion|trillion|mn|bn|tn|k|m|b)\b)?",
    re.IGNORECASE,
)
_VERDICT = re.compile(r"(?:answer(?: is)?\s*:?|=)\s*(?=[-−(]?\s?[$€£]?[-−]?\s?\d)", re.IGNORECASE)
_PAIR = re.compile(r"^\s*(?:[-*]\s*)?(?P<name>[^:\n]+?)\s*:\s*(?P<label>[A-Za-z]+)\s*\.?\s*$")


@dataclass(frozen=True)
class Verdict:
    """What a metric says about one answer."""

    value: float
    right: bool
    readable: bool = True


def judge(task: Task, generated: Sequence[Generated]) -> list[Answer]:
    """The answers to a task, judged by its metric."""
    metric = {
        "exact": exact,
        "numeric": numeric,
        "token_f1": token_f1,
        "rouge_l": rouge_l,
        "json": strict_json,
        "entities": entities,
        "categories": categories,
    }[task.metric]
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
    """The same label, but for case, outer blanks and a full stop."""
    same = fold_label(given) == fold_label(target)
    return Verdict(float(same), same)


def numeric(given: str, target: str) -> Verdict:
    """The same number to half a percent: with separators, currency, percent and scale (`$1.2 million` = 1,200,000).

    FinQA writes percentages sometimes as shares: where only one side says `%`, 5 % equals 0.05 and 5.
    """
    found, wanted = read_number(given), read_number(target)
    if wanted is None:
        return exact(given, target)
    if found is None:
        return Verdict(0.0, False, readable=False)
    (value, is_percent), (right, right_is_percent) = found, wanted
    candidates = [value] if is_percent == right_is_percent else [value, value * 100, value / 100]
    same = any(abs(candidate - right) <= TOLERANCE * abs(right) + 1e-12 for candidate in candidates)
    return Verdict(float(same), same)


def read_number(text: str) -> tuple[float, bool] | None:
    """The number that a text gives, and whether as a percentage: behind `answer` or `=` where these stand, else the
    first one; None where there is none. Parentheses mean minus, as in accounts."""
    verdicts = list(_VERDICT.finditer(text))
    match = _NUMBER.search(text, verdicts[-1].end() if verdicts else 0)
    if match is None:
        return None
    value = float(match["digits"].replace(",", "").rstrip("."))
    if match["scale"]:
        value *= _SCALES[match["scale"].lower()]
    minus = bool(match["sign"] or match["sign2"]) != bool(match["open"] and match["close"])
    return (-value if minus else value), bool(match["percent"])


def token_f1(given: str, target: str) -> Verdict:
    """F1 over words without case, punctuation and articles (SQuAD, arXiv 1606.05250)."""
    found, wanted = _words(given), _words(target)
    return Verdict(_f1(Counter(found), Counter(wanted)), found == wanted)


def rouge_l(given: str, target: str) -> Verdict:
    """F-measure of the longest common subsequence of stemmed words (Lin 2004), by Google's `rouge_score`."""
    value = _rouge().score(target, given)["rougeL"].fmeasure
    return Verdict(float(value), _words(given) == _words(target))


def strict_json(given: str, target: str) -> Verdict:
    """JSON and nothing else: the share of the wanted fields (or of the whole value) that is exactly right."""
    wanted = json.loads(target)
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        return Verdict(0.0, False, readable=False)
    if isinstance(wanted, dict) and isinstance(found, dict) and wanted:
        hits = sum(key in found and found[key] == value for key, value in wanted.items())
        return Verdict(hits / len(set(wanted) | set(found)), found == wanted)
    return Verdict(float(found == wanted), found == wanted)


def entities(given: str, target: str) -> Verdict:
    """F1 over (name, label) pairs of lists like `Halden Foods: neutral; Farrowby Dairy: positive`."""
    found, wanted = read_pairs(given), read_pairs(target)
    if not found:
        return Verdict(0.0, False, readable=False)
    return Verdict(_f1(found, wanted), found == wanted)


def categories(given: str, target: str) -> Verdict:
    """The share of a batch's transactions with the right category, where the answer is the strict JSON asked for."""
    wanted = json.loads(target)
    labels = parse_batch_answer(given, texts=[row["transaction"] for row in wanted])
    if labels is None:
        return Verdict(0.0, False, readable=False)
    hits = sum(label == row["category"] for label, row in zip(labels, wanted, strict=True))
    return Verdict(hits / len(wanted), hits == len(wanted))


def read_pairs(text: str) -> Counter[tuple[str, str]]:
    """Names and labels, folded; parts that are no pair are left out."""
    parts = (_PAIR.match(part) for part in re.split(r"[;\n]", text))
    return Counter((part["name"].casefold().strip(), part["label"].casefold()) for part in parts if part)


def _words(text: str) -> list[str]:
    bare = text.casefold().translate(str.maketrans("", "", string.punctuation))
    return [word for word in bare.split() if word not in ("a", "an", "the")]


def _f1(found: Counter[Any], wanted: Counter[Any]) -> float:
    common = (found & wanted).total()
    return 2 * common / (found.total() + wanted.total()) if common else float(found == wanted)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
