"""Attention over packs that computes only where a query can look: the same result as over the whole mask, for less.

A dense kernel multiplies every query with every key and throws the masked products away. In a prefix tree the queries
of a chunk see, before the chunk, exactly the ancestors of its first token: as many as that token is deep.

    token          0  1  2  3  4  5  6  7  8  9 10 11         subtree_end  12 12  5  5  5  9  9  9  9 12 12 12
    tree           0--1--2--3--4
                      +--5--6--7--8
                      +--9-10-11
    queries 8-11   keys 0 1 5 6 7 (the ancestors of 8) and 8 9 10 11, where a dense kernel takes all 12

So queries go to PyTorch's kernel in chunks, each with its own keys, and a mask says the rest; the mask over the whole
pack is never made. This fills transformers' own attention interface; any other mask goes to its SDPA unchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TREE_ATTENTION = "tree_sdpa"
"""Its name in a model's config."""
QUERY_CHUNK = 256
"""Queries in one call of the kernel: smaller ones skip more and start more kernels."""
KEYS_TOGETHER = 8
"""Keys of a chunk are filled up to a multiple of this: PyTorch's kernel copies masks whose rows are not aligned."""


@dataclass(frozen=True)
class QueryChunk:
    """A chunk of queries and what they see."""

    queries: slice
    keys: Tensor
    """int64 `[B, K]`: positions of the keys, ancestors first, then the chunk's own."""
    mask: Tensor
    """bool `[B, 1, Q, K]`: True where a query sees a key."""


def attention_inputs(subtree_end: Tensor, *, implementation: str) -> dict[str, Any]:
    """What a causal LM's backbone is given for packs, computed once a forward pass for all layers.

    Args:
        subtree_end: `[B, L]` integers.
        implementation: the model's attention implementation.

    Returns:
        `attention_mask`, in the form that the implementation takes: chunks of queries for `TREE_ATTENTION` (in a
        dictionary by kind of layer, which transformers hands on as it is), additive for eager (float32
        `[B, 1, L, L]`, 0 where a key is seen), else bool `[B, 1, L, L]`.
    """
    if implementation == TREE_ATTENTION:
        return {"attention_mask": {"full_attention": query_chunks(subtree_end, size=QUERY_CHUNK)}}
    allowed = tree_mask(subtree_end)
    if implementation == "eager":
        lowest = torch.finfo(torch.float32).min
        allowed = torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, lowest)
    return {"attention_mask": allowed}


def tree_mask(subtree_end: Tensor) -> Tensor:
    """The mask of whole packs: bool `[B, 1, L, L]`, True where query (row) attends to key (column).

    A query sees a key exactly when `key <= query < subtree_end[key]`. PyTorch's kernel takes it as it is.

    Args:
        subtree_end: `[B, L]` integers, on any device.
    """
    position = torch.arange(subtree_end.shape[-1], device=subtree_end.device)
    query, key = position[:, None], position[None, :]
    return ((key <= query) & (query < subtree_end[:, None, :])).unsqueeze(1)


def query_chunks(subtree_end: Tensor, *, size: int) -> list[QueryChunk]:
    """Cuts the queries of some packs into chunks of `size`, each with the keys that any of them sees.

    Args:
        subtree_end: `[B, L]` integers, on any device.
    """
    length = subtree_end.shape[-1]
    position = torch.arange(length, device=subtree_end.device)
    starts = position[::size]
    before = position < starts[:, None]
    ancestors = before & (subtree_end[:, None, :] > starts[:, None])  # [B, chunks, L]
    most = ancestors.sum(dim=-1).amax(dim=0).tolist()
    chunks = []
    for number, first in enumerate(range(0, length, size)):
        queries = position[first : first + size]
        room = most[number] + -(most[number] + len(queries)) % KEYS_TOGETHER
        found, above = ancestors[:, number].to(torch.int8).sort(dim=-1, descending=True, stable=True)
        above, real = above[:, :room], found[:, :room].bool()
        own = queries.expand(len(subtree_end), -1)
        keys, real = torch.cat([above, own], dim=1), torch.cat([real, torch.ones_like(own, dtype=torch.bool)], dim=1)
        sees = (keys[:, None] <= queries[:, None]) & (queries[:, None] < subtree_end.gather(1, keys)[:, None])
        mask = (sees & real[:, None]).unsqueeze(1)
        chunks.append(QueryChunk(slice(first, first + len(queries)), keys, mask))
    return chunks


def tree_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' attention function for `TREE_ATTENTION`.

    Args:
        query: `[B, heads, L, D]`.
        key, value: `[B, key-value heads, L, D]`.
        attention_mask: chunks from `query_chunks`; anything else is computed by transformers' SDPA.

    Returns:
        `[B, L, heads, D]`, and no weights.
    """
    if not isinstance(attention_mask, list):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if getattr(module, "recompute_attention", False) and torch.is_grad_enabled():
        half = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else None
        query, key, value = (part if half is None else part.to(half) for part in (query, key, value))
        mixed = checkpoint(
            _attend, query, key, value, attention_mask, kwargs, use_reentrant=False, preserve_rng_state=False
        )
        return mixed, None
    return _attend(query, key, value, attention_mask, kwargs), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, chunks: Sequence[QueryChunk], options: Mapping[str, Any]
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    parts = []
    for chunk in chunks:
        part = F.scaled_dot_product_attention(
            query[:, :, chunk.queries],
            repeat_kv(_take(key, chunk.keys), groups),
            repeat_kv(_take(value, chunk.keys), groups),
            attn_mask=chunk.mask,
            scale=options.get("scaling"),
        )
        parts.append(part.transpose(1, 2))
    return torch.cat(parts, dim=1)


def _take(states: Tensor, positions: Tensor) -> Tensor:
    """`[B, heads, L, D]` at `[B, K]` positions: `[B, heads, K, D]`."""
    batch, heads, _, size = states.shape
    return states.gather(2, positions[:, None, :, None].expand(batch, heads, -1, size))


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
