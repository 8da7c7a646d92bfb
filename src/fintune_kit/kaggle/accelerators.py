"""Kaggle's machine shapes: which there are, which it has retired, and what a session that got one can see.

Kaggle does not refuse a shape that is retired or not granted: it runs the session on another. So a push is checked
against this table before anything is sent, and the session compares its card with it before anything is spent.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One value of `machine_shape`."""

    kind: Literal["gpu", "tpu"]
    card: str
    """Part of the name that the driver reports for each of its cards."""
    says: str
    needs_competition: bool = False
    """Granted to participants of certain competitions only (kaggle-cli docs/kernels.md)."""


SHAPES = {
    "NvidiaTeslaT4": Shape(kind="gpu", card="T4", says="GPU T4 x2"),
    "TpuV5E8": Shape(kind="tpu", card="TPU", says="TPU v5e-8"),
    "NvidiaL4": Shape(kind="gpu", card="L4", says="GPU L4", needs_competition=True),
    "NvidiaL4X1": Shape(kind="gpu", card="L4", says="GPU L4 x1", needs_competition=True),
    "NvidiaTeslaA100": Shape(kind="gpu", card="A100", says="GPU A100", needs_competition=True),
    "NvidiaH100": Shape(kind="gpu", card="H100", says="GPU H100", needs_competition=True),
    "NvidiaRtxPro6000": Shape(kind="gpu", card="RTX PRO 6000", says="GPU RTX Pro 6000", needs_competition=True),
}

RETIRED_ON = "2026-09-15"
RETIRED = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "",
    "TpuV2256": "",
}
"""What the server silently runs instead (kaggle 2.2.5); the empty shape is a CPU."""

SESSION_BUDGET = {"gpu": "11h30m", "tpu": "8h30m", "cpu": "11h30m"}
"""Half an hour less than a session lasts (12 hours, 9 on TPU): the time to save, and what the clocks differ by."""


def kind_of(accelerator: str | None) -> Literal["cpu", "gpu", "tpu"]:
    """What a kernel with this machine shape draws on: a CPU kernel has no quota, GPU and TPU each have one a week."""
    if not accelerator:
        return "cpu"
    shape = SHAPES.get(accelerator)
    return shape.kind if shape else "tpu" if accelerator.lower().startswith("tpu") else "gpu"


def fault_of(accelerator: str) -> str | None:
    """What is wrong with asking for this machine shape, or None. The empty shape is a CPU."""
    if not accelerator or accelerator in SHAPES:
        return None
    if accelerator in RETIRED:
        instead = RETIRED[accelerator] or "null, a CPU"
        return (
            f"accelerator {accelerator} was retired by Kaggle on {RETIRED_ON} and would silently run on "
            f"{RETIRED[accelerator] or 'a CPU'}; ask for {instead}, or pass --force-accelerator"
        )
    return (
        f"accelerator {accelerator} is not one that Kaggle names ({', '.join(SHAPES)}), and an unknown one silently "
        f"becomes another; correct it, or pass --force-accelerator"
    )
