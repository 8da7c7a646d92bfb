"""A plan: how a machine carries out a recipe. Derived from both, and never part of what is learned.

    packs a step = micro-batch x accumulation x processes

The recipe counts its effective batch in ordinary packed sequences. Packs that share prefixes hold the examples of more
than one such sequence, so a step takes fewer of them: the number of examples a step stays what the recipe means.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, Machine, choose_dtype
from fintune_kit.plan.cost import DEVICES, GIB, Device, ModelShape, Recompute, hours, operations
from fintune_kit.plan.fit import HEAD_CHUNK, fastest_way
from fintune_kit.recipes import Recipe
from fintune_kit.tpu.cost import TPU_DTYPE

ON_KAGGLE = {"p100": (12.0, 30, "GPU"), "t4": (12.0, 30, "GPU"), "t4x2": (12.0, 30, "GPU"), "v5e8": (9.0, 20, "TPU")}
"""Hours of one Kaggle session and of a week, by device; two T4 in one session are counted once."""


@dataclass(frozen=True, kw_only=True)
class PackCounts:
    """What the planner needs to know of the packs."""

    packs: int
    supervised_tokens: int
    plain_sequences_per_pack: float
    """Ordinary packed sequences that one pack stands for: 1.0 without prefix sharing."""
    known_to: tuple[float, float] = (1.0, 1.0)
    """Low and high factor on the counts, where they are assumed rather than counted."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One machine's way through one recipe."""

    device: str
    processes: int
    dtype: str
    dtype_reason: str
    micro_batch: int
    """Packs in one forward pass of one process."""
    accumulation: int
    packs_per_step: int
    """Packs whose gradients make one optimizer step; micro-batch x accumulation x processes, always."""
    optimizer_steps: int
    recompute: Recompute
    """Activations that are computed again in the backward pass instead of being kept."""
    head_chunk: int
    """Rows of logits that exist at once."""
    memory: dict[str, int]
    """Predicted peak bytes on one card, by part."""
    hours: tuple[float, float]
    """Predicted, low and high; see `cost.DEVICES` for what is assumed."""

    def __post_init__(self) -> None:
        assert self.packs_per_step == self.micro_batch * self.accumulation * self.processes, self

    @property
    def peak_gib(self) -> float:
        """Predicted peak of one card."""
        return sum(self.memory.values()) / GIB

    def describe(self) -> str:
        """The plan in lines, for the notebook and the terminal."""
        low, high = self.hours
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.memory.items() if size)
        return "\n".join(
            [
                f"device           {self.device}, {self.processes} process(es)",
                f"precision        {self.dtype}: {self.dtype_reason}",
                f"effective batch  {self.packs_per_step} packs = {self.micro_batch} a micro-batch "
                f"x {self.accumulation} accumulated x {self.processes} process(es)",
                f"optimizer steps  {self.optimizer_steps}",
                f"recomputed       {self.recompute.describe()}",
                f"memory           {self.peak_gib:.2f} GiB a card, estimated: {parts}",
                f"time             {low:.2f} to {high:.2f} h, estimated{self._on_kaggle()}",
            ]
        )

    def _on_kaggle(self) -> str:
        if self.device not in ON_KAGGLE:
            return ""
        session, week, kind = ON_KAGGLE[self.device]
        sessions = math.ceil(self.hours[1] / (session - 0.5))  # the last half hour is kept for saving
        return f": {sessions} session(s) of {session:.0f} h, and as much of the week's {week} {kind} hours on Kaggle"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `plan.json` and `--json`."""
        return asdict(self) | {"peak_gib": round(self.peak_gib, 2)}


TOKENS_PER_EXAMPLE = (160, 225, 290)
"""Low, middle and high: 158 on a stand-in for Sujet without rows over 2,048 tokens, 230 to 290 by Sujet's own size."""
SHARED = 0.6
"""What prefix sharing leaves of the tokens, on a stand-in for Sujet; only assumed until the real packs are there."""


def typical_counts(recipe: Recipe) -> PackCounts:
    """Packs that a recipe's data would give, for a plan before there are any."""
    fewest, tokens, most = TOKENS_PER_EXAMPLE
    plain = recipe.data.examples * tokens / recipe.pack.max_length
    packs = math.ceil(plain * (SHARED if recipe.pack.share_prefixes else 1.0))
    supervised = round(plain * recipe.pack.max_length * 0.13)
    return PackCounts(
        packs=packs,
        supervised_tokens=supervised,
        plain_sequences_per_pack=max(1.0, plain / packs),
        known_to=(fewest / tokens, most / tokens),
    )


