"""The layouts of an optimizer step, and which of those that fit is the fastest.

A step's packs may run in few large micro-batches or in many small ones. Whole blocks may be computed again instead of
being kept. 4-bit weights may be unpacked each time or once. Small micro-batches unpack weights and start kernels more
often; large ones leave less room for activations.
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
"""The part of a device's memory that a layout may take. The rest is for fragments that the arithmetic does not know."""
DENSE_SHARE = 0.85
"""The same where 4-bit weights are unpacked once: that saves a twentieth of the time, and is not worth a tight fit."""
NO_SLOWER = 1.03
"""Layouts within this factor of the fastest count as equally fast: the arithmetic is no better than that."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a whole run computes, whatever the machine."""

    recipe: Recipe
    shape: ModelShape
    packs: int
    """Of all passes over the data."""
    supervised_tokens: int
    """Of all passes over the data."""
    packs_per_process: int
    """Of one optimizer step."""

    @property
    def quantized(self) -> bool:
        """Whether the base lies in memory as NF4."""
        return self.recipe.train.quantization == "nf4"

    @property
    def supervised_share(self) -> float:
        """The part of all pack positions that is supervised."""
        return self.supervised_tokens / max(1, self.packs * self.recipe.pack.max_length)

    @property
    def micro_batches(self) -> list[int]:
        """The sizes that divide a process's share of a step."""
        return [size for size in range(1, self.packs_per_process + 1) if self.packs_per_process % size == 0]


@dataclass(frozen=True, kw_only=True)
class StepLayout:
    """One way to lay out an optimizer step."""

    micro_batch: int
    """Packs of one process in one forward pass."""
    recompute: Recompute
    split_weights: bool = False
    """Whether each device holds a part of the base only (FSDP)."""
    memory: dict[str, int]
    """Peak bytes of one device, by part."""
    seconds: Seconds
    """Of the whole run on all devices, low and high estimate."""
    dense_weights: bool = False
    """Whether 4-bit weights are unpacked once and then kept."""

    @property
    def middle(self) -> float:
        """The geometric mean of both estimates, by which layouts are compared."""
        return math.sqrt(self.seconds[0] * self.seconds[1])


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How one kind of device is planned for: its devices, its precision, and the layouts that fit."""

    kind: str
    devices: tuple[Device, ...]
    """Those that `--device` can name."""
    precision: Callable[[Device], tuple[Dtype, str]]
    """The compute dtype of a device, and the reason."""
    layouts: Callable[[Workload, Device], Iterable[StepLayout]]
    """The layouts that fit a device and are worth considering."""


def first_that_fits(candidates: Iterable[StepLayout], device: Device) -> Iterator[StepLayout]:
    """The first layout that a device has room for, or none. Candidates come from the fastest to the slowest."""
    for layout in candidates:
        share = DENSE_SHARE if layout.dense_weights else MEMORY_SHARE
        if sum(layout.memory.values()) <= share * device.memory_gib * GIB:
            yield layout
            return


def fastest_layout(workload: Workload, *, device: Device, engine: Engine) -> StepLayout:
    """The fastest layout. Among equals: the one with the recipe's accumulation, else with the most memory to spare.

    Raises:
        UserError: not even one pack fits.
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
