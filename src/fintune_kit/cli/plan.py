"""`fintune-kit plan`: estimates the memory and the hours of a run before it starts."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

from cyclopts import Parameter

from fintune_kit.cli.opening import UNCHANGED, RecipeFlags
from fintune_kit.plan.shapes import ModelShape, find_shape
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import SIZES
from fintune_kit.workspace import find_workspace, merged, read_manifest


def plan(
    *,
    device: str | None = None,
    packed: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    recipe: RecipeFlags = UNCHANGED,
) -> None:
    """Estimate the memory, steps and hours of a recipe on a card.

    Args:
        device: p100, t4, t4x2, l4, a100, h100, h200, v5e8 or cpu. Default: this machine.
        packed: The folder that `fintune-kit pack` wrote. Default: typical counts of packs are assumed.
        as_json: Print the plan as JSON.
    """
    import fintune_kit.tpu  # noqa: F401 - registers the engine for a TPU
    from fintune_kit.hardware import find_machine
    from fintune_kit.plan.counts import PackCounts, typical_counts
    from fintune_kit.plan.devices import device_of
    from fintune_kit.plan.engines import find_device
    from fintune_kit.plan.plan import make_plan, stock_hours

    asked = recipe.load()
    chosen = merged(asked, find_workspace(asked.name).made_with())
    counts = PackCounts.of_manifest(read_manifest(packed, stage="packed")) if packed else typical_counts(chosen)
    shape = shape_of(chosen.base)
    card = find_device(device) if device else device_of(find_machine())
    made = make_plan(chosen, shape=shape, counts=counts, device=card)
    low, high = stock_hours(chosen, shape=shape, device=card)
    if as_json:
        print(json.dumps(made.as_dict() | {"stock_hours": (low, high)}, indent=2))
        return
    print(
        f"{made.describe()}\nstock trainer    {low:.2f} to {high:.2f} h, derived from counts of its kernels and bytes "
        "and not from a run: ordinary packs, dense attention, every block recomputed"
    )


def planned_hours(recipe: Recipe, *, device: str) -> tuple[float, float] | None:
    """A low and a high estimate of the hours of training with typical packs; None if the base is not in the table.

    Args:
        device: a device's name in the planner, such as t4x2.
    """
    import fintune_kit.tpu  # noqa: F401 - registers the engine for a TPU
    from fintune_kit.plan.counts import typical_counts
    from fintune_kit.plan.engines import find_device
    from fintune_kit.plan.plan import make_plan

    shape = find_shape(recipe.base)
    if shape is None:
        return None
    return make_plan(recipe, shape=shape, counts=typical_counts(recipe), device=find_device(device)).hours


def shape_of(base: str) -> ModelShape:
    """The sizes of the recipe's base. Only for a model that is not in the planner's table, transformers is imported."""
    if base == "tiny":
        return ModelShape.of(SimpleNamespace(**SIZES))
    if found := find_shape(base):
        return found
    from fintune_kit.train.model import load_config

    return ModelShape.of(load_config(base))
