"""Run by each of two processes of `test_stage`: a training without dropout, for some steps.

python -m tests.train.two_processes WORLD OUT                 as planned
python -m tests.train.two_processes WORLD OUT memory          the second one runs out of memory once, in step 3
python -m tests.train.two_processes WORLD OUT split           to the end, the base shared out among them
python -m tests.train.two_processes WORLD OUT split 4         the same, killed once step 4 is saved
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fintune_kit.plan.plan import Plan
from fintune_kit.recipes import Recipe, smoke
from fintune_kit.train import stage
from fintune_kit.train.stage import train
from fintune_kit.train.step import StepRunner
from fintune_kit.train.trainer import PackTrainer
from fintune_kit.workspace import Workspace

STEPS = 6


def recipe() -> Recipe:
    """Smoke, small enough that a test can run it whole many times."""
    base = smoke()
    return replace(
        base,
        pack=replace(base.pack, max_length=128),
        lora=replace(base.lora, rank=4, alpha=8, dropout=0.1),
        train=replace(base.train, epochs=3, effective_batch=2),
    )


def quiet_recipe() -> Recipe:
    """Eight packs a step; dropout draws its noise a process, so it is off."""
    base = recipe()
    return replace(
        base, lora=replace(base.lora, dropout=0.0), train=replace(base.train, effective_batch=8, accumulation=2)
    )


def short_run(world: Path, out: Path, *, stop_after: int | None = STEPS) -> None:
    """Trains on the packs of `world`."""
    train(
        quiet_recipe(),
        Workspace(out),
        packed=world / "packed",
        base=world / "base",
        stop_after=stop_after,
        minutes_between_checkpoints=0,
    )


def plan_split_weights() -> None:
    """Makes the planner share the base out, as it does where a card cannot hold it."""
    planned = stage.plan_here

    def split(*args: Any, **options: Any) -> Plan:
        return replace(planned(*args, **options), split_weights=True)

    stage.plan_here = split


def die_after(step: int) -> None:
    """Kills each process once this step is saved."""
    save = PackTrainer._save_checkpoint

    def save_and_die(self: PackTrainer, *arguments: Any) -> None:
        save(self, *arguments)
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    PackTrainer._save_checkpoint = save_and_die


def run_out_of_memory(step: int) -> None:
    """Lets the second process run out of memory once, when all gradients of this step are there."""
    whole, failures = StepRunner._sum_of_micro_batches, [step - 1] * (os.environ["RANK"] == "1")

    def sum_of_micro_batches(self: StepRunner, *arguments: Any, step: int, tokens: int) -> Tensor | None:
        found = whole(self, *arguments, step=step, tokens=tokens)
        if step not in failures:
            return found
        failures.remove(step)
        return None

    StepRunner._sum_of_micro_batches = sum_of_micro_batches


if __name__ == "__main__":
    if sys.argv[3:4] == ["memory"]:
        run_out_of_memory(3)
    if sys.argv[3:4] == ["split"]:
        plan_split_weights()
        if sys.argv[4:]:
            die_after(int(sys.argv[4]))
        short_run(Path(sys.argv[1]), Path(sys.argv[2]), stop_after=None)
    else:
        short_run(Path(sys.argv[1]), Path(sys.argv[2]))
