"""The stage's report: the funnel by rule, task type, source and origin; the mix before and after the choice.

`ten_refused` picks the refused rows that a reader should see first.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fintune_kit.data.corpus import Corpus, Refusal
from fintune_kit.data.rules.catalogue import RULES, refused_by_rule


def funnel(rows: int, refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    """One entry a rule, in order: how many rows it refused, and how many were left."""
    steps: list[dict[str, Any]] = [{"rule": "read", "says": "rows read", "refused": 0, "left": rows}]
    for rule, count in refused_by_rule(refusal.rule for refusal in refusals).items():
        rows -= count
        steps.append({"rule": rule, "says": RULES[rule], "refused": count, "left": rows})
    return steps


def tables(corpus: Corpus, refusals: Sequence[Refusal]) -> dict[str, Any]:
    """The funnel by task type, by source and by origin (the upstream dataset that a row names)."""
    kept = corpus.kept()
    values = {
        "task_type": [corpus.conversations[index].task_type for index in kept],
        "source": [corpus.conversations[index].source for index in kept],
        "origin": [corpus.origins[index] for index in kept],
    }
    return {
        f"by_{name}": _table(chosen, ((getattr(refusal, name), refusal.rule) for refusal in refusals))
        for name, chosen in values.items()
    }


def _table(kept: Iterable[str], refusals: Iterable[tuple[str, str]]) -> dict[str, dict[str, int | dict[str, int]]]:
    """Rows read, kept and refused by rule, for each value; a refused row is a pair of value and rule."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for value in kept:
        rows[value]["kept"] += 1
    for value, rule in refusals:
        rows[value][rule] += 1
    return {
        value: {
            "read": counts.total(),
            "kept": counts["kept"],
            "refused": {rule: counts[rule] for rule in RULES if counts[rule]},
        }
        for value, counts in sorted(rows.items())
    }


def mix(task_types: Iterable[str], labels: Iterable[str]) -> dict[str, dict[str, int]]:
    """Rows by task type and label; `(open)` counts the rows of open questions."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for task, label in zip(task_types, labels, strict=True):
        counts[task][label] += 1
    return {
        task: dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
        for task, found in sorted(counts.items())
    }


def ten_refused(conversations: Path, *, count: int = 10) -> list[dict[str, str]]:
    """Ten refused rows: one of each rule in turn, then a second of each, until there are ten.

    Args:
        conversations: the stage's folder.
    """
    by_rule: dict[str, list[dict[str, str]]] = {}
    for row in pq.read_table(conversations / "rejected.parquet").to_pylist():
        by_rule.setdefault(row["rule"], []).append(row)
    in_turn = (row for row in chain.from_iterable(zip_longest(*by_rule.values())) if row)
    return list(islice(in_turn, count))
