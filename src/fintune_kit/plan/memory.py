"""Bytes on one card, by what takes them.

Activations are checked against PyTorch's own count of what lives after a forward pass
(`tests/train/blocks/test_recompute.py`). The rest is arithmetic, until a card has measured it (`benchmarks/card`).
"""

from dataclasses import dataclass

from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe

CONTEXT_BYTES = 700 * 2**20
"""The CUDA context, the workspaces of cuBLAS, and what the allocator rounds up."""
MESSAGE_BYTES = 64 * 2**20
"""Gradients that are summed over the processes at once (`train.step`)."""
NF4_BYTES = 0.5 + 4 / 64
"""Of a weight in 4 bits, with the float32 scale of each block of 64."""
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class Recompute:
    """Activations that are computed again in the backward pass instead of being kept.

    Norms, gated products and dropout's noise always are: they cost little.
    """

    blocks: int = 0
    """Blocks that keep nothing but their input."""

    def describe(self) -> str:
        """In words."""
        return f"{self.blocks} whole block(s)" if self.blocks else "cheap parts only"


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The dtypes of a run, as sizes."""

    dtype: str
    """Of the products: `float32`, `float16` or `bfloat16`."""
    quantized: bool
    """Whether the base lies in memory as NF4."""
    dense_weights: bool = False
    """Whether its weights are unpacked once, and then kept in the dtype of the products."""

    @property
    def width(self) -> int:
        """Bytes of the compute dtype."""
        return WIDTHS[self.dtype]

    @property
    def residual(self) -> int:
        """Bytes of the residual stream: float16 cannot hold what it grows to."""
        return 4 if self.dtype == "float16" else self.width

    @property
    def weight(self) -> float:
        """Bytes of a projection's weight, at rest."""
        return NF4_BYTES if self.quantized and not self.dense_weights else self.width


def memory_by_part(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    precision: Precision,
    max_length: int,
    micro_batch: int,
    recompute: Recompute,
    head_chunk: int,
    keys: int,
    supervised_share: float = 0.25,
    on_card: bool = True,
    processes: int = 1,
) -> dict[str, int]:
    """Peak bytes on one card, by what takes them.

    Args:
        micro_batch: packs in one forward pass.
        keys: that a query is multiplied with.
        supervised_share: positions that reach the head; the head's gradient is held for these in float32.
        on_card: whether there is a CUDA context.
        processes: of the run, one a card.
    """
    width, residual = precision.width, precision.residual
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    block = tokens * bytes_a_position(shape, lora=lora, precision=precision, keys=keys)
    kept = (shape.layers - recompute.blocks) * block + recompute.blocks * tokens * residual * shape.hidden
    kept += block if recompute.blocks else 0  # the one that is being computed again
    largest = max(inputs * outputs for inputs, outputs in shape.projections.values())
    unpacked = precision.quantized and not precision.dense_weights
    return {
        "weights": round(shape.linear_parameters * precision.weight),
        "embeddings": shape.embedding_parameters * width,
        "dequantized": largest * width if unpacked else 0,
        "adapters": adapters * (4 + width),  # and a copy to multiply with
        "gradients": adapters * 4,
        "optimizer": round(adapters * 2 * (1 + 4 / 256)),
        "messages": MESSAGE_BYTES if processes > 1 else 0,
        "activations": kept,
        "backward": tokens * width * (4 * shape.ffn + 6 * shape.hidden),  # of the block that is being computed
        "mask": tokens * shape.kv_heads * keys * width,
        "head": 2 * head_chunk * shape.vocab * 4
        + head_chunk * shape.vocab * width
        + round(tokens * supervised_share) * shape.hidden * 8,
        "context": CONTEXT_BYTES if on_card else 0,
    }


def bytes_a_position(shape: ModelShape, *, lora: LoraRecipe, precision: Precision, keys: int) -> int:
    """What one block keeps of one position for the backward pass.

    Args:
        keys: that a query is multiplied with; each chunk of 256 queries keeps its own copies of keys and values.
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    streams = 2 * precision.residual * shape.hidden  # before each norm
    narrow = len(lora.target_modules) * lora.rank
    attention = 3 * q + 2 * kv * keys / 256  # queries, the output, and the output once more in order
    sums = 4 * shape.heads
    return round(streams + precision.width * (narrow + attention + 2 * shape.ffn) + sums)
