"""What computes a run: PyTorch on cards and CPUs, JAX on a TPU. Both leave the same files."""

from collections.abc import Callable
from typing import Any

from fintune_kit.recipes import Recipe
from fintune_kit.train.outcome import Outcome


def wants_tpu(recipe: Recipe) -> bool:
    """Whether a recipe is meant for a TPU; its name says so."""
    return recipe.name.startswith("tpu_")


def train_function(recipe: Recipe, *, tpu: bool = False) -> Callable[..., Outcome]:
    """`stage.train`, or `tpu.stage.train_on_tpu`, which takes the same arguments.

    Args:
        tpu: asked for by name; else the recipe decides.
    """
    found: Any
    if tpu or wants_tpu(recipe):
        from fintune_kit.tpu.stage import train_on_tpu as found
    else:
        from fintune_kit.train.stage import train as found
    return found
