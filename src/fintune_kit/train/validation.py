"""Validation while a run trains: the loss on held-out packs at even intervals, by task, and the best adapter kept.

    step          1 ... 40      ... 80      ...  400
    measured            *           *             *       a few packs of the validation split, the same ones each time
    run/best/           adapter of the step whose loss was lowest so far

Nothing here is random: which steps and which packs follows from the recipe and the packs, so a resumed run measures
what the whole run would have measured.
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

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.mix import even_order
from fintune_kit.pack.store import Packed
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.recipes import TrainRecipe
from fintune_kit.train.model import adapter_parameters
from fintune_kit.train.run_folder import BEST
from fintune_kit.train.trainer import stack_packs
from fintune_kit.workspace import MANIFEST, read_json, replacing_folder, write_json

COST = 0.03
"""Share of the training time that validation may take. A forward pass takes half of a training step's time or less."""
WEIGHTS = "adapter.safetensors"


@dataclass(frozen=True)
class Schedule:
    """When is measured, and on which packs of the validation split."""

    steps: tuple[int, ...]
    packs: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """Mean loss of some packs, in nats a supervised token."""

    loss: float
    by_task: dict[str, float]


def validation_schedule(recipe: TrainRecipe, *, packed: Packed, optimizer_steps: int) -> Schedule:
    """`recipe.validations` steps at even distances, the last step among them, on as many packs as `COST` allows.

    The packs are taken in an even order, so that a few of them hold a mix of tasks.
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
    """The task of each validation pack; each holds one only (`pack.stage`)."""
    names = [task for task, _ in packed.strata]
    return [names[column] for column in packed.validation.strata.argmax(axis=1)]


def mean_by_task(losses: NDArray[np.float64], tokens: NDArray[np.int64], tasks: Sequence[str]) -> Measured:
    """Mean losses from what each pack summed up.

    Args:
        losses: `[packs]` summed over the supervised tokens.
        tokens: `[packs]` supervised tokens.
        tasks: of each pack.
    """
    by_task = {}
    for task in sorted(set(tasks)):
        own = [index for index, name in enumerate(tasks) if name == task]
        by_task[task] = float(losses[own].sum() / max(1, tokens[own].sum()))
    return Measured(float(losses.sum() / max(1, tokens.sum())), by_task)


def losses_of_packs(
    model: nn.Module, rows: Dataset, packs: Sequence[int], *, device: str, dtype: str = "float32"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The summed loss and the supervised tokens of some packs, `[packs]` each.

    Args:
        model: reads packs (`loss.enable_packs`).
        rows: the split's packs.
        packs: their indices.
        device: `cpu`, `cuda:0`, ...
        dtype: of autocast.
    """
    losses, tokens = np.zeros(len(packs)), np.zeros(len(packs), np.int64)
    for place, index in enumerate(packs):
        losses[place], tokens[place] = _summed_loss(model, rows, [index], device=device, dtype=dtype)
    return losses, tokens


def mean_loss(
    model: nn.Module, rows: Dataset, *, micro_batch: int, device: str, dtype: str = "float32"
) -> tuple[float, int]:
    """Mean cross-entropy over all supervised tokens of some packs, in evaluation mode.

    Returns:
        (loss in nats per token, number of supervised tokens).
    """
    total, tokens = 0.0, 0
    for start in range(0, len(rows), micro_batch):
        packs = range(start, min(start + micro_batch, len(rows)))
        loss, count = _summed_loss(model, rows, packs, device=device, dtype=dtype)
        total, tokens = total + loss, tokens + count
    return total / max(1, tokens), tokens


@torch.no_grad()
def _summed_loss(
    model: nn.Module, rows: Dataset, packs: Sequence[int], *, device: str, dtype: str
) -> tuple[float, int]:
    was_training = model.training
    model.eval()
    as_arrays = rows.select_columns(list(COLUMNS)).with_format("numpy")
    batch = stack_packs([as_arrays[index] for index in packs])
    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
    with torch.autocast(device.split(":")[0], dtype=getattr(torch, dtype), enabled=dtype != "float32"):
        summed = float(model(**on_device).loss)
    model.train(was_training)
    return summed, int((batch["shift_labels"] != IGNORE).sum())


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
            schedule: when, and which packs.
            tasks: of all validation packs.
            losses_of: the summed loss and the supervised tokens of packs.
            save_best: called with step and loss whenever the loss is the lowest so far; None keeps no adapter.
            patience: measurements in a row that may be no better than the best before the run stops; None for all.
        """
        self._schedule, self._tasks, self._losses_of = schedule, tasks, losses_of
        self._save_best, self._patience = save_best, patience
        self._best = np.inf
        self._worse = 0
        self.stopped_early = False
        self._records: dict[int, dict[str, Any]] = {}

    def resume(self, log: Sequence[Mapping[str, Any]]) -> None:
        """Takes up what a run measured before it was interrupted.

        Args:
            log: the records of the steps that the resumed run does not repeat.
        """
        for record in log:
            if (loss := record.get("validation_loss")) is not None:
                self._note(loss)
        self.stopped_early = self._is_out_of_patience()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
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
        """What was measured after a step, for the log; nothing where it was not."""
        return self._records.get(step, {})

    def _is_out_of_patience(self) -> bool:
        return self._patience is not None and self._worse >= self._patience

    def _note(self, loss: float) -> bool:
        """Whether a loss is the lowest so far."""
        if loss < self._best:
            self._best, self._worse = loss, 0
            return True
        self._worse += 1
        return False


def save_best_adapter(model: nn.Module, run: Path, *, step: int, loss: float) -> None:
    """Writes the adapter to `run/best/`, with its step and loss; a killed run leaves the one before whole."""
    weights = {name: value.detach().cpu().contiguous() for name, value in adapter_parameters(model).items()}
    with replacing_folder(run / BEST) as folder:
        save_file(weights, folder / WEIGHTS)
        write_json(folder / MANIFEST, {"step": step, "loss": loss})


def load_best_adapter(model: nn.Module, run: Path) -> tuple[int, float] | None:
    """Puts the adapter of `run/best/` into the model.

    Returns:
        Its step and loss; None where none was kept, and nothing has changed.
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
