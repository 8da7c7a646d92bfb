"""The clock of a run: a callback that decides when to save and when to stop."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.train.guards import decide_together

_STOPPING = (signal.SIGINT, signal.SIGTERM)


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
        """Asks for a checkpoint, or for the end of the run, in all processes alike.

        The last step is saved too, because the work after it may fail.
        """
        now = time.monotonic()
        self._longest_step = max(self._longest_step, now - self._step_started)
        # Time for one more step, for a save, and once more for the measurements after the last step.
        needed = self._longest_step + 2 * self._save_seconds
        out_of_time = self._deadline is not None and now + needed > self._deadline
        stop = out_of_time or self._stopped_by is not None
        stop |= self._stop_after is not None and state.global_step >= self._stop_after
        is_last = 0 < state.max_steps <= state.global_step
        save, stop = decide_together(stop or is_last or now - self._last_save >= self._between, stop)
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
