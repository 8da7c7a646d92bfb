"""A plan for the devices that JAX has: `train/plan.py`, for a TPU or the CPU devices of a rehearsal."""

from dataclasses import replace

from fintune_kit.pack.store import PackedSplit
from fintune_kit.plan.cost import DEVICES, ModelShape
from fintune_kit.plan.plan import Plan, make_plan
from fintune_kit.recipes import Recipe
from fintune_kit.tpu.cost import SPLIT
from fintune_kit.train.stage import pack_counts


def plan_on(kind: str, count: int, *, recipe: Recipe, shape: ModelShape, split: PackedSplit) -> Plan:
    """The plan for JAX devices: those of a v5e-8, or CPU devices in a rehearsal.

    Args:
        kind, count: as `devices.count_devices` gives them, `TPU v5 lite` and 8.
    """
    known = DEVICES["v5e8"] if "tpu" in kind.lower() else DEVICES["cpu"]
    device = replace(known, cards=count, memory_gib=known.memory_gib if known.kind == "tpu" else 2.0)
    return make_plan(
        on_tpu(recipe),
        shape=shape,
        counts=pack_counts(split, max_length=recipe.pack.max_length),
        device=device,
    )


def on_tpu(recipe: Recipe) -> Recipe:
    """The recipe as a TPU can carry it out: there is no bitsandbytes, so the base stays in the compute dtype instead of
    NF4, and AdamW's state in float32 instead of 8 bit."""
    return replace(recipe, train=replace(recipe.train, quantization="none", optimizer="adamw_torch"))


def splits_weights(plan: Plan) -> bool:
    """Whether each device holds a part of the weights only (FSDP)."""
    return SPLIT in plan.memory
