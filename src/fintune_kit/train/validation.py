"""Validation during a run: measures the loss on validation packs at even intervals, and keeps the best adapter.

    step          1 ... 40      ... 80      ...  400
    measured            *           *             *       a few packs of the validation split, the same ones each time
    run/best/           the adapter of the step with the lowest loss so far

Nothing here is random: the recipe and the packs determine the steps and the packs that are measured. So a resumed run
measures the same packs at the same steps as a run without interruption.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.pack.mix import even_order
from fintune_kit.pack.store import Packed
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.recipes import TrainRecipe
from fintune_kit.train.model import adapter_parameters
from fintune_kit.train.run_folder import BEST
from fintune_kit.train.trainer import stack_packs
from fintune_kit.workspace import MANIFEST, read_json, replacing_folder, write_json

COST = 0.03
"""The share of the training time that validation may take. A forward pass takes at most half of a training step."""
WEIGHTS = "adapter.safetensors"


@dataclass(frozen=True)
class Schedule:
    """The steps after which to measure, and the indices of the validation packs to measure on."""

    steps: tuple[int, ...]
    packs: tuple[int, ...]


@dataclass(frozen=True)
class MeanLoss:
    """The mean loss of some packs, in nats per supervised token."""

    loss: float
    by_task: dict[str, float]


def validation_schedule(recipe: TrainRecipe, *, packed: Packed, optimizer_steps: int) -> Schedule:
    """`recipe.validations` steps at even distances, the last step included, and as many packs as `COST` allows.

    The packs are the first ones of a mixed order, so that a few of them hold all tasks.
    """
    times = min(recipe.validations, optimizer_steps)
    packs = len(packed.validation)
    if not times or not packs:
        return Schedule((), ())
    allowed = int(2 * COST * len(packed.train) * recipe.epochs / times)
    chosen = even_order(packed.validation.strata, seed=0)[: max(1, allowed)]
    steps = tuple(optimizer_steps * (index + 1) // times for index in range(times))
    return Schedule(steps, tuple(sorted(chosen.tolist())))


def tasks_of(packed: Packed) -> list[str]:
    """The task of each validation pack. A validation pack holds one task only (`pack.stage`)."""
    names = [task for task, _ in packed.strata]
    return [names[column] for column in packed.validation.strata.argmax(axis=1)]


def mean_by_task(losses: NDArray[np.float64], tokens: NDArray[np.int64], tasks: Sequence[str]) -> MeanLoss:
    """The mean loss of all packs, and that of each task.

    Args:
        losses: `[packs]`, summed over the supervised tokens of each pack.
        tokens: `[packs]`, supervised tokens.
        tasks: the task of each pack.
    """
    by_task = {}
    for task in sorted(set(tasks)):
        own = [index for index, name in enumerate(tasks) if name == task]
        by_task[task] = float(losses[own].sum() / max(1, tokens[own].sum()))
    return MeanLoss(float(losses.sum() / max(1, tokens.sum())), by_task)


def losses_of_packs(
    model: nn.Module, packs: Dataset, indices: Sequence[int], *, device: str, dtype: str = "float32"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The summed loss and the number of supervised tokens of some packs, without dropout.

    Args:
        model: reads packs (`loss.enable_packs`).
        packs: the packs of a split.
        indices: of the packs to measure.
        device: `cpu`, `cuda:0`, ...
        dtype: of autocast.

    Returns:
        (float64 `[indices]` in nats, int64 `[indices]`).
    """
    losses, tokens = np.zeros(len(indices)), np.zeros(len(indices), np.int64)
    for number, index in enumerate(indices):
        losses[number], tokens[number] = _summed_loss(model, packs, [index], device=device, dtype=dtype)
    return losses, tokens


def mean_loss(
    model: nn.Module, packs: Dataset, *, micro_batch: int, device: str, dtype: str = "float32"
) -> tuple[float, int]:
    """The mean cross-entropy over all supervised tokens of some packs, without dropout.

    Returns:
        (loss in nats per token, number of supervised tokens).
    """
    total, tokens = 0.0, 0
    for start in range(0, len(packs), micro_batch):
        indices = range(start, min(start + micro_batch, len(packs)))
        loss, count = _summed_loss(model, packs, indices, device=device, dtype=dtype)
        total, tokens = total + loss, tokens + count
    return total / max(1, tokens), tokens


