"""From answers to records: a task's scores, its floors, its contamination and what others report.

Plain values only: these records are `scores.json`, the figures, the model card.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fintune_kit.evaluate import metrics
from fintune_kit.evaluate.floors import floors
from fintune_kit.evaluate.known import KNOWN
from fintune_kit.evaluate.published import published
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.tasks import Task
from fintune_kit.evaluate.transactions import batch_record, totals


def task_record(
    task: Task, base: Sequence[Answer], adapter: Sequence[Answer], *, seen: Sequence[bool], seed: int
) -> dict[str, Any]:
    """Everything that is reported of a task.

    Args:
        base, adapter: both models' answers, in the order of the questions.
        seen: whether training has shown each question.
        seed: of the resampling.
    """
    record = compare(task, base, adapter, seed=seed)
    record["floors"] = floors(task, seed=seed) if task.is_choice else None
    record["contamination"] = contamination_record(base, adapter, seen=seen, seed=seed)
    expected = KNOWN[task.name].rows if task.name in KNOWN else 0
    record["published"] = published(task.name, rows=len(task.questions), expected_rows=expected)
    return record


def contamination_record(
    base: Sequence[Answer], adapter: Sequence[Answer], *, seen: Sequence[bool], seed: int
) -> dict[str, Any]:
    """How many questions training has shown, and the scores without them (None where none is left)."""
    clean = [number for number, flag in enumerate(seen) if not flag]
    record: dict[str, Any] = {"seen": len(seen) - len(clean), "n": len(seen), "clean_n": len(clean), "clean": None}
    if clean:
        values = {"base": base, "adapter": adapter}
        record["clean"] = {
            who: metrics.mean_with_interval([answers[number].value for number in clean], seed=seed)
            for who, answers in values.items()
        }
    return record


def summarize(task: Task, answers: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    """One model on one task."""
    value = metrics.mean_with_interval([answer.value for answer in answers], seed=seed)
    record: dict[str, Any] = {"n": len(answers), "score": value["mean"], "interval": value["interval"]}
    if not task.is_choice:
        record["unreadable"] = sum(answer.unreadable for answer in answers) / len(answers)
        record["unfinished"] = sum(answer.unfinished for answer in answers) / len(answers)
        record["exact"] = sum(answer.right for answer in answers) / len(answers)
        return record | (batch_record(task, answers, seed=seed) if task.metric == "categories" else {})
    targets = [question.target for question in task.questions]
    record |= metrics.classification(targets, [answer.text for answer in answers], seed=seed)
    record["accuracy_normalized"] = float(np.mean([bool(answer.right_normalized) for answer in answers]))
    record["calibration"] = metrics.calibration(
        [answer.confidence or 0.0 for answer in answers], [answer.right for answer in answers]
    )
    record["confusion"] = metrics.confusion(targets, [answer.text for answer in answers], task.labels).tolist()
    if task.statement:
        record["by_category"] = metrics.by_label(targets, [answer.text for answer in answers])
    return record


def compare(task: Task, base: Sequence[Answer], adapter: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    """The record of a task: both models, the paired test between them."""
    unseen = sum(bool(q.options) and q.target not in q.options for q in task.questions)
    record: dict[str, Any] = {
        "name": task.name,
        "title": task.title,
        "metric": task.metric,
        "source": task.source,
        "n": len(task.questions),
        "of_total": task.of_total if task.of_total is not None else len(task.questions),
        "labels": task.labels,
        "unseen_targets": unseen,
        "base": summarize(task, base, seed=seed),
        "adapter": summarize(task, adapter, seed=seed),
        "paired": metrics.paired([a.right for a in base], [a.right for a in adapter], seed=seed),
    }
    if not task.is_choice:
        differences = [after.value - before.value for before, after in zip(base, adapter, strict=True)]
        difference = metrics.mean_with_interval(differences, seed=seed)
        record["paired"] |= {"difference": difference["mean"], "difference_interval": difference["interval"]}
    if task.statement:
        record["totals"] = totals(task, base, adapter)
    return record
