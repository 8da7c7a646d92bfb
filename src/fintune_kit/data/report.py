"""The stage's report, `report.json`. It holds everything that a user should see before training:

funnel, by_task_type, by_source, by_origin     rows read, kept and refused by each rule, and the share kept
rule_examples                                  three refused rows of each rule
mix                                            rows by task type and label, before and after the choice
tokens                                         how long the conversations are
rows_to_look_at                                ten rows as they came, with the conversations that they became
files                                          how each was read, with the columns and fields that were not used
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Corpus, Refusal
from fintune_kit.data.rules.catalogue import RULES, refused_by_rule

MAX_SHOWN = 600
"""Characters of a text that the report shows."""
MAX_MEASURED = 2_000
"""Conversations whose tokens the report counts."""


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


def _table(kept: Iterable[str], refusals: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
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
            "share_kept": round(counts["kept"] / counts.total(), 4),
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


def rule_examples(refusals: Sequence[Refusal], *, count: int = 3) -> dict[str, list[dict[str, str]]]:
    """The first refused rows of each rule, in the order of the rules."""
    shown: dict[str, list[dict[str, str]]] = {rule: [] for rule in RULES}
    for refusal in refusals:
        if len(shown[refusal.rule]) < count:
            shown[refusal.rule].append(
                {"row_id": refusal.row_id, "detail": refusal.detail, "row": refusal.row[:MAX_SHOWN]}
            )
    return {rule: found for rule, found in shown.items() if found}


def token_lengths(conversations: Sequence[Conversation], encoder: ChatEncoder) -> dict[str, Any]:
    """Tokens a conversation: the mean and percentiles, from evenly spread conversations."""
    step = max(1, len(conversations) // MAX_MEASURED)
    lengths = encoder.lengths([conversation.messages for conversation in conversations[::step]])
    levels = (50, 90, 95, 99, 100)
    return {
        "measured": len(lengths),
        "mean": round(float(lengths.mean()), 1) if len(lengths) else None,
        **{f"p{level}": int(np.percentile(lengths, level)) for level in levels if len(lengths)},
    }


def rows_to_look_at(
    corpus: Corpus, train: Sequence[Conversation], validation: Sequence[Conversation], *, count: int = 10
) -> list[dict[str, Any]]:
    """Evenly spread kept rows, as they came and as conversations; long texts are cut."""
    splits = {c.row_id: split for split, rows in (("train", train), ("validation", validation)) for c in rows}
    kept = corpus.kept()
    spread = [kept[index * len(kept) // count] for index in range(min(count, len(kept)))] if len(kept) > count else kept
    rows = corpus.rows.texts_at(spread)
    return [
        {
            "row_id": corpus.conversations[index].row_id,
            "split": splits[corpus.conversations[index].row_id],
            "task_type": corpus.conversations[index].task_type,
            "row": {name: str(value)[:MAX_SHOWN] for name, value in json.loads(rows[index]).items()},
            "messages": [
                {**message, "content": message["content"][:MAX_SHOWN]}
                for message in corpus.conversations[index].messages
            ],
        }
        for index in spread
    ]


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
