"""`fintune-kit plan`: what a run will take, before it runs."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fintune_kit.cli.opening import RecipeName, open_recipe


def plan(
    *,
    device: str | None = None,
    packed: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    recipe: RecipeName = None,
) -> None:
    """Estimate the memory, steps and hours of a recipe on a card.

    Args:
        device: p100, t4, t4x2, l4, a100, h100, h200, v5e8 or cpu. Default: this machine.
        packed: The real packs. Default: typical ones are assumed.
        as_json: Print the plan as JSON.
    """
    from fintune_kit.hardware import find_machine
    from fintune_kit.pack.store import open_packed
    from fintune_kit.plan.cost import ModelShape
    from fintune_kit.plan.plan import device_of, find_device, make_plan, stock_hours, typical_counts
    from fintune_kit.tiny import base_of
    from fintune_kit.train.model import load_config
    from fintune_kit.train.stage import pack_counts

    chosen, workspace = open_recipe(recipe)
    length = chosen.pack.max_length
    counts = pack_counts(open_packed(packed).train, max_length=length) if packed else typical_counts(chosen)
    shape = ModelShape.of(load_config(base_of(chosen, workspace)))
    card = find_device(device) if device else device_of(find_machine())
    made = make_plan(chosen, shape=shape, counts=counts, device=card)
    low, high = stock_hours(chosen, shape=shape, device=card)
    if as_json:
        print(json.dumps(made.as_dict() | {"stock_hours": (low, high)}, indent=2))
        return
    print(
        f"{made.describe()}\nstock trainer    {low:.2f} to {high:.2f} h, estimated: ordinary packs, dense attention, "
        "every block checkpointed"
    )
