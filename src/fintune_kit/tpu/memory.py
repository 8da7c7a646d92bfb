"""Bytes on one TPU device, by what takes them.

Checked against what XLA's compiler assigns for a v5e (`benchmarks/tpu_memory.py`).
"""

from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe


def memory_on_tpu(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    max_length: int,
    micro_batch: int,
    recompute: Recompute,
    devices: int,
    split_weights: bool,
    head_chunk: int,
) -> dict[str, int]:
    """Peak bytes on one device, by what takes them.

    Args:
        micro_batch: packs of one device in one forward pass.
        recompute: no block, or all of them.
        head_chunk: positions of a pack whose logits exist at once.
    """
    width = 2
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    blocks = width * shape.linear_parameters
    ends = width * shape.embedding_parameters
    split = {"weights": blocks // devices, "gathered": 2 * blocks // shape.layers, "embeddings": ends}
    products = q + 2 * kv + shape.hidden + 2 * shape.ffn + q  # and what attention gives
    everything = products + 3 * shape.hidden + q + 2 * kv + 3 * shape.ffn
    everything += sum(inputs for inputs, _ in shape.projections.values()) * (1 if lora.dropout else 0)
    kept = 0 if recompute.blocks else products
    return {
        **(split if split_weights else {"weights": blocks + ends}),
        "adapters": adapters * (4 + width),  # and once in the compute dtype
        "gradients": adapters * 4 * 2,  # of one micro-batch, and their sum
        "optimizer": adapters * 8,
        "activations": shape.layers * tokens * width * (shape.hidden + kept),
        "working": tokens * width * everything,  # of the block that is being computed backward
        "head": micro_batch * head_chunk * shape.vocab * (4 + 4 + width) + 2 * tokens * shape.hidden * 4,
    }
