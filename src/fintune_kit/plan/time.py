"""Operations of a run, and the hours that they take on a device.

The arithmetic does not know how much of its peak a card reaches: that is a range of the device (`devices.py`).
"""

from fintune_kit.plan.devices import Device
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe

UNPACK = 200.0
"""Operations that fit in the time of unpacking one 4-bit weight: 2.5 bytes at 320 GB/s, beside 25 TFLOP/s (a T4)."""


def operations(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    positions: int,
    supervised: int,
    keys: int,
    recompute: Recompute,
    micro_batches: int = 0,
) -> float:
    """Floating-point operations of one pass over `positions` pack positions, forward and backward.

    A frozen weight costs 2 operations a position forward and 2 backward (no gradient of its own), and 2 more in blocks
    that are repeated; an adapter 2, 4 and 2. The head runs forward and backward on supervised positions.

    Args:
        keys: that a query is multiplied with, masked or not.
        micro_batches: in which 4-bit weights are unpacked; 0 where there are none.
    """
    again = recompute.blocks / shape.layers
    frozen = 2.0 * shape.linear_parameters * (2 + again)
    adapter = 2.0 * shape.adapter_parameters(lora) * (3 + again)
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * keys * (3 + max(again, recompute.cheap_parts))
    head = 2.0 * shape.vocab * shape.hidden * 2
    unpacking = micro_batches * shape.linear_parameters * UNPACK * (2 + again)
    return positions * (frozen + adapter + attention) + supervised * head + unpacking


def hours(work: float, device: Device, *, half_accumulation: bool = False) -> tuple[float, float]:
    """Low and high estimate of the hours that `work` operations take on all of a device's cards."""
    low, high = device.reached
    rate = (device.half_peak_tflops if half_accumulation else device.peak_tflops) * 1e12 * device.cards
    return work / (rate * high) / 3600, work / (rate * low) / 3600
