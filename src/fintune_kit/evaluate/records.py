"""Makes the record of a task from its answers: scores, floors, contamination, and the scores that others publish.

A record holds plain values only. `scores.json` is a list of records. The table, the figures and the model card are made
from it alone.

    {"name": "tfns", "n": 2388, "base": {"accuracy": ...}, "adapter": {...}, "paired": {"p_value": ...},
     "floors": {"majority": {...}, "tfidf": {...}}, "contamination": {"seen": 0, ...}, "published": [...]}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from fintune_kit.evaluate import metrics
from fintune_kit.evaluate.floors import floors
from fintune_kit.evaluate.judging import ENTITY_FORMS, entity_f1
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.sets.published import published
from fintune_kit.evaluate.tasks import Task
from fintune_kit.evaluate.transactions import batch_record, totals

Answers = Mapping[str, Sequence[Answer]]
"""The answers of each model, in the order of the questions."""


def task_record(task: Task, answers: Answers, *, seen: Sequence[bool] | None, seed: int) -> dict[str, Any]:
    """Everything that is reported about a task.

    Args:
        answers: of `base` and, if there is one, of `adapter`.
        seen: whether training has shown each question; None if the training data is not known.
        seed: of the resampling.
    """
    record: dict[str, Any] = {
        "name": task.name,
        "title": one_line(task.title),
        "metric": task.metric,
        "source": task.source,
        "n": len(task.questions),
        "of_total": task.of_total if task.of_total is not None else len(task.questions),
        "labels": task.labels,
        "targets_without_option": sum(bool(q.options) and q.target not in q.options for q in task.questions),
        "base": summarize(task, answers["base"], seed=seed),
        "adapter": summarize(task, answers["adapter"], seed=seed) if "adapter" in answers else None,
        "paired": compare(task, answers["base"], answers["adapter"], seed=seed) if "adapter" in answers else None,
        "floors": floors(task, seed=seed) if task.is_choice else None,
        "contamination": contamination_record(answers, seen=seen, seed=seed),
        "published": published(task.name, rows=len(task.questions)),
    }
    if task.statement and "adapter" in answers:
        record["totals"] = totals(task, answers["base"], answers["adapter"])
    return record


def one_line(title: str) -> str:
    """A title in one line, without control characters: titles of validation tasks come from the user's data."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in title).split())[:80]


def add_holm(records: Sequence[dict[str, Any]]) -> None:
    """Adds `p_holm` to each paired test: its p-value, corrected for the number of tasks in the table."""
    tested = [record["paired"] for record in records if record["paired"] is not None]
    for test, adjusted in zip(tested, metrics.holm([test["p_value"] for test in tested]), strict=True):
        test["p_holm"] = adjusted


def contamination_record(answers: Answers, *, seen: Sequence[bool] | None, seed: int) -> dict[str, Any]:
    """The number of questions that training has shown, and the scores without them.

    `seen` is None if the training data is not known. `clean` is None if no question is left.
    """
    n = len(answers["base"])
    if seen is None:
        return {"seen": None, "n": n, "clean_n": None, "clean": None}
    clean = [index for index, flag in enumerate(seen) if not flag]
    scores = {
        who: metrics.mean_with_interval([given[index].value for index in clean], seed=seed)
        for who, given in answers.items()
        if clean
    }
    return {"seen": n - len(clean), "n": n, "clean_n": len(clean), "clean": scores or None}


def summarize(task: Task, answers: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    """The scores of one model on one task."""
    value = metrics.mean_with_interval([answer.value for answer in answers], seed=seed)
    record: dict[str, Any] = {"n": len(answers), "score": value["mean"], "interval": value["interval"]}
    return record | (_choice(task, answers, seed=seed) if task.is_choice else _free_text(task, answers, seed=seed))


def compare(task: Task, base: Sequence[Answer], adapter: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    """The paired test of both models: McNemar's test for right and wrong, a permutation test for shares."""
    counts = metrics.paired([answer.right for answer in base], [answer.right for answer in adapter])
    if task.is_choice:
        return counts
    values = [[answer.value for answer in answers] for answers in (base, adapter)]
    return counts | metrics.paired_values(*values, seed=seed)


def _choice(task: Task, answers: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    targets = [question.target for question in task.questions]
    given = [answer.text for answer in answers]
    confidence = [answer.confidence or 0.0 for answer in answers]
    record = metrics.classification(targets, given, seed=seed)
    record["accuracy_normalized"] = float(np.mean([bool(answer.right_normalized) for answer in answers]))
    record["calibration"] = metrics.calibration(confidence, [answer.right for answer in answers])
    record["confusion"] = metrics.confusion(targets, given, task.labels).tolist()
    if task.average_groups:
        record["average_f1"] = average_f1(task, given)
    if task.statement:
        record["by_category"] = metrics.by_label(targets, given)
    return record


def _free_text(task: Task, answers: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "unreadable": sum(answer.unreadable for answer in answers) / len(answers),
        "unfinished": sum(answer.unfinished for answer in answers) / len(answers),
        "exact": sum(answer.right for answer in answers) / len(answers),
    }
    if task.metric in ENTITY_FORMS:
        pairs = [(answer.text, question.target) for answer, question in zip(answers, task.questions, strict=True)]
        record["entity_f1"] = entity_f1(task.metric, pairs)
    return record | (batch_record(task, answers, seed=seed) if task.metric == "categories" else {})


def average_f1(task: Task, given: Sequence[str]) -> float:
    """The mean over groups of each group's weighted F1: AvgF1 of the Headlines benchmark (FLARE)."""
    scores = []
    for group in dict.fromkeys(question.group for question in task.questions):
        indices = [index for index, question in enumerate(task.questions) if question.group == group]
        targets = [task.questions[index].target for index in indices]
        scores.append(f1_score(targets, [given[index] for index in indices], average="weighted", zero_division=0))
    return float(np.mean(scores))
