"""Kaggle's machine shapes: those that exist, those that were retired, and the cards of each.

Kaggle does not refuse a shape that is retired or not granted. It silently runs the session on another machine. So a
shape is checked twice: before a push against this table, and at the start of a session against its cards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fintune_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One value of `machine_shape`."""

    kind: Literal["gpu", "tpu"]
    card: str
    """Part of the name that the driver reports for each card."""
    label: str
    """Its name in Kaggle's menu."""


SHAPES = {
    "NvidiaTeslaT4": Shape(kind="gpu", card="T4", label="GPU T4 x2"),
    "TpuV5E8": Shape(kind="tpu", card="TPU", label="TPU v5e-8"),
    # Kaggle grants these to participants of certain competitions (kaggle-cli docs/kernels.md).
    "NvidiaL4": Shape(kind="gpu", card="L4", label="GPU L4"),
    "NvidiaL4X1": Shape(kind="gpu", card="L4", label="GPU L4 x1"),
    "NvidiaTeslaA100": Shape(kind="gpu", card="A100", label="GPU A100"),
    "NvidiaH100": Shape(kind="gpu", card="H100", label="GPU H100"),
    "NvidiaRtxPro6000": Shape(kind="gpu", card="RTX PRO 6000", label="GPU RTX Pro 6000"),
}

RETIRED_ON = "2026-09-15"
RETIRED = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "",
    "TpuV2256": "",
}
"""Each retired shape and the one that the server runs in its place (kaggle 2.2.5). The empty shape is a CPU."""

SESSION_BUDGET = {"gpu": "11h30m", "tpu": "8h30m", "cpu": "11h30m"}
"""Half an hour less than a session lasts (12 hours; 9 on a TPU). The half hour is for saving."""


def kind_of(accelerator: str | None) -> Literal["cpu", "gpu", "tpu"]:
    """Which weekly quota a kernel with this machine shape uses. A CPU kernel uses none."""
    if not accelerator:
        return "cpu"
    shape = SHAPES.get(accelerator)
    return shape.kind if shape else "tpu" if accelerator.lower().startswith("tpu") else "gpu"


def find_accelerator_fault(accelerator: str) -> str | None:
    """A sentence about a machine shape that Kaggle would replace, or None. The empty shape is a CPU."""
    if not accelerator or accelerator in SHAPES:
        return None
    if accelerator in RETIRED:
        replacement = RETIRED[accelerator]
        return (
            f"Kaggle retired the accelerator {accelerator} on {RETIRED_ON} and would silently run the session on "
            f"{replacement or 'a CPU'}; ask for {replacement or 'null (a CPU)'}, or pass --force-accelerator"
        )
    return (
        f"Kaggle has no accelerator {accelerator} and would silently choose another; expected one of "
        f"{', '.join(SHAPES)}: correct it, or pass --force-accelerator"
    )


def check_card(accelerator: str | None, cards: Sequence[str]) -> None:
    """Checks that a session has the cards of the requested machine shape. A CPU kernel may run anywhere.

    Raises:
        UserError: the session runs on another machine.
    """
    shape = SHAPES.get(accelerator or "")
    if shape is None or shape.kind == "tpu":  # CUDA does not see a TPU; the TPU notebook counts its chips itself
        return
    if not any(shape.card in card for card in cards):
        raise UserError(
            f"this session runs on {', '.join(cards) or 'a CPU'}, but {accelerator} ({shape.label}) was asked for: "
            f"check the weekly quota and the phone verification (kaggle.com/settings), then push again"
        )
