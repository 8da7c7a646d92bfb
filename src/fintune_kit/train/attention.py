"""Attention over packs that computes only the keys that a query can see. The result is that of the whole mask.

A dense kernel multiplies every query with every key and throws the masked products away. Before its
own keys, a chunk of queries sees only the ancestors of its first token, and their number is that token's depth.

    token          0  1  2  3  4  5  6  7  8  9 10 11         subtree_end  12 12  5  5  5  9  9  9  9 12 12 12
    tree           0--1--2--3--4
                      +--5--6--7--8
                      +--9-10-11
    queries 8-11   keys 0 1 5 6 7 (the ancestors of 8) and 8 9 10 11; a dense kernel takes all 12

So queries are cut into chunks, each with its own keys. Chunks with about the same number of keys form a group, also
across packs, and a group is one call of PyTorch's kernel. The chunks are laid out on the CPU (`batch.lay_out`), before
the card needs them. The mask over a whole pack is never made.

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
    """Their range among the micro-batch's positions. Groups follow each other without gaps."""
    keys: Tensor
    """int64 `[chunks, K]`: the micro-batch's positions that a chunk attends to, padded with 0."""
    query_positions: Tensor
    """int32 `[chunks, Q]`: each query's position in its pack."""
    key_positions: Tensor
    """int32 `[chunks, K]`: each key's position in its pack."""
    key_ends: Tensor
    """int32 `[chunks, K]`: each key's `subtree_end`; 0 for padding."""

    def to(self, device: torch.device | str) -> "QueryGroup":
        """The same on a device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if name != "queries"}
        return QueryGroup(queries=self.queries, **moved)


@dataclass(frozen=True, kw_only=True)
class GroupInputs:
    """The kernel's inputs for a group besides queries, keys and values. Computed once for all layers."""

    queries: int
    """The number of queries."""
    chunks: int
    bias: Tensor
    """`[chunks * kv_heads, 1, Q, K]`: 0 if the query sees the key, else minus infinity."""


@dataclass(frozen=True, kw_only=True)
class TreeAttention:
    """The attention mask of a micro-batch, as every layer gets it."""

    groups: tuple[GroupInputs, ...]
    key_indices: Tensor
    """int64: indices into `[positions * kv_heads, D]`, the keys of each group's chunks and heads, group after group."""
    noise_seed: int | None = None
    """The seed of dropout in this micro-batch (`blocks.packed`). None: no dropout."""

    @classmethod
    def of(
        cls, groups: tuple[QueryGroup, ...], *, kv_heads: int, dtype: torch.dtype, noise_seed: int | None = None
    ) -> "TreeAttention":
        """Computes the mask on the device of the groups, without waiting for that device."""
        indices = [_key_indices(group, kv_heads=kv_heads) for group in groups]
        inputs = [_inputs_of(group, kv_heads=kv_heads, dtype=dtype) for group in groups]
        return cls(groups=tuple(inputs), key_indices=torch.cat(indices), noise_seed=noise_seed)

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
            part.reshape(-1, part.shape[-1]).index_select(0, self.key_indices).split(counts) for part in (key, value)
        )
        queries = query.split([group.queries for group in self.groups])
        inputs = zip(self.groups, queries, keys, values, strict=True)
        parts = [_attend(group, q, k, v, scale=scale) for group, q, k, v in inputs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _key_indices(group: QueryGroup, *, kv_heads: int) -> Tensor:
    heads = torch.arange(kv_heads, device=group.keys.device)
    return (group.keys[:, None] * kv_heads + heads[None, :, None]).reshape(-1)


def _inputs_of(group: QueryGroup, *, kv_heads: int, dtype: torch.dtype) -> GroupInputs:
    chunks, keys = group.keys.shape
    query, key, end = group.query_positions[:, :, None], group.key_positions[:, None], group.key_ends[:, None]
    masked = (key > query) | (query >= end)
    bias = torch.zeros(masked.shape, dtype=dtype, device=masked.device).masked_fill_(masked, -torch.inf)
    bias = bias[:, None].expand(chunks, kv_heads, -1, keys).reshape(chunks * kv_heads, 1, -1, keys)
    return GroupInputs(queries=group.query_positions.numel(), chunks=chunks, bias=bias)


def _attend(group: GroupInputs, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None) -> Tensor:
    """Runs the kernel on one group.

    The query heads that share keys are the kernel's heads. Chunks and kv heads are its batch, so no key is copied.
    """
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

    A query sees a key exactly when `key <= query < subtree_end[key]`. PyTorch's kernel takes this mask unchanged.

    Args:
        subtree_end: `[B, L]` integers, on any device.
    """
    position = torch.arange(subtree_end.shape[-1], device=subtree_end.device)
    query, key = position[:, None], position[None, :]
    return ((key <= query) & (query < subtree_end[:, None, :])).unsqueeze(1)


def dense_mask(subtree_end: Tensor, *, implementation: str) -> Tensor:
    """The mask of whole packs in the form of another attention implementation.

    Returns:
        bool `[B, 1, L, L]`. For eager attention, numbers to add instead: float32, 0 where the query sees the key.
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
        query: `[1, heads, positions, D]`.
        key, value: `[1, kv_heads, positions, D]`.
        attention_mask: a `TreeAttention`. With any other mask, transformers' SDPA computes.

    Returns:
        `[1, positions, heads, D]`, and None in place of attention weights.
    """
    if not isinstance(attention_mask, TreeAttention):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    dtype = attention_mask.groups[0].bias.dtype  # rotation can leave queries in float32
    query, key, value = (part[0].transpose(0, 1).to(dtype) for part in (query, key, value))
    return attention_mask.attend(query, key, value, scale=kwargs.get("scaling"))[None], None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
