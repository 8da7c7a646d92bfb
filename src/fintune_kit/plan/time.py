"""Estimates the seconds of a step: products, attention, passes over memory, and the host that starts kernels.

    card    products / rate + attention / rate + bytes / bandwidth
    host    kernels x time to start one in Python
    step    the longer of the two, and the messages between processes

`benchmarks/step_cost.py` counts the bytes and kernels of a block. Rates and bandwidths are ranges of the device
(`devices.py`), until a card is measured.
"""

from dataclasses import dataclass

from fintune_kit.plan.devices import Device
from fintune_kit.plan.memory import NF4_BYTES, Precision
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe

Seconds = tuple[float, float]
"""Low and high estimate."""

KERNELS_OF_A_BLOCK = 210
"""Kernels of a block, forward and backward. A recomputed block starts a third more."""
KERNELS_BESIDE_BLOCKS = 120
"""Kernels of a micro-batch for embedding, masks, final norm, head, loss, and the copies of the adapters."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a micro-batch, forward and backward."""

    products: float
    """Floating-point operations of products with weights."""
    attention: float
    """Floating-point operations of attention."""
    moved: float
    """Bytes through a card's memory, without those of large products."""
    kernels: float

    def seconds(self, device: Device, *, faster: float = 1.0) -> Seconds:
        """A low and a high estimate for one card.

        Args:
            faster: factor on the rate of products, for accumulation in half precision.
        """
        (slow_rate, rate), (slow_memory, memory) = device.tflops, device.bandwidth
        start, slow_start = device.microseconds_a_kernel
        operations = self.products + self.attention / device.attention_rate
        card = operations / (1e12 * faster * rate) + self.moved / (1e9 * memory)
        slow_card = operations / (1e12 * faster * slow_rate) + self.moved / (1e9 * slow_memory)
        return max(card, self.kernels * 1e-6 * start), max(slow_card, self.kernels * 1e-6 * slow_start)


def cost_of_micro_batch(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    precision: Precision,
    positions: int,
    head_positions: float,
    keys: int,
    blocks: int,
) -> Cost:
    """The cost of a micro-batch in our own blocks (`train.blocks`).

    A frozen weight costs 2 operations per position forward and 2 backward, because it has no gradient of its own. A
    recomputed block costs 2 more. The adapters' narrow products wait for memory, so their bytes are counted, not their
    operations.

    Args:
        positions, head_positions: in the micro-batch, and those of them that the head scores.
        keys: the number of keys that are multiplied with a query, masked or not.
        blocks: the number of recomputed blocks.
    """
    again = blocks / shape.layers
    head = 4.0 * shape.vocab * shape.hidden * head_positions
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * keys * positions * (3.5 + again)
    unpacked = precision.quantized and not precision.dense_weights
    weights = shape.linear_parameters * (NF4_BYTES + precision.width) * (2 + again) if unpacked else 0.0
    elementwise = positions * shape.layers * bytes_through_memory(shape, lora=lora, precision=precision)
    return Cost(
        products=2.0 * shape.linear_parameters * positions * (2 + again) + head,
        attention=attention,
        moved=elementwise * (1 + again / 3) + weights,
        kernels=shape.layers * KERNELS_OF_A_BLOCK * (1 + again / 3) + KERNELS_BESIDE_BLOCKS,
    )


def bytes_through_memory(shape: ModelShape, *, lora: LoraRecipe, precision: Precision) -> float:
    """Bytes for one position in one block, forward and backward: elementwise passes and the adapters' products.

    The numbers of passes are fitted to the counts of `benchmarks/step_cost.py`. They agree within 3 % for Qwen2.5
    0.5B, 3B and 7B, and within 9 % for Qwen3, which has two more norms.
    """
    width, residual = precision.width, precision.residual
    noise = 1 if lora.dropout else 0
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    gated = (30 + 6 * noise) * width + 5 * noise
    streams = (59 + 18 * noise) * width + 36 * residual + 10 * noise
    heads = 30 * width
    return gated * shape.ffn + streams * shape.hidden + heads * (q + kv)


STOCK_BYTES = 2.0
STOCK_KERNELS = 1.63
"""Bytes and kernels of a block of transformers and PEFT, as multiples of ours. `benchmarks/step_cost.py` counts both:
6.62 GB beside 3.30 (elementwise passes and narrow products), and 335 kernels beside 205 (without checkpoints)."""


def cost_of_stock(shape: ModelShape, *, positions: int) -> Cost:
    """The cost for a stock trainer with its defaults: every block recomputed, dense attention, the head everywhere.

    It follows from the counts of `benchmarks/step_cost.py`, not from a run. Two things are assumed: a checkpoint
    repeats the forward pass, so bytes and kernels grow by a third, and the rates of a card are those of our kernels.
    """
    plain = Precision(dtype="float16", quantized=True)
    lora = LoraRecipe()
    ours = cost_of_micro_batch(
        shape,
        lora=lora,
        precision=plain,
        positions=positions,
        head_positions=positions,
        keys=positions,
        blocks=shape.layers,
    )
    elementwise = positions * shape.layers * bytes_through_memory(shape, lora=lora, precision=plain) * 4 / 3
    return Cost(
        products=ours.products,
        attention=ours.attention,
        moved=ours.moved + (STOCK_BYTES - 1) * elementwise,
        kernels=STOCK_KERNELS * ours.kernels,
    )
