"""Lays out packs for a forward pass. This happens on the CPU, so that the host never has to wait for the card.

The positions of all packs of a micro-batch follow each other, chunk by chunk. Chunks with about the same number of keys
are neighbours, so that attention computes them in one call with little padding:

    two packs of four chunks, keys a chunk    200 456 430 300    200 380 520 340
    laid out                                  200 200 | 300 340 380 430 | 456 520

The order of positions changes nothing else in a model: every other layer treats each position alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fintune_kit.chat.examples import IGNORE
from fintune_kit.train.attention import QueryGroup

Ints = NDArray[np.int64]
QUERY_CHUNK = 256
"""Queries in a chunk. Smaller chunks skip more keys, but need more memory for keys."""
MAX_GROUPS = 3
"""Calls of the attention kernel in a layer. More calls need less padding, but start more kernels."""
KEYS_TOGETHER = 8
"""The keys of a group are padded to a multiple of this, because the kernel copies masks whose rows are not aligned."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Some packs, laid out. All tensors are int64, on the CPU until `to` moves them."""

    input_ids: Tensor
    """`[positions]`, in the order of the layout."""
    position_ids: Tensor
    """`[positions]`."""
    supervised: Tensor
    """`[S]`: indices into the layout of the positions that predict a supervised token."""
    targets: Tensor
    """`[S]`: these tokens."""
    weights: Tensor
    """`[S]`: how many examples predict each of them."""
    groups: tuple[QueryGroup, ...]
    natural_order: Tensor
    """`[positions]`: the index in the layout of each position of each pack, pack after pack."""

    def to(self, device: torch.device | str) -> "MicroBatch":
        """The same on a device. From pinned memory, copies run while the device computes."""
        moved = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved, groups=tuple(group.to(device) for group in self.groups))

    def pinned(self) -> "MicroBatch":
        """The same in pinned memory, which a card can read by itself."""
        moved = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        groups = [
            replace(group, **{name: value.pin_memory() for name, value in vars(group).items() if name != "queries"})
            for group in self.groups
        ]
        return replace(self, **moved, groups=tuple(groups))


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A chunk of queries of one pack."""

    pack: int
    first: int
    last: int
    keys: Ints
    """Positions in the pack: the ancestors of the first query, then the chunk's own."""


def lay_out(columns: Mapping[str, NDArray[np.integer]], *, chunk: int | None = None) -> MicroBatch:
    """Lays out some packs of equal length.

    Args:
        columns: `input_ids`, `position_ids`, `subtree_end` and, for a loss, `shift_labels` and `loss_weight`:
            integers `[B, L]` each.
        chunk: queries in a chunk; None takes `QUERY_CHUNK`.
    """
    ends = np.asarray(columns["subtree_end"], np.int64)
    chunks = _chunks_of(ends, size=chunk or QUERY_CHUNK)
    order = sorted(range(len(chunks)), key=lambda index: _sort_key(chunks[index]))
    chunks = [chunks[index] for index in order]
    length = ends.shape[1]
    laid = np.concatenate([np.arange(c.first, c.last) + c.pack * length for c in chunks])
    natural = np.empty_like(laid)
    natural[laid] = np.arange(len(laid))
    labels = np.asarray(columns.get("shift_labels", np.full_like(ends, IGNORE)), np.int64).reshape(-1)[laid]
    supervised = np.flatnonzero(labels != IGNORE)
    weights = columns["loss_weight"] if len(supervised) else ends
    return MicroBatch(
        input_ids=_flat(columns["input_ids"], laid),
        position_ids=_flat(columns["position_ids"], laid),
        supervised=torch.from_numpy(supervised),
        targets=torch.from_numpy(labels[supervised]),
        weights=_flat(weights, laid[supervised]),
        groups=_groups_of(chunks, ends=ends, natural=natural),
        natural_order=torch.from_numpy(natural),
    )


def _flat(column: NDArray[np.integer], laid: Ints) -> Tensor:
    return torch.from_numpy(np.asarray(column, np.int64).reshape(-1)[laid])


def _chunks_of(ends: Ints, *, size: int) -> list[_Chunk]:
    length = ends.shape[1]
    chunks = []
    for pack, end in enumerate(ends):
        for first in range(0, length, size):
            last = min(first + size, length)
            ancestors = np.flatnonzero(end[:first] > first)
            chunks.append(_Chunk(pack=pack, first=first, last=last, keys=np.append(ancestors, np.arange(first, last))))
    return chunks


def _sort_key(chunk: _Chunk) -> tuple[int, int]:
    """Sorts chunks by descending length, and chunks of equal length by their number of keys."""
    return chunk.first - chunk.last, len(chunk.keys)


def _groups_of(chunks: list[_Chunk], *, ends: Ints, natural: Ints) -> tuple[QueryGroup, ...]:
    """Cuts sorted chunks into groups, each with its keys padded to one length."""
    groups, start, length = [], 0, ends.shape[1]
    lengths = [chunk.last - chunk.first for chunk in chunks]
    for first, last in pairwise(cut_points([len(chunk.keys) for chunk in chunks], lengths)):
        some = chunks[first:last]
        max_keys = max(len(chunk.keys) for chunk in some)
        max_keys += -max_keys % KEYS_TOGETHER
        keys, positions, key_ends = (np.zeros((len(some), max_keys), np.int64) for _ in range(3))
        for index, chunk in enumerate(some):
            count = len(chunk.keys)
            keys[index, :count] = natural[chunk.keys + chunk.pack * length]
            positions[index, :count] = chunk.keys
            key_ends[index, :count] = ends[chunk.pack][chunk.keys]
        queries = np.stack([np.arange(chunk.first, chunk.last) for chunk in some])
        groups.append(
            QueryGroup(
                queries=slice(start, start + queries.size),
                keys=torch.from_numpy(keys),
                query_positions=torch.from_numpy(queries.astype(np.int32)),
                key_positions=torch.from_numpy(positions.astype(np.int32)),
                key_ends=torch.from_numpy(key_ends.astype(np.int32)),
            )
        )
        start += queries.size
    return tuple(groups)


def cut_points(keys: list[int], lengths: list[int]) -> list[int]:
    """Where to cut sorted chunks into groups, so that padding costs as few products as possible.

    Args:
        keys: keys of each chunk, ascending among chunks of equal length.
        lengths: queries of each chunk, descending.

    Returns:
        The index of the first chunk of each group, then the number of chunks.
    """
    borders = [0, *(i for i in range(1, len(keys)) if lengths[i] != lengths[i - 1]), len(keys)]
    points = [0]
    for first, last in pairwise(borders):
        points += [first + cut for cut in _best_cuts(keys[first:last], MAX_GROUPS)]
    return points


def _best_cuts(keys: list[int], max_groups: int) -> list[int]:
    """The ends of at most `max_groups` groups of ascending numbers with the least sum of (largest x count)."""
    count = len(keys)
    best = [(0, [0])] + [(keys[end - 1] * end, [end]) for end in range(1, count + 1)]
    for _ in range(min(max_groups, count) - 1):
        best = [best[0]] + [
            min(
                [
                    best[end],
                    *((best[cut][0] + keys[end - 1] * (end - cut), [*best[cut][1], end]) for cut in range(1, end)),
                ],
                key=lambda found: found[0],
            )
            for end in range(1, count + 1)
        ]
    return best[count][1]
