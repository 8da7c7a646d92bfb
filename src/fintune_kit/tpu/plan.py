"""The planner's engine for a TPU, and the plan for JAX's devices.

A TPU differs from a card. There is no quantization, and AdamW's moments are float32. The compiler treats all blocks
alike, so either all of them are recomputed or none. A block's weights can be split over the devices.
"""

from collections.abc import Iterator
from dataclasses import replace

from fintune_kit.plan.cards import HEAD_CHUNK
from fintune_kit.plan.counts import PackCounts
from fintune_kit.plan.devices import CPU, Device, KaggleSession
from fintune_kit.plan.layouts import Dtype, Engine, StepLayout, Workload, first_that_fits
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.plan import Plan, make_plan
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import Recipe
from fintune_kit.tpu.attention import block_of
from fintune_kit.tpu.memory import memory_on_tpu

V5E8 = Device(
    name="v5e8",
    kind="tpu",
    cards=8,
    memory_gib=15.75,
    capability=None,
    tflops=(39.0, 79.0),
    assumption="eight v5e of 197 TFLOP/s; XLA's cost model says 85 without attention and noise (results/tpu-cycles.md)",
    kaggle=KaggleSession(hours=9.0, hours_a_week=20, quota="TPU"),
)


def plan_on(kind: str, count: int, *, recipe: Recipe, shape: ModelShape, counts: PackCounts) -> Plan:
    """The plan for JAX devices: those of a v5e-8, or CPU devices in a rehearsal.

    Args:
        kind, count: from `devices.count_devices`, such as `TPU v5 lite` and 8.
    """
    known = V5E8 if "tpu" in kind.lower() else replace(CPU, memory_gib=2.0)
    return make_plan(on_tpu(recipe), shape=shape, counts=counts, device=replace(known, cards=count))


def on_tpu(recipe: Recipe) -> Recipe:
    """The recipe with the values that a TPU supports.

    bitsandbytes does not run there. So the base has the compute dtype instead of NF4, and AdamW's state is float32
    instead of 8 bits.
    """
    return replace(recipe, train=replace(recipe.train, quantization="none", optimizer="adamw_torch"))


def keys_per_query(*, max_length: int, head_dim: int) -> int:
    """The number of keys that are multiplied with a query, measured on a stand-in for Sujet in packs of 2,048.

    In blocks of 512 (`tpu.attention`) they are 1,191; in blocks of 256 they would be 818, in blocks of 128 561. If the
    heads are too small for the kernel, they are all keys.
    """
    by_blocks = block_of(length=max_length, head_dim=head_dim, platform="tpu") is not None
    return min(max_length, 1_191) if by_blocks else max_length


def candidates(workload: Workload, device: Device, *, micro_batch: int, split_weights: bool) -> Iterator[StepLayout]:
    """The layouts with this micro-batch, from the fastest (products kept) to the slowest (all blocks recomputed)."""
    recipe, shape = workload.recipe, workload.shape
    length = recipe.pack.max_length
    for recompute in (Recompute(), Recompute(blocks=shape.layers)):
        memory = memory_on_tpu(
            shape,
            lora=recipe.lora,
            max_length=length,
            micro_batch=micro_batch,
            recompute=recompute,
            devices=device.cards,
            split_weights=split_weights,
            head_chunk=HEAD_CHUNK,
        )
        work = operations(workload, blocks=recompute.blocks) / device.cards / 1e12
        slow, fast = device.tflops
        yield StepLayout(
            micro_batch=micro_batch,
            recompute=recompute,
            split_weights=split_weights,
            memory=memory,
            seconds=(work / fast, work / slow),
        )


def operations(workload: Workload, *, blocks: int) -> float:
    """Floating-point operations of the whole run. XLA's fused programs spend most of their time on these.

    Args:
        blocks: the number of recomputed blocks. Attention is always recomputed.
    """
    recipe, shape = workload.recipe, workload.shape
    length = recipe.pack.max_length
    again = blocks / shape.layers
    frozen = 2.0 * shape.linear_parameters * (2 + again)
    adapter = 2.0 * shape.adapter_parameters(recipe.lora) * (3 + again)
    keys = keys_per_query(max_length=length, head_dim=shape.head_dim)
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * keys * 4
    head = 4.0 * shape.vocab * shape.hidden
    return workload.packs * length * (frozen + adapter + attention) + workload.head_positions * head


def _layouts(workload: Workload, device: Device) -> list[StepLayout]:
    """The layouts with whole weights that fit; if there are none, those with split weights."""
    for split_weights in (False, True)[: 1 + (device.cards > 1)]:
        found: list[StepLayout] = []
        for size in workload.micro_batches:
            of_size = candidates(workload, device, micro_batch=size, split_weights=split_weights)
            found += first_that_fits(of_size, device)
        if found:
            return found
    return []


def _precision(_device: Device) -> tuple[Dtype, str]:
    return "bfloat16", "a TPU multiplies in bfloat16 and adds in float32"


TPU_ENGINE = Engine(kind="tpu", devices=(V5E8,), precision=_precision, layouts=_layouts)
