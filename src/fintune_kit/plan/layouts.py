"""The possible layouts of an optimizer step, and the fastest one that fits.

A step's packs can run in a few large micro-batches or in many small ones. Whole blocks can be kept or computed again.
4-bit weights can be unpacked at each use or once. Small micro-batches unpack weights and start kernels more often.
Large ones need more memory for activations.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fintune_kit.errors import UserError
from fintune_kit.plan.devices import GIB, Device
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.plan.time import Seconds
from fintune_kit.recipes import Recipe

Dtype = Literal["float32", "float16", "bfloat16"]

MEMORY_SHARE = 0.94
"""The share of a device's memory that a layout may take. The rest is for fragmentation, which is not computed."""
DENSE_SHARE = 0.85
"""The same if 4-bit weights are unpacked once. That saves a twentieth of the time, which is not worth a tight fit."""
NO_SLOWER = 1.03
"""Layouts within this factor of the fastest one count as equally fast, because the estimates are not more exact."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of a whole run, on any machine."""

    recipe: Recipe
    shape: ModelShape
    packs: int
    """In all passes over the data."""
    head_positions: int
    """Positions that the head scores, in all passes over the data."""
    packs_per_process: int
    """In one optimizer step."""

    @property
    def quantized(self) -> bool:
        """Whether the base is in memory as NF4."""
        return self.recipe.train.quantization == "nf4"

    @property
    def head_share(self) -> float:
        """The share of all pack positions that the head scores."""
        return self.head_positions / max(1, self.packs * self.recipe.pack.max_length)

    @property
    def micro_batches(self) -> list[int]:
        """The micro-batches that divide a process's packs of a step without a rest."""
        return [size for size in range(1, self.packs_per_process + 1) if self.packs_per_process % size == 0]


@dataclass(frozen=True, kw_only=True)
class StepLayout:
    """One possible layout of an optimizer step."""

    micro_batch: int
    """Packs of one process in one forward pass."""
    recompute: Recompute
    split_weights: bool = False
    """Whether each device holds only a part of the base (FSDP)."""
    memory: dict[str, int]
    """Peak bytes of one device, by part."""
    seconds: Seconds
    """The time of the whole run on all devices, low and high estimate."""
    dense_weights: bool = False
    """Whether 4-bit weights are unpacked once and then kept."""

    @property
    def middle(self) -> float:
        """The geometric mean of both estimates. Layouts are compared by it."""
        return math.sqrt(self.seconds[0] * self.seconds[1])


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The planner's functions for one kind of device."""

    kind: str
    devices: tuple[Device, ...]
    """The devices for `--device`."""
    precision: Callable[[Device], tuple[Dtype, str]]
    """The compute dtype of a device, and the reason."""
    layouts: Callable[[Workload, Device], Iterable[StepLayout]]
    """The layouts that fit a device. Those that cannot be the fastest may be left out."""


def first_that_fits(candidates: Iterable[StepLayout], device: Device) -> Iterator[StepLayout]:
    """Yields the first layout that fits the device, or nothing.

    Args:
        candidates: from the fastest to the slowest.
    """
    for layout in candidates:
        share = DENSE_SHARE if layout.dense_weights else MEMORY_SHARE
        if sum(layout.memory.values()) <= share * device.memory_gib * GIB:
            yield layout
            return


def fastest_layout(workload: Workload, *, device: Device, engine: Engine) -> StepLayout:
    """The fastest layout. Among equally fast ones: that with the recipe's accumulation, else with the least memory.

    Raises:
        UserError: the device has no room for a single pack.
    """
    layouts = list(engine.layouts(workload, device))
    if not layouts:
        raise UserError(
            f"{device.name} has {device.memory_gib:.1f} GiB a card, too little for one pack of "
            f"{workload.recipe.pack.max_length} positions: take a smaller model (FINTUNE_MODEL) or a larger card"
        )
    fastest = min(layout.middle for layout in layouts)
    equals = [layout for layout in layouts if layout.middle <= NO_SLOWER * fastest]
    wanted = workload.packs_per_process / workload.recipe.train.accumulation
    return min(equals, key=lambda layout: (layout.micro_batch != wanted, sum(layout.memory.values())))
