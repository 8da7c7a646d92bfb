"""The engines for CUDA cards and for a CPU: which layouts of a step fit, and how much work each one is."""

from collections.abc import Iterator

from fintune_kit.hardware import choose_dtype
from fintune_kit.plan.devices import CARDS, CPU, Device
from fintune_kit.plan.layouts import Dtype, Engine, StepLayout, Workload, first_that_fits
from fintune_kit.plan.memory import CONTEXT_BYTES, Recompute, memory_by_part
from fintune_kit.plan.time import operations

HEAD_CHUNK = 256
"""Positions whose logits exist at once."""


def keys_per_query(micro_batch: int, *, max_length: int) -> int:
    """Keys that a query is multiplied with, measured on stand-ins for Sujet in packs of 2,048.

    Queries run in chunks (`train.attention`): 531 keys for one pack at a time, 859 for five, because packs that run
    together take as many keys as the deepest of them.
    """
    return min(max_length, 450 + 80 * micro_batch)


def candidates(workload: Workload, device: Device, *, micro_batch: int) -> Iterator[StepLayout]:
    """The layouts with this micro-batch, from nothing recomputed to everything: from the least work to the most."""
    blocks = range(workload.shape.layers + 1)
    for recompute in (Recompute(), *(Recompute(cheap_parts=True, blocks=count) for count in blocks)):
        yield layout_of(workload, device, micro_batch=micro_batch, recompute=recompute)


def layout_of(workload: Workload, device: Device, *, micro_batch: int, recompute: Recompute) -> StepLayout:
    """One layout with its memory and its work."""
    recipe, shape = workload.recipe, workload.shape
    length = recipe.pack.max_length
    keys = keys_per_query(micro_batch, max_length=length)
    memory = memory_by_part(
        shape,
        lora=recipe.lora,
        max_length=length,
        micro_batch=micro_batch,
        recompute=recompute,
        half=_precision(device)[0] != "float32",
        quantized=workload.quantized,
        head_chunk=HEAD_CHUNK,
        keys=keys,
        supervised_share=workload.supervised_share,
        context_bytes=0 if device.kind == "cpu" else CONTEXT_BYTES,
    )
    work = operations(
        shape,
        lora=recipe.lora,
        positions=workload.packs * length,
        supervised=workload.supervised_tokens,
        keys=keys,
        recompute=recompute,
        micro_batches=workload.packs // micro_batch if workload.quantized else 0,
    )
    return StepLayout(micro_batch=micro_batch, recompute=recompute, memory=memory, work=work)


def _layouts_of_card(workload: Workload, device: Device) -> list[StepLayout]:
    found: list[StepLayout] = []
    for size in workload.micro_batches:
        found += first_that_fits(candidates(workload, device, micro_batch=size), device)
    return found


def _layouts_of_cpu(workload: Workload, device: Device) -> list[StepLayout]:
    """One layout only: one pack at a time stays in the caches (10 against 14 s a pack, two cores, 42 M model)."""
    found = _layouts_of_card(workload, device)
    return [min(found, key=lambda layout: (layout.recompute.cost, layout.micro_batch))] if found else []


def _precision(device: Device) -> tuple[Dtype, str]:
    return choose_dtype(device.capability)


CUDA_ENGINE = Engine(kind="cuda", devices=CARDS, precision=_precision, layouts=_layouts_of_card)
CPU_ENGINE = Engine(kind="cpu", devices=(CPU,), precision=_precision, layouts=_layouts_of_cpu)