@torch.no_grad()
def _summed_loss(
    model: nn.Module, packs: Dataset, indices: Sequence[int], *, device: str, dtype: str
) -> tuple[float, int]:
    was_training = model.training
    model.eval()
    as_arrays = packs.select_columns(list(COLUMNS)).with_format("numpy")
    batch = stack_packs([as_arrays[index] for index in indices])
    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
    with torch.autocast(device.split(":")[0], dtype=getattr(torch, dtype), enabled=dtype != "float32"):
        summed = float(model(**on_device).loss)
    model.train(was_training)
    return summed, int(batch["loss_weight"].sum())


class Validator(TrainerCallback):
    """Measures after the steps of a schedule, keeps the best adapter, and stops a run that no longer gets better."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        tasks: Sequence[str],
        losses_of: Callable[[Sequence[int]], tuple[NDArray[np.float64], NDArray[np.int64]]],
        save_best: Callable[[int, float], None] | None = None,
        patience: int | None = None,
    ) -> None:
        """
        Args:
            schedule: the steps and packs to measure.
            tasks: the task of each validation pack.
            losses_of: returns the summed loss and the supervised tokens of packs, given their indices.
            save_best: called with step and loss when the loss is the lowest so far; None keeps no adapter.
            patience: the run stops after this many measurements in a row without a new lowest loss; None for never.
        """
        self._schedule, self._tasks, self._losses_of = schedule, tasks, losses_of
        self._save_best, self._patience = save_best, patience
        self._best = np.inf
        self._worse = 0
        self.stopped_early = False
        self._records: dict[int, dict[str, Any]] = {}

    def resume(self, log: Sequence[Mapping[str, Any]]) -> None:
        """Restores the measurements of a run before its interruption.

        Args:
            log: the records of the steps up to the checkpoint.
        """
        for record in log:
            if (loss := record.get("validation_loss")) is not None:
                self._note(loss)
        self.stopped_early = self._is_out_of_patience()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measures, if the step is in the schedule. May save the adapter, and may stop the run."""
        if state.global_step not in self._schedule.steps:
            return
        started = time.monotonic()
        losses, tokens = self._losses_of(self._schedule.packs)
        measured = mean_by_task(losses, tokens, [self._tasks[index] for index in self._schedule.packs])
        if self._note(measured.loss) and self._save_best is not None:
            self._save_best(state.global_step, measured.loss)
        if self._is_out_of_patience():
            self.stopped_early = control.should_training_stop = control.should_save = True
        self._records[state.global_step] = {
            "validation_loss": measured.loss,
            "validation_by_task": measured.by_task,
            "validation_seconds": round(time.monotonic() - started, 4),
        }

    def record_of(self, step: int) -> dict[str, Any]:
        """The measurement after a step, for the log; `{}` if the step was not measured."""
        return self._records.get(step, {})

    def _is_out_of_patience(self) -> bool:
        return self._patience is not None and self._worse >= self._patience

    def _note(self, loss: float) -> bool:
        """Takes one loss into account, and returns whether it is the lowest so far."""
        if loss < self._best:
            self._best, self._worse = loss, 0
            return True
        self._worse += 1
        return False


def save_best_adapter(model: nn.Module, run: Path, *, step: int, loss: float) -> None:
    """Writes the adapter to `run/best/`, with its step and loss. A kill in between leaves the earlier one whole."""
    weights = {name: value.detach().cpu().contiguous() for name, value in adapter_parameters(model).items()}
    with replacing_folder(run / BEST) as folder:
        save_file(weights, folder / WEIGHTS)
        write_json(folder / MANIFEST, {"step": step, "loss": loss})


def load_best_adapter(model: nn.Module, run: Path) -> tuple[int, float] | None:
    """Loads the adapter of `run/best/` into the model.

    Returns:
        Its step and loss. None if no adapter was kept; the model is then unchanged.
    """
    if not (run / BEST / MANIFEST).is_file():
        return None
    kept = load_file(run / BEST / WEIGHTS)
    parameters = adapter_parameters(model)
    assert set(kept) == set(parameters), "the kept adapter has other matrices than the model"
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(kept[name])
    manifest = read_json(run / BEST / MANIFEST)
    return manifest["step"], manifest["loss"]
