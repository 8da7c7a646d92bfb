"""What each of two processes of `test_launch` runs: the training of `test_stage`, without dropout, for some steps."""

import sys
from dataclasses import replace
from pathlib import Path

from fintune_kit.recipes import Recipe, smoke
from fintune_kit.train.stage import train
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


def short_run(world: Path, out: Path) -> None:
    """Trains on the packs of `world`; dropout draws its noise a process, so it is off."""
    base = recipe()
    quiet = replace(
        base, lora=replace(base.lora, dropout=0.0), train=replace(base.train, effective_batch=8, accumulation=2)
    )
    train(quiet, Workspace(out), packed=world / "packed", base=world / "base", stop_after=STEPS)


if __name__ == "__main__":
    short_run(Path(sys.argv[1]), Path(sys.argv[2]))
