"""Bytes on one card, by purpose.

A test compares the activations with PyTorch's own count after a forward pass
(`tests/train/blocks/test_recompute.py`). The rest is arithmetic, until it is measured on a card (`benchmarks/card`).
"""

from dataclasses import dataclass

from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe

CONTEXT_BYTES = 700 * 2**20
"""The CUDA context, the workspaces of cuBLAS, and the rounding of the allocator."""
MESSAGE_BYTES = 64 * 2**20
"""Gradients that are summed over the processes in one message (`train.step`)."""
NF4_BYTES = 0.5 + 4 / 64
"""Bytes of a 4-bit weight, with its share of the float32 scale of each block of 64."""
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class Recompute:
    """Activations that are computed again in the backward pass instead of being kept.

    Norms, gated products and dropout's noise are always computed again, because they cost little.
    """

    blocks: int = 0
    """Blocks that keep only their input."""

    def describe(self) -> str:
        """The same in words."""
        return f"{self.blocks} whole block(s)" if self.blocks else "cheap parts only"


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The dtypes of a run, and their sizes."""

    dtype: str
    """The dtype of the products: `float32`, `float16` or `bfloat16`."""
    quantized: bool
    """Whether the base is loaded as NF4."""
    dense_weights: bool = False
    """Whether NF4 weights are unpacked once and then kept in the dtype of the products."""

    @property
    def width(self) -> int:
        """Bytes of the compute dtype."""
        return WIDTHS[self.dtype]

    @property
    def residual(self) -> int:
        """Bytes of a value in the residual stream, whose values are too large for float16."""
        return 4 if self.dtype == "float16" else self.width

    @property
    def weight(self) -> float:
        """Bytes of a projection's weight between its uses."""
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
    head_share: float = 0.25,
    on_card: bool = True,
    processes: int = 1,
    split_weights: bool = False,
) -> dict[str, int]:
    """Peak bytes on one card, by purpose.

    Args:
        max_length: positions in a pack.
        micro_batch: packs in one forward pass.
        head_chunk: positions whose logits exist at once.
        keys: the number of keys that are multiplied with a query.
        head_share: the share of all positions that the head scores. Their gradient is held in float32.
        on_card: whether there is a CUDA context.
        processes: of the run, one per card.
        split_weights: whether each process holds a part of the 4-bit weights, and gathers one weight at a time.
    """
    width, residual = precision.width, precision.residual
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    block = tokens * bytes_a_position(shape, lora=lora, precision=precision, keys=keys)
    kept = (shape.layers - recompute.blocks) * block + recompute.blocks * tokens * residual * shape.hidden
    kept += block if recompute.blocks else 0  # the block that is computed again at the moment
    largest = max(inputs * outputs for inputs, outputs in shape.projections.values())
    unpacked = precision.quantized and not precision.dense_weights
    at_rest = shape.linear_parameters / (processes if split_weights else 1)
    return {
        "weights": round(at_rest * precision.weight),
        "gathered": round(largest * precision.weight) if split_weights else 0,
        "embeddings": shape.embedding_parameters * width,
        "dequantized": largest * width if unpacked else 0,
        "adapters": adapters * (4 + width),  # float32, and a copy in the compute dtype
        "gradients": adapters * 4,
        "optimizer": round(adapters * 2 * (1 + 4 / 256)),
        "messages": MESSAGE_BYTES if processes > 1 else 0,
        "activations": kept,
        "backward": tokens * width * (4 * shape.ffn + 6 * shape.hidden),  # in the block that is computed at the moment
        "mask": tokens * shape.kv_heads * keys * width,
        "head": head_chunk * shape.vocab * (8 + width) + round(tokens * head_share) * shape.hidden * 8,
        "context": CONTEXT_BYTES if on_card else 0,
    }


def bytes_a_position(shape: ModelShape, *, lora: LoraRecipe, precision: Precision, keys: int) -> int:
    """Bytes that one block keeps for one position until the backward pass.

    Args:
        keys: the number of keys that are multiplied with a query. Each chunk of 256 queries keeps its own copies of
            keys and values.
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    streams = 2 * precision.residual * shape.hidden  # the input of each norm
    narrow = len(lora.target_modules) * lora.rank
    attention = 3 * q + 2 * kv * keys / 256  # queries, the output, and the output in the order of the pack
    sums = 4 * shape.heads
    return round(streams + precision.width * (narrow + attention + 2 * shape.ffn) + sums)
