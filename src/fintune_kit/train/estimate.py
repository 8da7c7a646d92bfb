"""The estimate, corrected by what the first steps really took.

The plan's hours are arithmetic over a card's peak; three steps later there is something better. It is said once, when
these steps are done, and with each step that is watched.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fintune_kit.plan.plan import Plan

Log = Sequence[Mapping[str, Any]]
MEASURED = 3
"""Steps that are enough to say something; the very first one of a process warms up and is left out."""


def measured_hours(log: Log, *, steps: int) -> tuple[float, float] | None:
    """Low and high estimate of the hours of a whole run, from the seconds of the steps so far; None while these are
    too few.

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
    """Where a run is: its newest step, and the measured hours beside the planned ones once there are any."""
    newest = log[-1]
    text = f"step {newest['step']} of {plan.optimizer_steps}: loss {newest['loss']}"
    hours = measured_hours(log, steps=plan.optimizer_steps)
    if hours is None:
        return text
    left = (hours[0] + hours[1]) / 2 * (1 - newest["step"] / plan.optimizer_steps)
    planned = f"{plan.hours[0]:.2f} to {plan.hours[1]:.2f} h planned"
    return f"{text}, {left:.2f} h left\nall steps: {hours[0]:.2f} to {hours[1]:.2f} h measured, {planned}"


class FirstSteps(TrainerCallback):
    """Says the corrected estimate once, as soon as there is one."""

    def __init__(self, plan: Plan, read: Any) -> None:
        """
        Args:
            read: returns the records of the log so far.
        """
        self._plan, self._read, self._said = plan, read, False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._said or not state.is_world_process_zero:
            return
        log = self._read()
        if measured_hours(log, steps=self._plan.optimizer_steps) is not None:
            self._said = True
            print(f"\n{describe_progress(log, plan=self._plan)}", flush=True)
