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
from fintune_kit.recipes import Recipe
from fintune_kit.train.cost import DEVICES, GIB, Device, ModelShape, hours, memory_by_part, operations
from fintune_kit.train.tpu_cost import SPLIT, TPU_DTYPE, memory_on_tpu

MARGIN = 0.94
"""Of a card's memory; the rest is for fragments that the arithmetic does not know."""
SESSION_HOURS = 12.0
"""Of one Kaggle GPU session."""


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
    checkpointing: bool
    """Repeat each block's forward pass in the backward pass instead of keeping its activations."""
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
        sessions = math.ceil(high / (SESSION_HOURS - 0.5))
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.memory.items() if size)
        return "\n".join(
            [
                f"device           {self.device}, {self.processes} process(es)",
                f"precision        {self.dtype}: {self.dtype_reason}",
                f"effective batch  {self.packs_per_step} packs = {self.micro_batch} a micro-batch "
                f"x {self.accumulation} accumulated x {self.processes} process(es)",
                f"optimizer steps  {self.optimizer_steps}",
                f"checkpointing    {'of every block' if self.checkpointing else 'none needed'}",
                f"memory           {self.peak_gib:.2f} GiB a card, estimated: {parts}",
                f"time             {low:.2f} to {high:.2f} h, estimated: {sessions} session(s) of "
                f"{SESSION_HOURS:.0f} h",
            ]
        )

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
    """The fastest plan that fits: without checkpointing if it can, then the largest micro-batch, preferring the
    recipe's accumulation where it fits.

    Raises:
        UserError: not even one pack fits the card.
    """
    on_tpu = device.kind == "tpu"
    dtype, reason = TPU_DTYPE if on_tpu else choose_dtype(device.capability)
    step = packs_per_step(recipe, counts)
    processes = math.gcd(step, device.cards)
    share = counts.supervised_tokens / max(1, counts.packs * recipe.pack.max_length)
    candidates = []
    for checkpointing in (False, True):
        for micro_batch in _divisors(step // processes):
            memory = memory_by_part(
                shape,
                lora=recipe.lora,
                max_length=recipe.pack.max_length,
                micro_batch=micro_batch,
                checkpointing=checkpointing,
                half=dtype != "float32",
                quantized=recipe.train.quantization == "nf4",
                head_chunk=256,
                supervised_share=share,
                context_bytes=0 if device.kind == "cpu" else 700 * 2**20,
            )
            if on_tpu:
                memory = memory_on_tpu(
                    shape,
                    lora=recipe.lora,
                    max_length=recipe.pack.max_length,
                    micro_batch=micro_batch,
                    checkpointing=checkpointing,
                    devices=processes,
                    room=round(MARGIN * device.memory_gib * GIB),
                )
            if sum(memory.values()) <= MARGIN * device.memory_gib * GIB:
                candidates.append((checkpointing, micro_batch, memory))
    if not candidates:
        raise UserError(
            f"{device.name} has {device.memory_gib:.1f} GiB a card, too little for one pack of "
            f"{recipe.pack.max_length} positions: take a smaller model (FINTUNE_MODEL) or a larger card"
        )
    checkpointing, micro_batch, memory = min(
        candidates, key=lambda c: (SPLIT in c[2], c[0], _preference(c[1], step // processes, recipe.train.accumulation))
    )
    positions = counts.packs * recipe.train.epochs * recipe.pack.max_length
    work = operations(
        shape,
        lora=recipe.lora,
        positions=positions,
        supervised=counts.supervised_tokens * recipe.train.epochs,
        max_length=recipe.pack.max_length,
        checkpointing=checkpointing,
    )
    low, high = hours(work, device)
    return Plan(
        device=device.name,
        processes=processes,
        dtype=dtype,
        dtype_reason=reason,
        micro_batch=micro_batch,
        accumulation=step // processes // micro_batch,
        packs_per_step=step,
        optimizer_steps=optimizer_steps(recipe, counts),
        checkpointing=checkpointing,
        head_chunk=256,
        memory=memory,
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


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _preference(micro_batch: int, packs: int, accumulation: int) -> tuple[int, int]:
    """The recipe's accumulation where it fits, else the nearest larger one (smaller micro-batches)."""
    needed = packs // micro_batch
    return (0 if needed >= accumulation else 1, abs(needed - accumulation))
