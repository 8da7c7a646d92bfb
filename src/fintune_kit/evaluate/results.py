"""Answers: what a model gave to a question, and how they lie in `answers.parquet`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fintune_kit.evaluate.scoring import OptionScores
from fintune_kit.evaluate.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model gave to one question."""

    text: str
    """The chosen option, or the generated text."""
    right: bool
    """Chosen rightly; of free text, exactly right by the task's metric."""
    value: float
    """The metric's value: 1 or 0, or a share for F1 and ROUGE-L."""
    confidence: float | None = None
    """Of a choice: its probability among the options."""
    right_normalized: bool | None = None
    """Of a choice: whether the option with the best mean log-probability a token is right."""
    log_probabilities: tuple[float, ...] = ()
    """Of a choice, in the order of its options."""
    unreadable: bool = False
    """Of free text: nothing that the metric can read; it counts as wrong."""
    unfinished: bool = False
    """Of free text: cut before its closing token came."""


def choose(task: Task, scores: Sequence[OptionScores]) -> list[Answer]:
    """The likeliest option of each question; of equal ones the first."""
    answers = []
    for question, score in zip(task.questions, scores, strict=True):
        best = int(np.argmax(score.log_probability))
        best_normalized = int(np.argmax(score.normalized))
        right = question.options[best] == question.target
        answers.append(
            Answer(
                text=question.options[best],
                right=right,
                value=float(right),
                confidence=float(score.probabilities[best]),
                right_normalized=question.options[best_normalized] == question.target,
                log_probabilities=tuple(score.log_probability.tolist()),
            )
        )
    return answers


def write_answers(
    path: Path, tasks: Sequence[Task], answers: dict[str, dict[str, list[Answer]]], *, seen: dict[str, list[bool]]
) -> None:
    """A row a question: `task`, `row_id`, `prompt` (the messages as JSON), `target`, `options`, `seen_in_training`,
    and of both models
    `<who>_answer`, `<who>_right`, `<who>_value`, `<who>_confidence`, `<who>_log_probabilities`, `<who>_unreadable`."""
    questions = [(task, question) for task in tasks for question in task.questions]
    columns: dict[str, Any] = {
        "task": [task.name for task, _ in questions],
        "row_id": [question.row_id for _, question in questions],
        "prompt": [json.dumps(question.messages, ensure_ascii=False) for _, question in questions],
        "target": [question.target for _, question in questions],
        "options": pa.array([list(question.options) for _, question in questions], pa.list_(pa.string())),
        "seen_in_training": [flag for task in tasks for flag in seen[task.name]],
    }
    for who, by_task in answers.items():
        given = [answer for task in tasks for answer in by_task[task.name]]
        columns |= {
            f"{who}_answer": [answer.text for answer in given],
            f"{who}_right": [answer.right for answer in given],
            f"{who}_value": [answer.value for answer in given],
            f"{who}_confidence": pa.array([answer.confidence for answer in given], pa.float64()),
            f"{who}_log_probabilities": pa.array([a.log_probabilities for a in given], pa.list_(pa.float64())),
            f"{who}_unreadable": [answer.unreadable for answer in given],
        }
    pq.write_table(pa.table(columns), path)


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The rows of `answers.parquet` of a finished evaluation, with `prompt` as messages again."""
    rows: list[dict[str, Any]] = pq.read_table(folder / "answers.parquet").to_pylist()
    return [{**row, "prompt": json.loads(row["prompt"])} for row in rows]


def before_after(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The choice tasks as `plots.plot_before_after` takes them."""
    return [
        {
            "task": record["title"],
            "n": record["n"],
            "majority": record["floors"]["majority"]["accuracy"],
            **{
                who: {"accuracy": record[who]["accuracy"], "interval": record[who]["accuracy_interval"]}
                for who in ("base", "adapter")
            },
        }
        for record in scores["tasks"]
        if record["metric"] == "accuracy"
    ]


def pooled_accuracy(scores: dict[str, Any]) -> dict[str, float]:
    """Accuracy over all held-out classification rows together: `n`, `majority`, `base`, `adapter` (shares)."""
    rows = [record for record in scores["tasks"] if record["metric"] == "accuracy" and _is_held_out(record)]
    n = sum(record["n"] for record in rows)
    shares = {
        "majority": [record["floors"]["majority"]["accuracy"] for record in rows],
        "base": [record["base"]["accuracy"] for record in rows],
        "adapter": [record["adapter"]["accuracy"] for record in rows],
    }
    counts = [record["n"] for record in rows]
    return {"n": n} | {
        who: sum(share * count for share, count in zip(values, counts, strict=True)) / max(1, n)
        for who, values in shares.items()
    }


def _is_held_out(record: dict[str, Any]) -> bool:
    return str(record["name"]).startswith("heldout_")


def format_table(scores: dict[str, Any]) -> str:
    """The before/after table in plain text: accuracy of choice tasks with 95 % intervals, floors and McNemar's p; of
    transactions in batches, how many answers are the JSON that was asked for, and how many transactions are right.

    held-out loss (nats a token)        7.21 -> 1.52
    task                                  n   majority   base              adapter            p
    sentiment analysis                   26       38 %   35 % (19-54)      81 % (65-92)       0.0005
    """
    loss = scores["loss"]
    lines = [
        f"{'held-out loss (nats a token)':<36} {loss['base']:.3f} -> {loss['adapter']:.3f}",
        f"{'task':<36}{'n':>6}{'majority':>10}   {'base':<16}{'adapter':<16}{'p':>8}",
    ]
    all_rows = pooled_accuracy(scores)
    pairs = {record["title"]: record["paired"]["p_value"] for record in scores["tasks"]}
    for row in before_after(scores):
        shown = [f"{100 * row[who]['accuracy']:.0f} % {_range(row[who]['interval'])}" for who in ("base", "adapter")]
        majority = f"{100 * row['majority']:.0f} %"
        name, p_value = row["task"], pairs[row["task"]]
        lines.append(f"{name[:35]:<36}{row['n']:>6}{majority:>10}   {shown[0]:<16}{shown[1]:<16}{p_value:>8.2g}")
    shares = {who: f"{100 * all_rows[who]:.0f} %" for who in ("majority", "base", "adapter")}
    lines.append(
        f"{'all held-out rows':<36}{all_rows['n']:>6}{shares['majority']:>10}   {shares['base']:<16}{shares['adapter']}"
    )
    for record in (record for record in scores["tasks"] if record["metric"] == "categories"):
        lines += _batch_lines(record)
    return "\n".join(lines)


def _batch_lines(record: dict[str, Any]) -> list[str]:
    both = [record[who] for who in ("base", "adapter")]
    valid = [f"{100 * one['json_valid']['share']:.0f} % {_range(one['json_valid']['interval'])}" for one in both]
    right = [f"{100 * one['transactions']['accuracy']:.0f} %" for one in both]
    count = both[0]["transactions"]["n"]
    return [
        f"{record['title'][:29]:<29} valid {record['n']:>6}{'':>10}   {valid[0]:<16}{valid[1]}",
        f"{'  their transactions, right':<36}{count:>6}{'':>10}   {right[0]:<16}{right[1]}",
    ]


def _range(interval: Sequence[float]) -> str:
    low, high = interval
    return f"({100 * low:.0f}-{100 * high:.0f})"
