"""Attention over packs on JAX: on a TPU by blocks that are skipped where nobody sees anybody, elsewhere dense.

The kernel is JAX's own splash attention, which takes any mask; a tree's is mostly empty:

    keys ->      prefix  a  b  c        one block a letter: # computed, . skipped
    prefix         #     .  .  .        (dense attention computes all sixteen, and writes the
    a              #     #  .  .         scores of each in float32 to memory and back)
    b              #     .  #  .
    c              #     .  .  #

Tunix's attention has a causal mask there and no other, so its blocks get an attention of ours, with its projections,
its rotation and its names.
"""

from typing import Any

LANES = 128
"""The kernel takes heads of this size or multiples of it; 0.5B has 64, and takes dense attention."""
BLOCKS = (512, 256, 128)
"""Queries and keys of one block: the largest that divides the length."""
ATTENDED = "attended"
"""What the kernel gives is kept under this name for the backward pass, else it would run again there."""


def block_of(*, length: int, head_dim: int, platform: str) -> int | None:
    """Queries and keys of one block of the kernel, or None where attention is dense."""
    fitting = [block for block in BLOCKS if length % block == 0]
    return fitting[0] if platform == "tpu" and head_dim % LANES == 0 and fitting else None


def tree_mask(subtree_end: Any) -> Any:
    """Who sees whom: bool `[B, L, L]`, True where query (row) attends to key (column), as `train.attention` has it.

    A query sees a key exactly when `key <= query < subtree_end[key]`.
    """
    import jax.numpy as jnp

    position = jnp.arange(subtree_end.shape[-1])
    query, key = position[:, None], position[None, :]
    return (key <= query) & (query < subtree_end[:, None, :])


def make_kernels(subtree_end: Any, *, block: int, interpret: bool = False) -> list[Any]:
    """The kernel of each pack: its mask, cut into blocks, and which of them are empty.

    Args:
        interpret: run without a TPU, slowly; for tests.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    # Forward, and backward for keys and values and for queries, in blocks of the same size.
    sizes = splash.BlockSizes(*[block] * 8)
    made = []
    for mask in tree_mask(subtree_end):
        kernel = splash.make_splash_mha(
            mask[None],  # one for all heads
            block_sizes=sizes,
            head_shards=1,
            q_seq_shards=1,
            residual_checkpoint_name=ATTENDED,
            interpret=interpret,
        )
        for part in ("fwd_mask_info", "dq_mask_info", "dkv_mask_info"):
            # JAX 0.10.2 asks this flag for its truth although it has made an array of it; it only names a scope.
            setattr(kernel, part, getattr(kernel, part)._replace(is_dynamic_mask=None))
        made.append(kernel)
    return made


def attend(query: Any, key: Any, value: Any, *, seen: Any) -> Any:
    """Softmax attention, each group of query heads with its key and value head.

    Args:
        query: `[B, L, heads, D]`.
        key, value: `[B, L, kv heads, D]`.
        seen: a kernel for each pack (`make_kernels`), or bool `[B, L, L]`.

    Returns:
        `[B, L, heads, D]`.
    """
    import jax
    import jax.numpy as jnp

    if not isinstance(seen, list):
        return jax.nn.dot_product_attention(query, key, value, mask=seen[:, None])
    query = query * query.shape[-1] ** -0.5  # the kernel does not scale
    heads_first = [jnp.swapaxes(part, 1, 2) for part in (query, key, value)]
    packs = zip(seen, *heads_first, strict=True)
    return jnp.swapaxes(jnp.stack([kernel(*parts) for kernel, *parts in packs]), 1, 2)


def attend_over_packs(model: Any) -> None:
    """Gives the blocks of a Tunix model this attention; what is handed to it as mask is `seen`."""
    for block in model.layers:
        attention = type(block.attn)
        ours = {"qwen2": _block_of_qwen2, "qwen3": _block_of_qwen3}[attention.__module__.split(".")[-2]]
        block.attn.__class__ = type(attention.__name__, (attention,), {"block": ours})


def _block_of_qwen2(
    self: Any, x: Any, _cache: None, seen: Any, sin: Any, cos: Any, _segments: None
) -> tuple[None, Any]:
    from tunix.models.qwen2.model import apply_rotary_embedding

    def projected(projection: Any, bias: Any) -> Any:
        heads = projection(x)
        return heads + bias.get_value().reshape(heads.shape[-2:]).astype(heads.dtype)

    query = apply_rotary_embedding(projected(self.q_proj, self.q_bias), sin, cos)
    key = apply_rotary_embedding(projected(self.k_proj, self.k_bias), sin, cos)
    return None, self.o_proj(attend(query, key, projected(self.v_proj, self.v_bias), seen=seen))


def _block_of_qwen3(self: Any, x: Any, positions: Any, _cache: None, seen: Any, **_segments: None) -> tuple[None, Any]:
    from tunix.models.qwen3.model import apply_rope

    # Tunix 0.1.7 itself never hands `rope_theta` on, and rotates every Qwen3 with a million.
    rotated = {"head_dim": self.head_dim, "rope_theta": self.config.rope_theta}
    query = apply_rope(self.q_norm(self.q_proj(x)), positions, **rotated)
    key = apply_rope(self.k_norm(self.k_proj(x)), positions, **rotated)
    return None, self.o_proj(attend(query, key, self.v_proj(x), seen=seen))
