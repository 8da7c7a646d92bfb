"""The ways of doing an optimizer step that fit a device, and which of them is the fastest.

A step's packs may run in few large micro-batches or many small ones; activations may all be kept, the cheap ones be
recomputed, or whole blocks too, as many as memory asks for. Small micro-batches read the 4-bit weights more often;
large ones leave less room for activations. The arithmetic of `cost.py` decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from fintune_kit.errors import UserError
from fintune_kit.plan.cost import GIB, Device, ModelShape, Recompute, memory_by_part, operations
from fintune_kit.recipes import Recipe
from fintune_kit.tpu.attention import block_of
from fintune_kit.tpu.cost import SPLIT, memory_on_tpu

MARGIN = 0.94
"""Of a card's memory; the rest is for fragments that the arithmetic does not know."""
HEAD_CHUNK = 256
"""Rows of logits that exist at once."""
NO_SLOWER = 1.03
"""Work within this factor of the least is taken for equal: the arithmetic is no better than that."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way that fits."""

    micro_batch: int
    recompute: Recompute
    memory: dict[str, int]
    """Peak bytes of one card, by part."""
    work: float
    """Operations of the whole run on all cards."""


def fastest_way(
    recipe: Recipe,
    *,
    shape: ModelShape,
    device: Device,
    half: bool,
    packs: int,
    supervised: int,
    packs_per_process: int,
) -> Way:
    """The way with the least work; among equals the one with the recipe's accumulation, else
    the one with the most memory to spare.

    Args:
        half: whether the compute dtype has two bytes.
        packs, supervised: pack positions' and supervised tokens' share of the whole run, all passes.
        packs_per_process: of one optimizer step.

    Raises:
        UserError: not even one pack fits.
    """
    if device.kind == "tpu":
        that_fit = partial(_that_fit_on_tpu, recipe, shape=shape, device=device)
    else:
        share = supervised / max(1, packs * recipe.pack.max_length)
        that_fit = partial(_that_fit, recipe, shape=shape, device=device, half=half, supervised_share=share)
    work = partial(_work, recipe, shape=shape, device=device, packs=packs, supervised=supervised)
    ways = [
        Way(micro_batch=size, recompute=recompute, memory=memory, work=work(micro_batch=size, recompute=recompute))
        for size in range(1, packs_per_process + 1)
        if packs_per_process % size == 0
        for recompute, memory in that_fit(micro_batch=size)
    ]
    if not ways:
        raise UserError(
            f"{device.name} has {device.memory_gib:.1f} GiB a card, too little for one pack of "
            f"{recipe.pack.max_length} positions: take a smaller model (FINTUNE_MODEL) or a larger card"
        )
    if device.kind == "cpu":  # one pack at a time stays in the caches: 10 against 14 s a pack, two cores, 42 M model
        return min(ways, key=lambda way: (way.recompute.cost, way.micro_batch))
    whole = [way for way in ways if SPLIT not in way.memory] or ways
    least = min(way.work for way in whole)
    equals = [way for way in whole if way.work <= NO_SLOWER * least]
    wanted = packs_per_process / recipe.train.accumulation
    return min(equals, key=lambda way: (way.micro_batch != wanted, sum(way.memory.values())))


def _work(
    recipe: Recipe,
    *,
    shape: ModelShape,
    device: Device,
    packs: int,
    supervised: int,
    micro_batch: int,
    recompute: Recompute,
) -> float:
    length = recipe.pack.max_length
    return operations(
        shape,
        lora=recipe.lora,
        positions=packs * length,
        supervised=supervised,
        keys=keys_per_query(device, micro_batch=micro_batch, max_length=length, head_dim=shape.head_dim),
        recompute=recompute,
        micro_batches=packs // micro_batch if recipe.train.quantization == "nf4" else 0,
    )


def keys_per_query(device: Device, *, micro_batch: int, max_length: int, head_dim: int) -> int:
    """Keys that a query is multiplied with, measured on stand-ins for Sujet in packs of 2,048.

    Chunk by chunk (`attention.query_chunks`): 531 for one pack at a time, 859 for five, which share the deepest one's.
    On a TPU in blocks of 512 (`tpu.attention`): 1,191, in blocks of 256 it would be 818 and of 128 561; all of them
    where heads are too small for the kernel.
    """
    if device.kind != "tpu":
        return min(max_length, 450 + 80 * micro_batch)
    by_blocks = block_of(length=max_length, head_dim=head_dim, platform="tpu") is not None
    return min(max_length, 1_191) if by_blocks else max_length


def _that_fit(
    recipe: Recipe, *, shape: ModelShape, device: Device, half: bool, micro_batch: int, supervised_share: float
) -> Iterator[tuple[Recompute, dict[str, int]]]:
    """What to recompute, from nothing to everything: the first that fits, since more only costs more."""
    room = round(MARGIN * device.memory_gib * GIB)
    steps = [Recompute(), *(Recompute(cheap_parts=True, blocks=count) for count in range(shape.layers + 1))]
    for recompute in steps:
        memory = memory_by_part(
            shape,
            lora=recipe.lora,
            max_length=recipe.pack.max_length,
            micro_batch=micro_batch,
            recompute=recompute,
            half=half,
            quantized=recipe.train.quantization == "nf4",
            head_chunk=HEAD_CHUNK,
            keys=keys_per_query(
                device, micro_batch=micro_batch, max_length=recipe.pack.max_length, head_dim=shape.head_dim
            ),
            supervised_share=supervised_share,
            context_bytes=0 if device.kind == "cpu" else 700 * 2**20,
        )
        if sum(memory.values()) <= room:
            yield recompute, memory
            return


def _that_fit_on_tpu(
    recipe: Recipe, *, shape: ModelShape, device: Device, micro_batch: int
) -> Iterator[tuple[Recompute, dict[str, int]]]:
    """The same on a TPU, where all blocks are one to the compiler: with whole weights, and with split ones.

    The cheap parts are always recomputed there: to keep them as well takes 29.8 GiB for the 3B and saves no product.
    """
    room = round(MARGIN * device.memory_gib * GIB)
    for split_weights in (False, True)[: 1 + (device.cards > 1)]:
        for recompute in (Recompute(cheap_parts=True), Recompute(blocks=shape.layers)):
            memory = memory_on_tpu(
                shape,
                lora=recipe.lora,
                max_length=recipe.pack.max_length,
                micro_batch=micro_batch,
                recompute=recompute,
                devices=device.cards,
                split_weights=split_weights,
                head_chunk=HEAD_CHUNK,
            )
            if sum(memory.values()) <= room:
                yield recompute, memory
                break
