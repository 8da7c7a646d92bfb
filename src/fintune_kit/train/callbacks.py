"""Callbacks of a run: the step log, and the clock that decides when to save and when to stop.

    run/log.jsonl    {"step": 1, "loss": 1.83, "learning_rate": 1e-05, "grad_norm": 0.7, ...}
                     {"step": 40, "loss": 1.12, ..., "validation_loss": 1.2, "validation_by_task": {"qa": 1.9, ...}}

Each step appends one line, and no line is ever rewritten. A resumed run repeats the steps since its checkpoint, with
the same data, noise and learning rates. On a CPU they are the same bit for bit; on a card some sums have another order
each time, and losses agree to about 1e-3. So the run keeps the existing lines and appends after them.
"""

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.plan.devices import GIB
from fintune_kit.train.guards import NonFiniteGuard, decide_together

_STOPPING = (signal.SIGINT, signal.SIGTERM)


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


class Clock(TrainerCallback):
    """Asks for a checkpoint every few minutes, and stops a run while there is still time to save it.

    Ctrl-C and SIGTERM stop a run too (`catching_signals`).
    """

    def __init__(
        self, *, minutes_between_checkpoints: float, budget_seconds: float | None = None, stop_after: int | None = None
    ) -> None:
        """
        Args:
            minutes_between_checkpoints: a killed run loses about this much work at most.
            budget_seconds: time for the whole stage, from now; None for no limit.
            stop_after: optimizer steps after which the run stops, counted from its first step; None for all.
        """
        self._between = minutes_between_checkpoints * 60
        self._deadline = time.monotonic() + budget_seconds if budget_seconds is not None else None
        self._stop_after = stop_after
        self._last_save = time.monotonic()
        self._step_started = 0.0
        self._longest_step = 0.0
        self._save_seconds = 30.0
        self._stopped_by: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts the minutes to the next checkpoint from here."""
        self._last_save = time.monotonic()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the time of the step."""
        self._step_started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks for a checkpoint, or for the end of the run, in all processes alike."""
        now = time.monotonic()
        self._longest_step = max(self._longest_step, now - self._step_started)
        # Time for one more step, for a save, and for as much again: the measurements after the last step.
        needed = self._longest_step + 2 * self._save_seconds
        out_of_time = self._deadline is not None and now + needed > self._deadline
        stop = out_of_time or self._stopped_by is not None
        stop |= self._stop_after is not None and state.global_step >= self._stop_after
        save, stop = decide_together(stop or now - self._last_save >= self._between, stop)
        if save:
            control.should_save = True
        if stop:
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Counts the minutes to the next checkpoint from here."""
        self._last_save = time.monotonic()

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """In this block, Ctrl-C and SIGTERM wait until the running step has ended and is saved.

        After the block the signal has its usual effect. A second signal of the same kind has it at once, except with
        several processes: their launcher repeats each signal.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python gives signals to the main thread only
            return
        before = {number: signal.signal(number, self._note_signal) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._stopped_by is not None:
            signal.raise_signal(self._stopped_by)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._stopped_by is None:
            self._stopped_by = number
            print("stopping after this step, with a checkpoint", file=sys.stderr, flush=True)
        elif number == self._stopped_by and not (dist.is_available() and dist.is_initialized()):
            raise KeyboardInterrupt

    def note_save(self, seconds: float) -> None:
        """Notes how long the last save took. The time budget keeps this much for the next save."""
        self._save_seconds = seconds


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
