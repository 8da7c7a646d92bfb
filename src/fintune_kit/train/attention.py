"""Attention over packs that computes only where a query can look: the same result as over the whole mask, for less.

A dense kernel multiplies every query with every key and throws the masked products away. In a prefix tree the queries
of a chunk see, before the chunk, exactly the ancestors of its first token: as many as that token is deep.

    token          0  1  2  3  4  5  6  7  8  9 10 11         subtree_end  12 12  5  5  5  9  9  9  9 12 12 12
    tree           0--1--2--3--4
                      +--5--6--7--8
                      +--9-10-11
    queries 8-11   keys 0 1 5 6 7 (the ancestors of 8) and 8 9 10 11, where a dense kernel takes all 12

So queries are cut into chunks, each with its own keys. Chunks that need about as many keys form a group, whatever pack
they come from, and a group is one call of PyTorch's kernel. The chunks are laid out on the CPU (`batch.lay_out`),
before the card needs them. The mask over a whole pack is never made.

This fills transformers' attention interface. Any other mask goes to its SDPA unchanged.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TREE_ATTENTION = "tree_sdpa"
"""Its name in a model's config."""


@dataclass(frozen=True, kw_only=True)
class QueryGroup:
    """Chunks of queries of equal length that are computed in one call of the kernel."""

    queries: slice
    """Which of the micro-batch's positions they are: one range, since groups lie one behind the other."""
    keys: Tensor
    """int64 `[chunks, K]`: the micro-batch's positions that a chunk looks at; filled up with 0."""
    query_places: Tensor
    """int32 `[chunks, Q]`: each query's position in its pack."""
    key_places: Tensor
    """int32 `[chunks, K]`: each key's position in its pack."""
    key_ends: Tensor
    """int32 `[chunks, K]`: each key's `subtree_end`; 0 for what only fills up."""

    def to(self, device: torch.device | str) -> "QueryGroup":
        """The same on a device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if name != "queries"}
        return QueryGroup(queries=self.queries, **moved)


@dataclass(frozen=True, kw_only=True)
class GroupInputs:
    """What the kernel needs of a group besides queries, keys and values. Computed once for all layers."""

    queries: int
    """How many; groups lie one behind the other."""
    chunks: int
    bias: Tensor
    """`[chunks * kv_heads, 1, Q, K]`: 0 where a query sees a key, else minus infinity."""


@dataclass(frozen=True, kw_only=True)
class TreeAttention:
    """The attention mask of a micro-batch in the form that every layer is given."""

    groups: tuple[GroupInputs, ...]
    rows: Tensor
    """int64: rows of `[positions * kv_heads, D]`, the keys of each group's chunks and heads, group after group."""
    noise_seed: int | None = None
    """Of dropout in this micro-batch (`blocks.packed`); None leaves it out."""

    @classmethod
    def of(
        cls, groups: tuple[QueryGroup, ...], *, kv_heads: int, dtype: torch.dtype, noise_seed: int | None = None
    ) -> "TreeAttention":
        """Computes it on the device of the groups, without a wait for that device."""
        rows = [_rows_of(group, kv_heads=kv_heads) for group in groups]
        inputs = [_inputs_of(group, kv_heads=kv_heads, dtype=dtype) for group in groups]
        return cls(groups=tuple(inputs), rows=torch.cat(rows), noise_seed=noise_seed)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        """Softmax attention of every query to the keys that it sees.

        Args:
            query: `[positions, heads, D]`.
            key, value: `[positions, kv_heads, D]`.

        Returns:
            `[positions, heads, D]`.
        """
        counts = [group.bias.shape[0] * group.bias.shape[-1] for group in self.groups]
        keys, values = (
            part.reshape(-1, part.shape[-1]).index_select(0, self.rows).split(counts) for part in (key, value)
        )
        queries = query.split([group.queries for group in self.groups])
        inputs = zip(self.groups, queries, keys, values, strict=True)
        parts = [_attend(group, q, k, v, scale=scale) for group, q, k, v in inputs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows_of(group: QueryGroup, *, kv_heads: int) -> Tensor:
    heads = torch.arange(kv_heads, device=group.keys.device)
    return (group.keys[:, None] * kv_heads + heads[None, :, None]).reshape(-1)


def _inputs_of(group: QueryGroup, *, kv_heads: int, dtype: torch.dtype) -> GroupInputs:
    chunks, keys = group.keys.shape
    query, place, end = group.query_places[:, :, None], group.key_places[:, None], group.key_ends[:, None]
    unseen = (place > query) | (query >= end)
    bias = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, -torch.inf)
    bias = bias[:, None].expand(chunks, kv_heads, -1, keys).reshape(chunks * kv_heads, 1, -1, keys)
    return GroupInputs(queries=group.query_places.numel(), chunks=chunks, bias=bias)


def _attend(group: GroupInputs, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None) -> Tensor:
    """The kernel on one group. Heads that share keys are the kernel's heads; the keys are its batch, and not copied."""
    batch, _, queries, keys = group.bias.shape
    heads, size = query.shape[1:]
    kv_heads = batch // group.chunks
    shared = heads // kv_heads
    query = query.view(group.chunks, queries, kv_heads, shared, size).permute(0, 2, 3, 1, 4)
    attended = F.scaled_dot_product_attention(
        query.reshape(batch, shared, queries, size),
        key.view(batch, 1, keys, size).expand(-1, shared, -1, -1),
        value.view(batch, 1, keys, size).expand(-1, shared, -1, -1),
        attn_mask=group.bias,
        scale=scale,
    )
    by_chunk = attended.view(group.chunks, kv_heads, shared, queries, size).permute(0, 3, 1, 2, 4)
    return by_chunk.reshape(group.chunks * queries, heads, size)


def tree_mask(subtree_end: Tensor) -> Tensor:
    """The mask of whole packs: bool `[B, 1, L, L]`, True where query (row) attends to key (column).

    A query sees a key exactly when `key <= query < subtree_end[key]`. PyTorch's kernel takes it as it is.

    Args:
        subtree_end: `[B, L]` integers, on any device.
    """
    position = torch.arange(subtree_end.shape[-1], device=subtree_end.device)
    query, key = position[:, None], position[None, :]
    return ((key <= query) & (query < subtree_end[:, None, :])).unsqueeze(1)


def dense_mask(subtree_end: Tensor, *, implementation: str) -> Tensor:
    """The mask of whole packs in the form of another attention implementation.

    Returns:
        For eager attention numbers to add (float32 `[B, 1, L, L]`, 0 where a key is seen), else bool `[B, 1, L, L]`.
    """
    allowed = tree_mask(subtree_end)
    if implementation != "eager":
        return allowed
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, lowest)


def tree_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' attention function for `TREE_ATTENTION`.

    Args:
        query: `[1, heads, positions, D]` with a `TreeAttention`.
        key, value: `[1, kv_heads, positions, D]`.
        attention_mask: a `TreeAttention`; anything else is computed by transformers' SDPA.

    Returns:
        `[1, positions, heads, D]`, and no weights.
    """
    if not isinstance(attention_mask, TreeAttention):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    dtype = attention_mask.groups[0].bias.dtype  # rotation can leave queries in float32
    query, key, value = (part[0].transpose(0, 1).to(dtype) for part in (query, key, value))
    return attention_mask.attend(query, key, value, scale=kwargs.get("scaling"))[None], None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
