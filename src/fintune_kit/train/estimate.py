"""A better estimate of a run's hours, from the measured time of its first steps.

The plan's hours are computed from a card's peak rate. After a few steps the measured time gives a better estimate. The
trainer prints it once, and a launcher prints it after each step.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.plan.plan import Plan

Log = Sequence[Mapping[str, Any]]
MEASURED = 3
"""Steps that are enough for an estimate. The first step of a process is left out, because it warms up."""


def measured_hours(log: Log, *, steps: int) -> tuple[float, float] | None:
    """A low and a high estimate of the hours of a whole run. None if fewer than `MEASURED` steps are done.

    Args:
        log: records of `log.jsonl`.
        steps: optimizer steps of the whole run.
    """
    seconds = [record["seconds"] for record in log[1:]]
    if len(seconds) < MEASURED:
        return None
    typical = statistics.median(seconds)
    spread = statistics.median(abs(value - typical) for value in seconds)
    return (typical - spread) * steps / 3600, (typical + spread) * steps / 3600


def describe_progress(log: Log, *, plan: Plan) -> str:
    """The newest step of a run and, after a few steps, the measured hours beside the planned ones."""
    newest = log[-1]
    loss = "not finite" if newest["loss"] is None else f"{newest['loss']:.3f}"
    text = f"step {newest['step']} of {plan.optimizer_steps}: loss {loss}"
    hours = measured_hours(log, steps=plan.optimizer_steps)
    if hours is None:
        return text
    left = (hours[0] + hours[1]) / 2 * (1 - newest["step"] / plan.optimizer_steps)
    planned = f"{plan.hours[0]:.2f} to {plan.hours[1]:.2f} h planned"
    return f"{text}, {left:.2f} h left\nall steps: {hours[0]:.2f} to {hours[1]:.2f} h measured, {planned}"


class FirstSteps(TrainerCallback):
    """Prints the measured estimate once, as soon as enough steps are done."""

    def __init__(self, plan: Plan, read: Any) -> None:
        """
        Args:
            read: returns the records of the log so far.
        """
        self._plan, self._read, self._printed = plan, read, False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Prints the estimate, in the first process, if it was not printed yet."""
        if self._printed or not state.is_world_process_zero:
            return
        log = self._read()
        if measured_hours(log, steps=self._plan.optimizer_steps) is not None:
            self._printed = True
            print(f"\n{describe_progress(log, plan=self._plan)}", flush=True)
