"""A plan says how a machine carries out a recipe. It depends on both, and never changes what is learned.

    packs in a step = micro-batch x accumulation x processes

The recipe counts its effective batch in ordinary packed sequences. A pack with shared prefixes holds the examples of
more than one such sequence, so a step has fewer packs. The number of examples in a step stays the same.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from fintune_kit.plan.cards import HEAD_CHUNK
from fintune_kit.plan.counts import PackCounts, typical_counts
from fintune_kit.plan.devices import GIB, Device
from fintune_kit.plan.engines import engine_of, known_devices
from fintune_kit.plan.layouts import Workload, fastest_layout
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.plan.time import cost_of_stock
from fintune_kit.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one machine carries out one recipe."""

    device: str
    processes: int
    dtype: str
    dtype_reason: str
    micro_batch: int
    """Packs in one forward pass of one process."""
    accumulation: int
    packs_per_step: int
    """Packs whose gradients make one optimizer step: micro-batch x accumulation x processes."""
    optimizer_steps: int
    recompute: Recompute
    """Activations that are computed again in the backward pass instead of being kept."""
    split_weights: bool = False
    """Whether each device holds only a part of the base (FSDP)."""
    dense_weights: bool = False
    """Whether 4-bit weights are unpacked once and then kept in the compute dtype."""
    head_chunk: int
    """Positions whose logits exist at once."""
    memory: dict[str, int]
    """Estimated peak bytes on one card, by purpose."""
    hours: tuple[float, float]
    """Low and high estimate. `devices.py` states the assumptions."""

    def __post_init__(self) -> None:
        assert self.packs_per_step == self.micro_batch * self.accumulation * self.processes, self

    @property
    def peak_gib(self) -> float:
        """The estimated peak memory of one card."""
        return sum(self.memory.values()) / GIB

    def describe(self) -> str:
        """The plan in lines, for the notebook and the terminal."""
        low, high = self.hours
        weights = (
            "split over the devices" if self.split_weights else "as loaded; 4-bit weights are unpacked at each use"
        )
        weights = "unpacked once, and kept" if self.dense_weights else weights
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.memory.items() if size)
        return "\n".join(
            [
                f"device           {self.device}, {self.processes} process(es)",
                f"precision        {self.dtype}: {self.dtype_reason}",
                f"effective batch  {self.packs_per_step} packs = {self.micro_batch} a micro-batch "
                f"x {self.accumulation} accumulated x {self.processes} process(es)",
                f"optimizer steps  {self.optimizer_steps}",
                f"weights          {weights}",
                f"recomputed       {self.recompute.describe()}",
                f"memory           {self.peak_gib:.2f} GiB a card, estimated: {parts}",
                f"time             {low:.2f} to {high:.2f} h, estimated{self._on_kaggle()}",
            ]
        )

    def _on_kaggle(self) -> str:
        device = known_devices().get(self.device)
        if device is None or device.kaggle is None:
            return ""
        limits = device.kaggle
        sessions = math.ceil(self.hours[1] / (limits.hours - 0.5))  # the last half hour is kept for saving
        return (
            f": {sessions} session(s) of {limits.hours:.0f} h, and as much of the week's {limits.hours_a_week} "
            f"{limits.quota} hours on Kaggle"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `plan.json` and `--json`."""
        return asdict(self) | {"peak_gib": round(self.peak_gib, 2)}


def stock_hours(recipe: Recipe, *, shape: ModelShape, device: Device) -> tuple[float, float]:
    """A low and a high estimate of the hours of a stock trainer with its defaults, for the same recipe.

    It uses ordinary packs, recomputes every block, computes dense attention, and runs the head at every position. The
    original run, 7 hours on a P100, was of this kind.
    """
    ordinary = replace(recipe, pack=replace(recipe.pack, share_prefixes=False))
    counts = typical_counts(ordinary)
    low, high = cost_of_stock(shape, positions=recipe.pack.max_length).seconds(device)
    hours = counts.packs * recipe.train.epochs / device.cards / 3600
    return hours * low * counts.known_to[0], hours * high * counts.known_to[1]


def packs_per_step(recipe: Recipe, counts: PackCounts) -> int:
    """Packs in one optimizer step. It depends on the recipe and the packs only, never on the card.

    With `train.examples_per_step` it is the nearest power of two, so that two or four cards can share a step. Without
    it the effective batch is converted from ordinary packed sequences, and rounded to a multiple of the recipe's
    accumulation, so that all micro-batches have the same size.
    """
    if recipe.train.examples_per_step is not None:
        exact = recipe.train.examples_per_step / max(counts.examples_per_pack, 1.0)
        return max(1, 2 ** round(math.log2(exact)))
    grain = recipe.train.accumulation
    exact = recipe.train.effective_batch / counts.plain_sequences_per_pack
    return max(grain, grain * round(exact / grain))


def optimizer_steps(recipe: Recipe, counts: PackCounts) -> int:
    """Optimizer steps of the whole run. The last step may be padded with empty packs."""
    return math.ceil(counts.packs * recipe.train.epochs / packs_per_step(recipe, counts))


def make_plan(recipe: Recipe, *, shape: ModelShape, counts: PackCounts, device: Device) -> Plan:
    """The fastest plan that fits (`layouts.fastest_layout`).

    Raises:
        UserError: the device has no room for a single pack.
    """
    engine = engine_of(device)
    step = packs_per_step(recipe, counts)
    processes = math.gcd(step, device.cards)
    workload = Workload(
        recipe=recipe,
        shape=shape,
        packs=counts.packs * recipe.train.epochs,
        head_positions=counts.head_positions * recipe.train.epochs,
        packs_per_process=step // processes,
    )
    layout = fastest_layout(workload, device=replace(device, cards=processes), engine=engine)
    dtype, reason = engine.precision(device)
    low, high = (seconds / 3600 for seconds in layout.seconds)
    return Plan(
        device=device.name,
        processes=processes,
        dtype=dtype,
        dtype_reason=reason,
        micro_batch=layout.micro_batch,
        accumulation=workload.packs_per_process // layout.micro_batch,
        packs_per_step=step,
        optimizer_steps=optimizer_steps(recipe, counts),
        recompute=layout.recompute,
        split_weights=layout.split_weights,
        dense_weights=layout.dense_weights,
        head_chunk=HEAD_CHUNK,
        memory=layout.memory,
        hours=(low * counts.known_to[0], high * counts.known_to[1]),
    )
