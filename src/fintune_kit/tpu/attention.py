"""Attention over packs on JAX. On a TPU, blocks without a visible key are skipped; elsewhere attention is dense.

The kernel is JAX's own splash attention, which takes any mask. The mask of a tree is mostly empty:

    keys ->      prefix  a  b  c        one block a letter: # computed, . skipped
    prefix         #     .  .  .        (dense attention computes all sixteen blocks, and moves
    a              #     #  .  .         the scores of each in float32 to memory and back)
    b              #     .  #  .
    c              #     .  .  #

Tunix uses the kernel with a causal mask only. So its blocks get our attention, which uses Tunix's projections, its
rotation and its names.
"""

from typing import Any

LANES = 128
"""The kernel takes heads of this size or a multiple of it. The 0.5B has heads of 64, and uses dense attention."""
BLOCKS = (512, 256, 128)
"""Queries and keys of one block. The largest size that divides the length is used."""
ATTENDED = "attended"
"""The kernel's output is kept under this name for the backward pass. Else the kernel would run again there."""


def block_of(*, length: int, head_dim: int, platform: str) -> int | None:
    """The size of the kernel's blocks, or None for dense attention."""
    fitting = [block for block in BLOCKS if length % block == 0]
    return fitting[0] if platform == "tpu" and head_dim % LANES == 0 and fitting else None


def tree_mask(subtree_end: Any) -> Any:
    """The mask: bool `[B, L, L]`, True where query (row) attends to key (column), as in `train.attention`.

    A query sees a key exactly when `key <= query < subtree_end[key]`.
    """
    import jax.numpy as jnp

    position = jnp.arange(subtree_end.shape[-1])
    query, key = position[:, None], position[None, :]
    return (key <= query) & (query < subtree_end[:, None, :])


def make_kernels(subtree_end: Any, *, block: int, interpret: bool = False) -> list[Any]:
    """A kernel for each pack, made from its mask.

    Args:
        subtree_end: `[B, L]` integers.
        block: queries and keys of one block.
        interpret: run without a TPU, which is slow; for tests.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    # Forward, and backward for keys and values and for queries, in blocks of the same size.
    sizes = splash.BlockSizes(*[block] * 8)
    kernels = []
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
            # JAX 0.10.2 tests this flag in an `if`, but has made it an array. The flag only names a scope.
            setattr(kernel, part, getattr(kernel, part)._replace(is_dynamic_mask=None))
        kernels.append(kernel)
    return kernels


def attend(query: Any, key: Any, value: Any, *, seen: Any) -> Any:
    """Softmax attention, each group of query heads with its key and value head.

    Args:
        query: `[B, L, heads, D]`.
        key, value: `[B, L, kv heads, D]`.
        seen: a kernel for each pack (`make_kernels`), or the mask, bool `[B, L, L]`.

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
    """Gives the blocks of a Tunix model this attention. Their mask argument must be `seen` of `attend`."""
    for block in model.layers:
        attention = type(block.attn)
        ours = {"qwen2": _block_of_qwen2, "qwen3": _block_of_qwen3}[attention.__module__.split(".")[-2]]
        block.attn.__class__ = type(attention.__name__, (attention,), {"block": ours})


def _block_of_qwen2(
    self: Any, x: Any, _cache: None, seen: Any, sin: Any, cos: Any, _segments: None
) -> tuple[None, Any]:
    from tunix.models.qwen2.model import apply_rotary_embedding

    def _projected(projection: Any, bias: Any) -> Any:
        heads = projection(x)
        return heads + bias.get_value().reshape(heads.shape[-2:]).astype(heads.dtype)

    query = apply_rotary_embedding(_projected(self.q_proj, self.q_bias), sin, cos)
    key = apply_rotary_embedding(_projected(self.k_proj, self.k_bias), sin, cos)
    return None, self.o_proj(attend(query, key, _projected(self.v_proj, self.v_bias), seen=seen))


def _block_of_qwen3(self: Any, x: Any, positions: Any, _cache: None, seen: Any, **_segments: None) -> tuple[None, Any]:
    from tunix.models.qwen3.model import apply_rope

    # Tunix 0.1.7 itself does not pass `rope_theta` on, and rotates every Qwen3 with 1,000,000.
    rotated = {"head_dim": self.head_dim, "rope_theta": self.config.rope_theta}
    query = apply_rope(self.q_norm(self.q_proj(x)), positions, **rotated)
    key = apply_rope(self.k_norm(self.k_proj(x)), positions, **rotated)
    return None, self.o_proj(attend(query, key, self.v_proj(x), seen=seen))
