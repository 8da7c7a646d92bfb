"""What the stage says about itself: the funnel by rule, task type, source and origin; the mix before and after."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from fintune_kit.data.choose.selection import labels_of
from fintune_kit.data.corpus import Candidate, Refusal
from fintune_kit.data.rules.quality import RULES, refused_by_rule


def funnel(rows: int, refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    """One entry a rule, in order: how many rows it refused, and how many were left."""
    steps: list[dict[str, Any]] = [{"rule": "read", "says": "rows read", "refused": 0, "left": rows}]
    for rule, count in refused_by_rule([refusal.rule for refusal in refusals]).items():
        rows -= count
        steps.append({"rule": rule, "says": RULES[rule], "refused": count, "left": rows})
    return steps


def table(
    kept: Iterable[tuple[str, str]], refusals: Iterable[tuple[str, str]]
) -> dict[str, dict[str, int | dict[str, int]]]:
    """Rows read, kept and refused by rule, for each value of a column; each row is a (value, rule) pair."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for value, rule in [*kept, *refusals]:
        rows[value][rule] += 1
    return {
        value: {
            "read": counts.total(),
            "kept": counts["kept"],
            "refused": {rule: counts[rule] for rule in RULES if counts[rule]},
        }
        for value, counts in sorted(rows.items())
    }


def tables(kept: Sequence[Candidate], refusals: Sequence[Refusal]) -> dict[str, Any]:
    """The funnel by task type, by source and by origin (the upstream dataset that a row names)."""
    return {
        f"by_{name}": table(
            ((getattr(candidate, field), "kept") for candidate in kept),
            ((getattr(refusal, field), refusal.rule) for refusal in refusals),
        )
        for name, field in (("task_type", "task_type"), ("source", "source"), ("origin", "origin"))
    }


def mix(candidates: Sequence[Candidate]) -> dict[str, dict[str, int]]:
    """Rows by task type and, where answers are a closed set, label; `(open)` counts the rest."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for candidate, label in zip(candidates, labels_of(candidates), strict=True):
        counts[candidate.task_type][label] += 1
    return {
        task: dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
        for task, labels in sorted(counts.items())
    }
