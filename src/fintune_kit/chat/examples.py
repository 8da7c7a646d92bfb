"""Examples: conversations as tokens, single and by the hundred thousand.

tokens      <|im_start|> user \\n What is an ETF? <|im_end|> \\n <|im_start|> assistant \\n A fund ... <|im_end|> \\n
supervised                                                                            1  1  1   1
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORE = -100
"""The label of a position that is not supervised, as PyTorch's cross-entropy knows it."""


@dataclass(frozen=True)
class Example:
    """A conversation as the model reads it: `tokens` int32 [n], `supervised` bool [n] (the tokens to be learned)."""

    tokens: NDArray[np.int32]
    supervised: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Examples:
    """Many examples end to end: example i is `tokens[offsets[i]:offsets[i + 1]]` (int32, bool, int64)."""

    tokens: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Example:
        part = slice(self.offsets[index], self.offsets[index + 1])
        return Example(self.tokens[part], self.supervised[part])

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def take(self, indices: NDArray[np.int64]) -> "Examples":
        """Some of the examples, in the order of `indices`."""
        lengths = self.lengths()[indices]
        ends = np.cumsum(lengths)
        source = (
            np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths) + np.repeat(self.offsets[indices], lengths)
        )
        return Examples(self.tokens[source], self.supervised[source], np.concatenate([[0], ends]))

    @staticmethod
    def concatenate(parts: Sequence["Examples"]) -> "Examples":
        """All examples of `parts`, in order."""
        lengths = [part.lengths() for part in parts]
        return Examples(
            np.concatenate([part.tokens for part in parts] or [np.zeros(0, np.int32)]),
            np.concatenate([part.supervised for part in parts] or [np.zeros(0, bool)]),
            np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64),
        )

    @staticmethod
    def of(examples: Sequence[Example]) -> "Examples":
        """Lays single examples end to end."""
        ends = [np.array([0, len(example)], np.int64) for example in examples]
        return Examples.concatenate([Examples(e.tokens, e.supervised, o) for e, o in zip(examples, ends, strict=True)])