def stock_hours(recipe: Recipe, *, shape: ModelShape, device: Device) -> tuple[float, float]:
    """Low and high estimate of the hours of the same recipe by a stock trainer with its defaults: ordinary packs, every
    block checkpointed, dense attention, the head at every position. The original's 7 hours on a P100 are such ones.
    """
    ordinary = replace(recipe, pack=replace(recipe.pack, share_prefixes=False))
    counts = typical_counts(ordinary)
    packs = counts.packs * recipe.train.epochs
    work = operations(
        shape,
        lora=recipe.lora,
        positions=packs * recipe.pack.max_length,
        supervised=packs * recipe.pack.max_length,
        keys=recipe.pack.max_length,
        recompute=Recompute(blocks=shape.layers),
        micro_batches=packs if recipe.train.quantization == "nf4" else 0,
    )
    low, high = hours(work, device)
    return low * counts.known_to[0], high * counts.known_to[1]


def packs_per_step(recipe: Recipe, counts: PackCounts) -> int:
    """Packs in one optimizer step: the recipe's effective batch, translated from ordinary packed sequences.

    Rounded to a multiple of the recipe's accumulation, so that micro-batches come out even. Depends on the recipe and
    the packs only, never on the card.
    """
    grain = recipe.train.accumulation
    exact = recipe.train.effective_batch / counts.plain_sequences_per_pack
    return max(grain, grain * round(exact / grain))


def optimizer_steps(recipe: Recipe, counts: PackCounts) -> int:
    """Optimizer steps of the whole run; the last one may be filled up with empty packs."""
    return math.ceil(counts.packs * recipe.train.epochs / packs_per_step(recipe, counts))


def make_plan(recipe: Recipe, *, shape: ModelShape, counts: PackCounts, device: Device) -> Plan:
    """The fastest plan that fits (`fit.fastest_way`).

    Raises:
        UserError: not even one pack fits the card.
    """
    on_tpu = device.kind == "tpu"
    dtype, reason = TPU_DTYPE if on_tpu else choose_dtype(device.capability)
    step = packs_per_step(recipe, counts)
    processes = math.gcd(step, device.cards)
    packs = counts.packs * recipe.train.epochs
    way = fastest_way(
        recipe,
        shape=shape,
        device=replace(device, cards=processes),
        half=dtype != "float32",
        packs=packs,
        supervised=counts.supervised_tokens * recipe.train.epochs,
        packs_per_process=step // processes,
    )
    low, high = hours(way.work, device, half_accumulation=recipe.train.half_accumulation)
    return Plan(
        device=device.name,
        processes=processes,
        dtype=dtype,
        dtype_reason=reason,
        micro_batch=way.micro_batch,
        accumulation=step // processes // way.micro_batch,
        packs_per_step=step,
        optimizer_steps=optimizer_steps(recipe, counts),
        recompute=way.recompute,
        head_chunk=HEAD_CHUNK,
        memory=way.memory,
        hours=(low * counts.known_to[0], high * counts.known_to[1]),
    )


def device_of(machine: Machine, *, processes: int | None = None) -> Device:
    """The planner's entry for this machine: a known card by its name, with the memory that it really has.

    Args:
        processes: how many will run, each on a card of its own or a share of the CPU; None for one a card.
    """
    if machine.kind == "cpu":
        count = processes or 1
        return replace(DEVICES["cpu"], cards=count, memory_gib=DEVICES["cpu"].memory_gib / count)
    card, count = machine.cards[0], processes or len(machine.cards)
    named = [d for key, d in DEVICES.items() if d.cards == 1 and key in card.name.lower()]
    known = named[0] if named else _nearest(card)
    return replace(
        known,
        name=known.name if count == 1 else f"{known.name}x{count}",
        cards=count,
        memory_gib=card.memory_bytes / GIB,
        capability=card.capability,
        assumption=known.assumption if named else f"{card.name} is not known; rates of the {known.name}",
    )


def _nearest(card: Card) -> Device:
    """The known card of the nearest generation, and among these of the nearest memory."""
    gib = card.memory_bytes / GIB
    singles = [d for d in DEVICES.values() if d.capability is not None and d.cards == 1]
    return min(singles, key=lambda d: (abs(d.capability[0] - card.capability[0]), abs(d.memory_gib - gib)))  # type: ignore[index]


def find_device(name: str) -> Device:
    """An entry of the planner's table.

    Raises:
        UserError: there is none of this name.
    """
    if name not in DEVICES:
        raise UserError(f"there is no device {name!r}; expected one of {', '.join(DEVICES)}: check --device")
    return DEVICES[name]
