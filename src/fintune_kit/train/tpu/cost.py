"""What a step takes on one TPU device, by part: the arithmetic of `cost.py` for JAX, where attention is dense.

What differs from a card: no quantization, AdamW's moments in float32, scores of all queries with all keys, and weights
that may be split over the devices.
"""

from typing import Literal

from fintune_kit.recipes import LoraRecipe
from fintune_kit.train.cost import ModelShape

SPLIT = "weights_split"
"""Instead of `weights`, where each device holds a part of them (FSDP)."""
TPU_DTYPE: tuple[Literal["bfloat16"], str] = ("bfloat16", "a TPU multiplies in bfloat16 and adds in float32")
HEAD_CHUNK = 256


def memory_on_tpu(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    max_length: int,
    micro_batch: int,
    checkpointing: bool,
    devices: int,
    room: int,
) -> dict[str, int]:
    """Peak bytes on one device, by what takes them; the weights are split where they do not fit whole.

    Args:
        micro_batch: packs of one device in one forward pass.
        room: bytes that a device may use.
    """
    width = 2
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    projected = sum(outputs for _, outputs in shape.projections.values())
    scores = micro_batch * shape.heads * max_length * max_length
    block = tokens * (width * (6 * shape.hidden + 2 * (q + kv) + projected + 2 * shape.ffn) + 4 * 7 * lora.rank)
    block += scores * width
    kept = shape.layers * tokens * width * shape.hidden + block if checkpointing else shape.layers * block
    weights = width * (shape.linear_parameters + shape.vocab * shape.hidden * (1 if shape.tied else 2))
    parts = {
        "weights": weights,
        "adapters": adapters * (4 + width),  # and once in the compute dtype
        "gradients": adapters * 4 * 2,  # of one micro-batch, and their sum
        "optimizer": adapters * 8,
        "activations": kept,
        "scores": scores * (4 + 4),  # float32, forward and backward, of one block
        "head": micro_batch * HEAD_CHUNK * shape.vocab * (4 + 4 + width) + 2 * tokens * shape.hidden * width,
    }
    if sum(parts.values()) > room and devices > 1:
        layer = width * shape.linear_parameters // shape.layers
        split = {SPLIT: weights // devices, "gathered": 2 * layer}
        return split | {name: size for name, size in parts.items() if name != "weights"}
    return parts
