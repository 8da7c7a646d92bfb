"""Bytes on one card, by what takes them, and what may be computed again to need fewer.

Checked against PyTorch's own count of what lives after a forward pass (`tests/train/test_recompute.py`).
"""

from dataclasses import dataclass

from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe

CONTEXT_BYTES = 700 * 2**20
"""The CUDA context, the workspaces of cuBLAS, and what the allocator rounds up."""


@dataclass(frozen=True, kw_only=True)
class Recompute:
    """Activations that are computed again in the backward pass instead of being kept (see `recompute`)."""

    cheap_parts: bool = False
    """Adapters' inputs, gated products, attention's inner values, in every block."""
    blocks: int = 0
    """Blocks that keep nothing but their input."""

    @property
    def cost(self) -> tuple[int, bool]:
        """Orders them by what they cost."""
        return self.blocks, self.cheap_parts

    def describe(self) -> str:
        """In words."""
        parts = ["cheap parts"] * self.cheap_parts + [f"{self.blocks} whole block(s)"] * bool(self.blocks)
        return " and ".join(parts) or "nothing"


def memory_by_part(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    max_length: int,
    micro_batch: int,
    recompute: Recompute,
    half: bool,
    quantized: bool,
    head_chunk: int,
    keys: int,
    supervised_share: float = 0.25,
    context_bytes: int = CONTEXT_BYTES,
) -> dict[str, int]:
    """Peak bytes on one card, by what takes them.

    Args:
        micro_batch: packs in one forward pass.
        half: whether the compute dtype has two bytes (the residual stream has four on cards without bfloat16).
        keys: that a query is multiplied with.
        supervised_share: positions that reach the head; the head's gradient is held for these in float32.
        context_bytes: the CUDA context, cuBLAS workspaces and what the allocator rounds up.
    """
    width = 2 if half else 4
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    block = tokens * bytes_a_position(shape, lora=lora, width=width, cheap_parts=recompute.cheap_parts, keys=keys)
    kept = (shape.layers - recompute.blocks) * block + recompute.blocks * tokens * 4 * shape.hidden
    kept += block if recompute.blocks else 0  # the one that is being computed again
    projections = round(shape.linear_parameters * (0.5 + 1 / 64 + 4 / (64 * 256))) if quantized else 0
    return {
        "weights": projections or shape.linear_parameters * width,
        "embeddings": shape.embedding_parameters * width,
        "dequantized": max(i * o for i, o in shape.projections.values()) * width if quantized else 0,
        "adapters": adapters * 4,
        "gradients": adapters * 4,
        "optimizer": round(adapters * 2 * (1 + 4 / 256)),
        "activations": kept,
        "backward": tokens * width * 4 * shape.ffn,  # slopes of gate and up, their product, what is made of them
        "mask": tokens * keys * (1 + (width if half else 0)),
        "head": 2 * head_chunk * shape.vocab * 4
        + head_chunk * shape.vocab * width
        + round(tokens * supervised_share) * shape.hidden * 8,
        "context": context_bytes,
    }


def bytes_a_position(shape: ModelShape, *, lora: LoraRecipe, width: int, cheap_parts: bool, keys: int) -> int:
    """What one block keeps of one position for the backward pass.

    Checked against PyTorch's own count for one block of the 3B in float32: 372,552 and 141,202 bytes
    (`tests/train/test_recompute.py`).

    Args:
        width: bytes of the compute dtype.
        cheap_parts: whether these are recomputed.
        keys: that a query is multiplied with; their copies for each chunk of queries are kept too.
    """
    hidden, ffn, q, kv = shape.hidden, shape.ffn, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    low_rank = len(lora.target_modules) * 2 * width * lora.rank
    residual = 2 * 4 * hidden  # before each norm
    if cheap_parts:
        return residual + low_rank + width * (2 * hidden + (q + 2 * kv) + q + 2 * ffn)
    inputs = sum(shape.projections[name][0] for name in lora.target_modules)
    adapter_inputs = (width + (1 if lora.dropout else 0)) * inputs  # what dropout leaves, and its noise
    chunks = max(1, round(keys / 256))  # each position's key and value is copied for about as many chunks of queries
    attention = width * (q + 2 * kv + 2 * q + 2 * q * chunks)
    return residual + low_rank + 2 * width * hidden + adapter_inputs + attention + width * 4 * ffn
