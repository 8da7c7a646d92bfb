"""Shared prefixes: how much of each example may be shared, the order of the examples, and what neighbours share.

Two examples share a position if their tokens are equal up to there, and if both predict the same token from there or
both predict nothing. So a shared position has one target, which counts once for each example. Where two answers part,
the branch starts one token earlier, at the position that predicts both:

    system A, question, yes .      shared with the next one: system A and the question without its last token
    system A, question, no .

Sorted by their prefixes, the examples are the leaves of a prefix tree. The numbers of tokens that neighbours share
describe the whole tree:

    order  example                                        shared
    0      system A, report X, question 1                 0
    1      system A, report X, question 1, answer, 2      |system A, report X, question 1, answer|
    2      system A, report X, question 3                 |system A, report X|
    3      system A, report Y                             |system A|
    4      system B                                       0
"""

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import Examples

_PAIRS_AT_ONCE = 4096


def shareable_lengths(examples: Examples, *, answers: bool = True) -> NDArray[np.int64]:
    """Tokens of each example that may be shared, int64 [n]: all but the last one.

    The last token predicts nothing. Each example writes its own, so that it is a leaf of the tree.

    Args:
        examples: of at least one token each.
        answers: whether supervised tokens are shared too. Without them an example shares the tokens before its first
            supervised one, less one.
    """
    if answers:
        return examples.lengths() - 1
    supervised = np.flatnonzero(examples.supervised)
    starts, ends = examples.offsets[:-1], examples.offsets[1:]
    found = np.searchsorted(supervised, starts)
    first = np.append(supervised, len(examples.supervised))[found]
    return np.maximum(np.minimum(first, ends) - 1 - starts, 0)


def prefix_order(examples: Examples, shareable: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the examples, sorted by their shareable prefixes and the next token; equal ones keep their order.

    A supervised token comes after all others: the examples that share the position before it are then neighbours.
    """
    # Big-endian bytes compare as the numbers do, and Python compares bytes at the speed of memcmp.
    data = memoryview(_marked(examples).astype(">u4").tobytes())
    starts = (4 * examples.offsets[:-1]).tolist()
    ends = (4 * (examples.offsets[:-1] + shareable + 1)).tolist()
    keys = [bytes(data[start:end]) for start, end in zip(starts, ends, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def shared_with_previous(
    examples: Examples, shareable: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tokens that each example shares with the one before it in `order`, int64 [n]; 0 for the first."""
    shared = np.zeros(len(order), np.int64)
    limits = np.minimum(shareable[order[1:]], shareable[order[:-1]])
    starts = examples.offsets[order]
    marked = _marked(examples)
    for begin in range(0, len(limits), _PAIRS_AT_ONCE):
        limit = limits[begin : begin + _PAIRS_AT_ONCE]
        before, after = (starts[begin + k : begin + k + len(limit)] for k in (0, 1))
        compared = limit + 1  # the last shared position predicts the token after it
        borders = np.cumsum(compared) - compared
        within = np.arange(compared.sum()) - np.repeat(borders, compared)
        differs = marked[within + np.repeat(before, compared)] != marked[within + np.repeat(after, compared)]
        equal = np.minimum.reduceat(np.where(differs, within, compared.max()), borders)
        parts = np.minimum(equal, limit)  # where they differ, if they do
        predicted = (examples.supervised[before + parts] | examples.supervised[after + parts]) & (equal <= limit)
        shared[begin + 1 : begin + 1 + len(limit)] = np.maximum(parts - predicted, 0)
    return shared


def _marked(examples: Examples) -> NDArray[np.uint32]:
    """The tokens, with the highest bit set where one is supervised."""
    return examples.tokens.astype(np.uint32) | (examples.supervised.astype(np.uint32) << np.uint32(31))


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
