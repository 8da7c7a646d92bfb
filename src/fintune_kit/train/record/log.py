"""The step log of a run: a line for each optimizer step.

    run/log.jsonl    {"step": 1, "loss": 1.83, "learning_rate": 1e-05, "grad_norm": 0.7, ...}
                     {"step": 40, "loss": 1.12, ..., "validation_loss": 1.2, "validation_by_task": {"qa": 1.9, ...}}

Each step appends one line, and no line is ever rewritten. A resumed run repeats the steps since its checkpoint bit for
bit, so it keeps the existing lines and appends after them.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.plan.devices import GIB
from fintune_kit.train.guards import NonFiniteGuard


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of `log.jsonl` in order; without the last line, if a killed run did not finish it."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


class StepLog(TrainerCallback):
    """Appends a line to `log.jsonl` after each optimizer step."""

    def __init__(
        self,
        path: Path,
        *,
        supervised_tokens: Sequence[int],
        examples: Sequence[int],
        positions: int,
        guard: NonFiniteGuard,
        validation_of: Callable[[int], dict[str, Any]] = lambda _step: {},
    ) -> None:
        """
        Args:
            path: the log's file.
            supervised_tokens, examples: counts for each optimizer step.
            positions: pack positions in one optimizer step.
            guard: knows whether a step was applied or skipped.
            validation_of: returns the validation record of a step, `{}` for most steps.
        """
        self._path, self._positions, self._guard, self._validation_of = path, positions, guard, validation_of
        self._supervised_tokens, self._examples = supervised_tokens, examples
        self._logged = 0
        self._step_started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Removes a line that a killed run did not finish, and finds the last logged step."""
        _cut_unfinished_line(self._path)
        records = read_log(self._path)
        self._logged = records[-1]["step"] if records else 0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the time of the step."""
        self._step_started = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Appends the step's line, in the first process only. Steps that are in the log already are left out."""
        if not state.is_world_process_zero or not logs or "loss" not in logs or state.global_step <= self._logged:
            return
        step = state.global_step
        validation = self._validation_of(step)
        seconds = time.perf_counter() - self._step_started - validation.get("validation_seconds", 0.0)
        record = {
            "step": step,
            "loss": _finite(logs["loss"]),
            "learning_rate": float(logs["learning_rate"]),
            "grad_norm": _finite(logs["grad_norm"]),
            "skipped": not self._guard.last_accepted,
            "supervised_tokens": int(self._supervised_tokens[step - 1]),
            "examples": int(self._examples[step - 1]),
            "seconds": round(seconds, 4),
            "tokens_per_second": round(self._positions / seconds, 1),
            "peak_memory_gib": logs.get("peak_memory_gib", _peak_of_card()),
        } | {key: logs[key] for key in ("input_wait_seconds", "compile_seconds") if key in logs}
        record |= validation
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        self._logged = step


def _peak_of_card() -> float | None:
    return round(torch.cuda.max_memory_allocated() / GIB, 3) if torch.cuda.is_available() else None


def _finite(value: Any) -> float | None:
    """The number, or None if it is not finite: JSON has no NaN. Such a step is marked `skipped`."""
    return float(value) if math.isfinite(float(value)) else None


def _cut_unfinished_line(path: Path) -> None:
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
