"""Measures whether an export answers like the adapter in training: its validation loss, and its choices.

    nf4 + adapter    the model of training and evaluation: the reference
    16-bit + adapter the form in which most people load an adapter
    the export       the written files, loaded again

An export is good if at most 1 % of the choices differ from the reference.
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
"""The share of choices that may differ."""
MAX_PACKS = 64
"""Validation packs for the loss."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The questions and packs on which all models of an export are measured."""

    questions: tuple[Question, ...]
    packs: Packed | None
    encoder: ChatEncoder


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The results of one model on the sample."""

    choices: tuple[int, ...]
    """The index of the chosen option of each question."""
    loss: float | None
    """Validation loss in nats per supervised token; None without packs."""


def sample_of(
    train: Sequence[Conversation],
    validation: Sequence[Conversation],
    *,
    packs: Packed | None,
    encoder: ChatEncoder,
    max_questions: int,
) -> Sample:
    """`max_questions` questions: validation choices, evenly spread and, if these are too few, general questions."""
    tasks = [task for task in validation_tasks(train, validation, max_generated=0) if task.is_choice]
    own = [question for task in tasks for question in task.questions]
    chosen = [own[index] for index in evenly_chosen(len(own), max_chosen=max_questions)]
    general = [question for task in general_tasks() for question in task.questions]
    missing = max_questions - len(chosen)
    chosen += [general[index] for index in evenly_chosen(len(general), max_chosen=max(0, missing))]
    return Sample(questions=tuple(chosen), packs=packs, encoder=encoder)


def measure(model: Any, sample: Sample, *, compute: Compute, label: str) -> Measurement:
    """The choices and the validation loss of one model. `label` names the progress bar."""
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
    chosen = packs.validation.rows.select(range(min(MAX_PACKS, len(packs.validation.rows))))
    loss, tokens = mean_loss(model, chosen, micro_batch=compute.micro_batch, device=compute.device, dtype=compute.dtype)
    return loss if tokens else None
