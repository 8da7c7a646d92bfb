"""Training on a large card as it would run on a smaller one: its plan, its precision, its memory, its kernels.

    fintune-kit train --device t4        on an H100: float16, at most 14.7 GiB, no flash and no cuDNN attention

So a run for a T4 can be tried, and its memory measured, where there is no T4. Seconds are those of the real card.
"""

from dataclasses import replace
from typing import Any

import torch

from fintune_kit.errors import UserError
from fintune_kit.hardware import Machine, choose_dtype
from fintune_kit.plan.devices import GIB, Device
from fintune_kit.plan.engines import find_device

TENSOR_CORES_WITH_BFLOAT16 = (8, 0)
"""From this compute capability on, PyTorch has flash attention, and kernels in Triton are fast."""


def other_card(name: str, machine: Machine) -> Device:
    """The device to plan for in place of this machine's own.

    Args:
        name: `t4`, `p100`, ... as the planner knows it.
        machine: the real one.

    Raises:
        UserError: the name is unknown, or this machine cannot stand in for that device.
    """
    device = find_device(name)
    if device.capability is None or not machine.cards:
        raise UserError(
            f"--device {name} was given on {machine.name}; expected a CUDA card, which behaves as another one: "
            f"leave --device out"
        )
    real = machine.cards[0]
    if device.cards > len(machine.cards) or device.memory_gib * GIB > real.memory_bytes:
        raise UserError(
            f"--device {name} needs {device.cards} card(s) of {device.memory_gib:.1f} GiB, and this machine has "
            f"{machine.name} with {real.memory_bytes / GIB:.1f} GiB; expected a smaller device: name another, or leave "
            f"--device out"
        )
    return device


def as_device(machine: Machine, device: Device) -> Machine:
    """The machine with the number of cards and the compute dtype of another device."""
    dtype, reason = choose_dtype(device.capability)
    return replace(
        machine, cards=machine.cards[: device.cards], dtype=dtype, dtype_reason=f"as {device.name}: {reason}"
    )


def behave_as(device: Device, *, index: int = 0, allow_triton: bool = False) -> None:
    """Restricts this process to what another device has: memory, attention kernels, no Triton. It cannot be undone.

    Args:
        device: from `other_card`.
        index: of the real card that this process uses.
        allow_triton: leave Triton's kernels alone, for a peer that has them.
    """
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, device.memory_gib * GIB / total), index)
    if device.capability is not None and device.capability < TENSOR_CORES_WITH_BFLOAT16:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        if not allow_triton:
            forbid_triton()


def forbid_triton() -> None:
    """Makes the start of any Triton kernel raise: old cards cannot run them, or only slowly."""
    try:
        from triton.runtime.jit import JITFunction
    except ImportError:
        return

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a Triton kernel was started, expected PyTorch's own kernels only")

    JITFunction.run = refuse
