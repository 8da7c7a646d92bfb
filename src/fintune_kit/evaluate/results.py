"""The answer of a model to a question, and the file of all answers.

answers.parquet, one line for each question:
    task, row_id, prompt (the messages as JSON), target, options, seen_in_training (null if it is not known)
    and for each model  <who>_answer, <who>_right, <who>_value, <who>_confidence, <who>_log_probabilities,
                        <who>_unreadable, <who>_unfinished
"""

import json
from collections.abc import Mapping, Sequence
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
    """The answer of one model to one question."""

    text: str
    """The chosen option, or the generated text."""
    right: bool
    """Whether it is the right option, or exactly right by the task's metric."""
    value: float
    """The metric's value: 1 or 0, or a share for F1 and ROUGE-L."""
    confidence: float | None = None
    """In a choice task: the probability of the chosen option among the options."""
    right_normalized: bool | None = None
    """In a choice task: whether the option with the best mean log-probability per token is right."""
    log_probabilities: tuple[float, ...] = ()
    """In a choice task: the log-probability of each option, in their order."""
    unreadable: bool = False
    """In free text: whether the metric cannot read the answer. Such an answer is wrong."""
    unfinished: bool = False
    """In free text: whether the answer was cut before its closing token."""


def choose(task: Task, scores: Sequence[OptionScores]) -> list[Answer]:
    """The likeliest option of each question, and the first of equally likely ones."""
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
    path: Path,
    tasks: Sequence[Task],
    answers: Mapping[str, Mapping[str, Sequence[Answer]]],
    *,
    seen: Mapping[str, Sequence[bool] | None],
) -> None:
    """Writes `answers.parquet`.

    Args:
        answers: by model and task name, in the order of the questions.
        seen: by task name, whether training has shown each question; None if the training data is not known.
    """
    questions = [(task, question) for task in tasks for question in task.questions]
    flags: list[bool | None] = []
    for task in tasks:
        known = seen[task.name]
        flags += [None] * len(task.questions) if known is None else known
    columns: dict[str, Any] = {
        "task": [task.name for task, _ in questions],
        "row_id": [question.row_id for _, question in questions],
        "prompt": [json.dumps(question.messages, ensure_ascii=False) for _, question in questions],
        "target": [question.target for _, question in questions],
        "options": pa.array([list(question.options) for _, question in questions], pa.list_(pa.string())),
        "seen_in_training": pa.array(flags, pa.bool_()),
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
            f"{who}_unfinished": [answer.unfinished for answer in given],
        }
    pq.write_table(pa.table(columns), path)


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The lines of `answers.parquet` of a finished evaluation, with `prompt` as a list of messages."""
    lines: list[dict[str, Any]] = pq.read_table(folder / "answers.parquet").to_pylist()
    return [{**line, "prompt": json.loads(line["prompt"])} for line in lines]
