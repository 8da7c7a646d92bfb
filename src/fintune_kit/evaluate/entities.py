"""Named entities in answers, in the three forms of the published sets, and their F1.

    pairs     Halden Foods: neutral; Farrowby Dairy: positive       names with labels
    mentions  Halden Foods, ORG \\n Berlin, LOC                      FLARE's NER: spans of words in the text
    tokens    Halden:B-ORG \\n Foods:I-ORG \\n grew:O                 FLARE's FiNER-ORD: one line for each word

An entity counts as found if its words and its label are right. F1 over a task first sums the counts of all questions,
as CoNLL and seqeval do.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

Form = Literal["pairs", "mentions", "tokens"]
Entities = Counter[tuple[str, ...]]
_PAIR = re.compile(r"^\s*(?:[-*]\s*)?(?P<name>[^:\n]+?)\s*:\s*(?P<label>[A-Za-z]+)\s*\.?\s*$")


def found_and_wanted(given: str, target: str, *, form: Form) -> tuple[Entities, Entities]:
    """The entities of an answer and of its target.

    Args:
        given: the answer.
        target: for `pairs` a list of pairs; else JSON, `{"tokens": [...], "labels": ["B-ORG", "I-ORG", "O"]}`.
        form: of the answer, see the top of this module.
    """
    if form == "pairs":
        return read_pairs(given), read_pairs(target)
    wanted = json.loads(target)
    read = _labels_of_mentions if form == "mentions" else _labels_of_lines
    return spans(read(given, wanted["tokens"])), spans(wanted["labels"])


def f1(found: Entities, wanted: Entities) -> float:
    """2 x common / (found + wanted); 1 if both are empty."""
    common = (found & wanted).total()
    return 2 * common / (found.total() + wanted.total()) if common else float(found == wanted)


def f1_over_all(pairs: Iterable[tuple[str, str]], *, form: Form) -> float:
    """Entity F1 over all (answer, target) pairs of a task: counts are summed before the division."""
    common = total = 0
    for given, target in pairs:
        found, wanted = found_and_wanted(given, target, form=form)
        common += (found & wanted).total()
        total += found.total() + wanted.total()
    return 2 * common / total if total else 0.0


def read_pairs(text: str) -> Entities:
    """(name, label) pairs in lower case. Parts of the text that are not a pair are left out."""
    parts = (_PAIR.match(part) for part in re.split(r"[;\n]", text))
    return Counter((part["name"].casefold().strip(), part["label"].casefold()) for part in parts if part)


def spans(labels: Sequence[str]) -> Entities:
    """The entities of BIO labels as (label, first word, last word). `I-` without `B-` before it starts an entity."""
    found: list[tuple[str, ...]] = []
    start, kind = 0, ""
    for index, label in enumerate([*labels, "O"]):
        prefix, _, name = label.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.append((kind, str(start), str(index - 1)))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = index, name
    return Counter(found)


def _labels_of_mentions(given: str, tokens: Sequence[str]) -> list[str]:
    """BIO labels from `entity, TYPE` lines, for every occurrence of the entity's words in the text."""
    labels = ["O"] * len(tokens)
    for line in given.split("\n"):
        entity, comma, kind = line.rpartition(", ")
        words = entity.split()
        if not comma or not words or not kind.strip():
            continue
        for start in range(len(tokens) - len(words) + 1):
            if list(tokens[start : start + len(words)]) == words:
                labels[start : start + len(words)] = [f"B-{kind.strip()}", *[f"I-{kind.strip()}"] * (len(words) - 1)]
    return labels


def _labels_of_lines(given: str, tokens: Sequence[str]) -> list[str]:
    """BIO labels from `word:label` lines. Line n counts only if its word is the n-th word of the text."""
    labels = ["O"] * len(tokens)
    for index, line in enumerate(given.split("\n")[: len(tokens)]):
        word, _, label = line.rpartition(":")
        if word == tokens[index]:
            labels[index] = label.strip()
    return labels
