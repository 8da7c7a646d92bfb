"""The step log of a run: a line for each optimizer step.

    run/log.jsonl    {"step": 1, "loss": 1.83, "learning_rate": 1e-05, "grad_norm": 0.7, ...}
                     {"step": 40, "loss": 1.12, ..., "validation_loss": 1.2, "validation_by_task": {"qa": 1.9, ...}}

Each step appends one line. Each checkpoint holds all lines up to its step, in `trainer_state.json` and under its seal.
When a run continues from a checkpoint, its log is cut to that step. Damaged or missing lines come from the checkpoint.

A resumed run repeats the steps since its checkpoint with the same data, noise and learning rates. On a CPU they are the
same bit for bit. On a card some sums have another order each time, and losses agree to about 1e-3.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.plan.devices import GIB
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.workspace import read_json, step_of, write_text

log = logging.getLogger(__name__)

NAME = "log.jsonl"
"""The log's file in the folder of a run."""
STATE = "trainer_state.json"
"""The file of a checkpoint that holds the log up to its step."""
_KEYS = ("step", "loss", "learning_rate", "grad_norm", "skipped", "supervised_tokens", "examples", "seconds",
         "tokens_per_second", "peak_memory_gib", "input_wait_seconds", "compile_seconds", "validation_loss",
         "validation_by_task", "validation_seconds")  # fmt: skip
"""The keys of a line in their order; transformers sorts them by name."""
_ALWAYS = {"step", "loss", "learning_rate", "seconds"}
"""The keys of every line."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of `log.jsonl` in order.

    The end of the file may be half a line, because the log is read while it is written; it is left out. A damaged line
    is left out too, with a warning.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    records = [_record(line) for line in lines]
    damaged = [number for number, record in enumerate(records, start=1) if record is None]
    if damaged:
        log.warning("%s is damaged in line %s, left out", path, ", ".join(map(str, damaged)))
    return [record for record in records if record is not None]


def restore_log(path: Path, *, checkpoint: Path | None) -> None:
    """Gives the log exactly the steps of the checkpoint from which a run continues.

    The checkpoint's own records count first, since it is sealed. Steps that it lacks come from the log.

    Args:
        path: the log's file.
        checkpoint: a whole checkpoint; None for a run that starts at step 1.
    """
    steps = step_of(checkpoint) if checkpoint else 0
    found = {record["step"]: record for record in read_log(path)}
    sealed = {record["step"]: record for record in _sealed_records(checkpoint)} if checkpoint else {}
    known = found | sealed
    records = [known[step] for step in range(1, steps + 1) if step in known]
    lacking = [step for step in range(1, steps + 1) if step not in found]
    if restored := [step for step in lacking if step in sealed]:
        log.warning("%s lacked the steps %s: they are restored from %s", path, _named(restored), checkpoint)
    if unknown := [step for step in lacking if step not in sealed]:
        log.warning("%s lacks the steps %s, and so does %s: they stay unknown", path, _named(unknown), checkpoint)
    text = "".join(json.dumps(record) + "\n" for record in records)
    if text.encode() != (path.read_bytes() if path.is_file() else b""):
        write_text(path, text)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if the line is damaged."""
    try:
        record = json.loads(line)
    except ValueError:  # JSON's and UTF-8's errors are of this kind
        return None
    return record if _is_record(record) else None


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= _ALWAYS and isinstance(value["step"], int)


def _sealed_records(checkpoint: Path) -> list[dict[str, Any]]:
    """The log in a checkpoint; an empty one in checkpoints of earlier versions."""
    records = [record for record in read_json(checkpoint / STATE).get("log_history", []) if _is_record(record)]
    return [{key: record[key] for key in (*_KEYS, *record) if key in record} for record in records]


def _named(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - 5} more" if len(steps) > 5 else ""
    return ", ".join(map(str, steps[:5])) + more


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
            path: the log's file; `restore_log` has given it the steps that are done.
            supervised_tokens, examples: counts for each optimizer step.
            positions: pack positions in one optimizer step.
            guard: knows whether a step was applied or skipped.
            validation_of: returns the validation record of a step, `{}` for most steps.
        """
        self._path, self._positions, self._guard, self._validation_of = path, positions, guard, validation_of
        self._supervised_tokens, self._examples = supervised_tokens, examples
        self._step_started = 0.0
        self.records: list[dict[str, Any]] = []
        """The lines of all steps so far, for the next checkpoint."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reads the steps that are done."""
        self.records = read_log(self._path)

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
        """Appends the step's line, in the first process only, and gives the trainer's state the whole log."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
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
        self.records.append(record)
        state.log_history = list(self.records)


def _peak_of_card() -> float | None:
    return round(torch.cuda.max_memory_allocated() / GIB, 3) if torch.cuda.is_available() else None


def _finite(value: Any) -> float | None:
    """The number, or None if it is not finite, because NaN is not JSON. Such a step is marked `skipped`."""
    return float(value) if math.isfinite(float(value)) else None
