"""Whether an export answers as the adapter did in training: its validation loss, and its choices, question by question.

    nf4 + adapter    as it was trained and evaluated: the reference
    16-bit + adapter as most people load an adapter
    the export       as it was written, loaded again

An export is called good where at most 1 % of the choices differ from the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation
from fintune_kit.evaluate.scoring import Compute, score_choices
from fintune_kit.evaluate.sets.general import general_tasks
from fintune_kit.evaluate.sets.validation import validation_tasks
from fintune_kit.evaluate.tasks import Question, evenly_chosen
from fintune_kit.pack.store import Packed
from fintune_kit.train.validation import mean_loss

MAX_CHANGED = 0.01
"""Share of choices that may differ."""
MAX_PACKS = 64
"""Validation packs that the loss is taken over."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The questions and packs that all models of an export are measured on."""

    questions: tuple[Question, ...]
    packs: Packed | None
    encoder: ChatEncoder


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One model on the sample."""

    choices: tuple[int, ...]
    """The index of the chosen option of each question."""
    loss: float | None
    """Validation loss in nats a supervised token; None without packs."""


def sample_of(
    train: Sequence[Conversation],
    validation: Sequence[Conversation],
    *,
    packs: Packed | None,
    encoder: ChatEncoder,
    max_questions: int,
) -> Sample:
    """Validation choices, evenly spread; where there are fewer than `max_questions`, general questions fill up."""
    tasks = [task for task in validation_tasks(train, validation, max_generated=0) if task.is_choice]
    own = [question for task in tasks for question in task.questions]
    chosen = [own[index] for index in evenly_chosen(len(own), max_chosen=max_questions)]
    general = [question for task in general_tasks() for question in task.questions]
    missing = max_questions - len(chosen)
    chosen += [general[index] for index in evenly_chosen(len(general), max_chosen=max(0, missing))]
    return Sample(questions=tuple(chosen), packs=packs, encoder=encoder)


def measure(model: Any, sample: Sample, *, compute: Compute, label: str) -> Measurement:
    """The choices and the validation loss of one model; `label` names the progress bar."""
    scores = score_choices(model, sample.questions, encoder=sample.encoder, compute=compute, label=label)
    return Measurement(
        choices=tuple(int(score.log_probability.argmax()) for score in scores),
        loss=_loss(model, sample.packs, compute=compute),
    )


def compare(reference: Measurement, other: Measurement) -> dict[str, Any]:
    """`loss`, `changed` (the share of choices that differ from the reference's) and `good`."""
    differing = sum(a != b for a, b in zip(reference.choices, other.choices, strict=True))
    changed = differing / max(1, len(reference.choices))
    return {"loss": other.loss, "changed": changed, "good": changed <= MAX_CHANGED}


def _loss(model: Any, packs: Packed | None, *, compute: Compute) -> float | None:
    if packs is None or len(packs.validation.rows) == 0:
        return None
    rows = packs.validation.rows.select(range(min(MAX_PACKS, len(packs.validation.rows))))
    loss, tokens = mean_loss(model, rows, micro_batch=compute.micro_batch, device=compute.device, dtype=compute.dtype)
    return loss if tokens else None
