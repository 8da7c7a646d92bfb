"""A plan for the devices of a TPU: the arithmetic of `plan.py`, with what attention on JAX keeps besides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fintune_kit.pack.store import PackedSplit
from fintune_kit.recipes import Recipe
from fintune_kit.train.cost import DEVICES, ModelShape
from fintune_kit.train.plan import Plan, make_plan
from fintune_kit.train.stage import pack_counts
from fintune_kit.train.tpu_cost import SPLIT


def plan_on(devices: Sequence[Any], recipe: Recipe, *, shape: ModelShape, split: PackedSplit) -> Plan:
    """The plan for JAX devices: those of a v5e-8, or CPU devices in a rehearsal."""
    known = DEVICES["v5e8"] if devices[0].platform == "tpu" else DEVICES["cpu"]
    device = replace(known, cards=len(devices), memory_gib=known.memory_gib if known.kind == "tpu" else 2.0)
    return make_plan(recipe, shape=shape, counts=pack_counts(split, max_length=recipe.pack.max_length), device=device)


def splits_weights(plan: Plan) -> bool:
    """Whether each device holds a part of the weights only (FSDP)."""
    return SPLIT in plan.memory
