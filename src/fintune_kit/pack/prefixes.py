"""Shared prefixes: how much of each example may be shared, the order of the examples, and what neighbours share.

Sorted by their prefixes, the examples are the leaves of a prefix tree. The numbers of tokens that neighbours share
describe the whole tree:

    order  prefix (its private rest is not compared)      shared
    0      system A, report X, question 1                 0
    1      system A, report X, question 2                 |system A, report X|
    2      system A, report Y                             |system A|
    3      system B                                       0
"""

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import Examples

_PAIRS_AT_ONCE = 4096


def shareable_lengths(examples: Examples) -> NDArray[np.int64]:
    """Tokens of each example that may be shared, int64 [n]: those before its first supervised token, less one.

    So a shared position is not supervised, and the next one is not either: no position ever has two targets.
    """
    supervised = np.flatnonzero(examples.supervised)
    starts, ends = examples.offsets[:-1], examples.offsets[1:]
    found = np.searchsorted(supervised, starts)
    first = np.append(supervised, len(examples.supervised))[found]
    return np.maximum(np.minimum(first, ends) - 1 - starts, 0)


def prefix_order(examples: Examples, shareable: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the examples, sorted by their shareable prefixes; equal ones keep their order."""
    # Big-endian bytes compare as the numbers do, and Python compares bytes at the speed of memcmp.
    data = memoryview(examples.tokens.astype(">u4").tobytes())
    starts = (4 * examples.offsets[:-1]).tolist()
    keys = [bytes(data[start : start + 4 * length]) for start, length in zip(starts, shareable.tolist(), strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def shared_with_previous(
    examples: Examples, shareable: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tokens that each example shares with the one before it in `order`, int64 [n]; 0 for the first."""
    shared = np.zeros(len(order), np.int64)
    limits = np.minimum(shareable[order[1:]], shareable[order[:-1]])
    starts = examples.offsets[order]
    for begin in range(0, len(limits), _PAIRS_AT_ONCE):
        limit = limits[begin : begin + _PAIRS_AT_ONCE]
        before, after = (starts[begin + k : begin + k + len(limit)] for k in (0, 1))
        borders = np.cumsum(limit) - limit
        within = np.arange(limit.sum()) - np.repeat(borders, limit)
        differs = (
            examples.tokens[within + np.repeat(before, limit)] != examples.tokens[within + np.repeat(after, limit)]
        )
        positions = np.append(np.where(differs, within, limit.max()), limit.max())  # a border may lie at the end
        first = np.minimum.reduceat(positions, borders)
        shared[begin + 1 : begin + 1 + len(limit)] = np.where(limit > 0, np.minimum(first, limit), 0)
    return shared


class RangeMinimum:
    """The least value in any stretch of an array, from a sparse table of n log n integers."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self._levels = [values.astype(np.int32)]
        while 2 ** len(self._levels) <= len(values):
            last, step = self._levels[-1], 2 ** (len(self._levels) - 1)
            self._levels.append(np.minimum(last[:-step], last[step:]))

    def over(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Minimum of `values[first[i] : last[i] + 1]` for each i, int64; needs first <= last."""
        level = np.frexp(last - first + 1)[1] - 1
        result = np.zeros(len(first), np.int64)
        for one in np.unique(level):
            chosen = level == one
            table = self._levels[one]
            result[chosen] = np.minimum(table[first[chosen]], table[last[chosen] - 2**one + 1])
        return result

    def of(self, first: int, last: int) -> int:
        """Minimum of `values[first : last + 1]`; needs first <= last."""
        level = (last - first + 1).bit_length() - 1
        table = self._levels[level]
        return int(min(table[first], table[last - (1 << level) + 1]))
