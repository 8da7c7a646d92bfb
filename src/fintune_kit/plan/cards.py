"""The engines for CUDA cards and for a CPU. They compute memory and time of each layout of an optimizer step."""

from collections.abc import Iterator

from fintune_kit.hardware import choose_dtype
from fintune_kit.plan.devices import CARDS, CPU, Device
from fintune_kit.plan.layouts import Dtype, Engine, StepLayout, Workload, first_that_fits
from fintune_kit.plan.memory import NF4_BYTES, Precision, Recompute, memory_by_part
from fintune_kit.plan.time import Seconds, cost_of_micro_batch

HEAD_CHUNK = 256
"""Positions whose logits exist at once."""
KEYS = 600
"""Keys that are multiplied with a query, measured in packs of 2,048 of a stand-in for Sujet. At least 518 are needed.
With padding (`train.batch`) they are 572 for one pack at a time and 596 for four."""


def candidates(
    workload: Workload, device: Device, *, micro_batch: int, dense: bool = False, split: bool = False
) -> Iterator[StepLayout]:
    """The layouts with this micro-batch, from the fastest (no block recomputed) to the slowest (all recomputed)."""
    for blocks in range(workload.shape.layers + 1):
        yield layout_of(workload, device, micro_batch=micro_batch, blocks=blocks, dense=dense, split=split)


def layout_of(
    workload: Workload, device: Device, *, micro_batch: int, blocks: int, dense: bool = False, split: bool = False
) -> StepLayout:
    """One layout with its memory and its time.

    Args:
        dense: whether 4-bit weights are unpacked once.
        split: whether each card holds only a part of the 4-bit weights (`train.blocks.split`).
    """
    recipe, shape = workload.recipe, workload.shape
    length = recipe.pack.max_length
    precision = Precision(dtype=_precision(device)[0], quantized=workload.quantized, dense_weights=dense)
    memory = memory_by_part(
        shape,
        lora=recipe.lora,
        precision=precision,
        max_length=length,
        micro_batch=micro_batch,
        recompute=Recompute(blocks=blocks),
        head_chunk=HEAD_CHUNK,
        keys=min(length, KEYS),
        head_share=workload.head_share,
        on_card=device.kind != "cpu",
        processes=device.cards,
        split_weights=split,
    )
    low, high = _seconds(workload, device, precision=precision, micro_batch=micro_batch, blocks=blocks)
    if split:
        slow_link, link = device.link
        gathered = _gathered_gb(workload, device, micro_batch=micro_batch, blocks=blocks)
        low, high = low + gathered / link, high + gathered / slow_link
    return StepLayout(
        micro_batch=micro_batch,
        recompute=Recompute(blocks=blocks),
        dense_weights=dense,
        split_weights=split,
        memory=memory,
        seconds=(low, high),
    )


def _gathered_gb(workload: Workload, device: Device, *, micro_batch: int, blocks: int) -> float:
    """GB of split weights that a card receives in the whole run: forward, backward, and for each recomputed block."""
    rounds = workload.packs / (micro_batch * device.cards)
    passes = 2 + blocks / workload.shape.layers
    of_others = workload.shape.linear_parameters * NF4_BYTES * (1 - 1 / device.cards)
    return rounds * passes * of_others / 1e9


def _seconds(workload: Workload, device: Device, *, precision: Precision, micro_batch: int, blocks: int) -> Seconds:
    """The seconds of the whole run: micro-batches and, with several cards, the messages of each step."""
    recipe, shape = workload.recipe, workload.shape
    positions = micro_batch * recipe.pack.max_length
    cost = cost_of_micro_batch(
        shape,
        lora=recipe.lora,
        precision=precision,
        positions=positions,
        head_positions=positions * workload.head_share,
        keys=min(recipe.pack.max_length, KEYS),
        blocks=blocks,
    )
    faster = device.faster_in_half if recipe.train.half_accumulation else 1.0
    low, high = cost.seconds(device, faster=faster)
    rounds = workload.packs / (micro_batch * device.cards)
    # Gradients go to the other cards and back.
    gradients = 8 * shape.adapter_parameters(recipe.lora) / 1e9 if device.cards > 1 else 0.0
    steps = workload.packs / (workload.packs_per_process * device.cards)
    slow_link, link = device.link
    return rounds * low + steps * gradients / link, rounds * high + steps * gradients / slow_link


def _layouts_of_card(workload: Workload, device: Device) -> list[StepLayout]:
    found: list[StepLayout] = []
    for dense in (False, True)[: 1 + workload.quantized]:
        for size in workload.micro_batches:
            found += first_that_fits(candidates(workload, device, micro_batch=size, dense=dense), device)
    if found or not workload.quantized or device.cards == 1:
        return found
    for size in workload.micro_batches:  # no card holds the whole base and a step of it
        found += first_that_fits(candidates(workload, device, micro_batch=size, split=True), device)
    return found


def _layouts_of_cpu(workload: Workload, device: Device) -> list[StepLayout]:
    """One layout only, because a single pack stays in the caches (10 against 14 s a pack, two cores, 42 M model)."""
    single = candidates(workload, device, micro_batch=1)
    return list(first_that_fits(single, device))


def _precision(device: Device) -> tuple[Dtype, str]:
    return choose_dtype(device.capability)


CUDA_ENGINE = Engine(kind="cuda", devices=CARDS, precision=_precision, layouts=_layouts_of_card)
CPU_ENGINE = Engine(kind="cpu", devices=(CPU,), precision=_precision, layouts=_layouts_of_cpu)
