"""Bytes on one TPU device, by purpose.

`benchmarks/tpu_memory.py` compares them with the memory that XLA's compiler assigns for a v5e.
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
    """Peak bytes on one device, by purpose.

    Args:
        max_length: positions in a pack.
        micro_batch: packs of one device in one forward pass.
        recompute: no block, or all blocks.
        head_chunk: positions of a pack whose logits exist at once.
    """
    width = 2
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    blocks = width * shape.linear_parameters
    ends = width * shape.embedding_parameters
    split = {"weights": blocks // devices, "gathered": 2 * blocks // shape.layers, "embeddings": ends}
    products = q + 2 * kv + shape.hidden + 2 * shape.ffn + q  # the last is the output of attention
    everything = products + 3 * shape.hidden + q + 2 * kv + 3 * shape.ffn
    everything += sum(inputs for inputs, _ in shape.projections.values()) * (1 if lora.dropout else 0)
    kept = 0 if recompute.blocks else products
    return {
        **(split if split_weights else {"weights": blocks + ends}),
        "adapters": adapters * (4 + width),  # float32, and a copy in the compute dtype
        "gradients": adapters * 4 * 2,  # those of a micro-batch, and their sum
        "optimizer": adapters * 8,
        "activations": shape.layers * tokens * width * (shape.hidden + kept),
        "working": tokens * width * everything,  # in the block that is computed backward at the moment
        "head": micro_batch * head_chunk * shape.vocab * (4 + 4 + width) + 2 * tokens * shape.hidden * 4,
    }
