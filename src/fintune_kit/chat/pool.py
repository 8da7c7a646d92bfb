"""The pool of distinct texts: each text is encoded once, and so is each word in it.

Finance data repeats itself. So an example is first a list of indices into the pool, and its tokens are gathered at the
end:

    pool     0 [<|im_start|>]  1 [user\\n]  2 [Is revenue rising?]  3 [<|im_end|> ...]  4 [Yes, by 4%.]  ...
    example  0 1 2 3 4 ...     another  0 1 7 3 4 ...
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import Examples

_WORD_STARTS = re.compile(r"(?= [!-~])|(?<=\n)(?=[!-~])")
_VISIBLE = frozenset(map(chr, range(ord("!"), ord("~") + 1)))


@dataclass(frozen=True)
class TextLayout:
    """Examples as indices of texts in a pool."""

    indices: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    """Of each text, its first supervised token."""
    last: list[int] = field(default_factory=list)
    """Of each text, the token after its last supervised one."""
    ends: list[int] = field(default_factory=list)
    """Of each example, the number of texts up to its end."""

    def add(self, index: int, first: int, last: int) -> None:
        """Appends a text to the example that is being laid out."""
        self.indices.append(index)
        self.first.append(first)
        self.last.append(last)

    def end_example(self) -> None:
        """Ends the example: the next text belongs to another one."""
        self.ends.append(len(self.indices))


class _Tokens:
    """Lists of token ids end to end: list i is `ids[starts[i]:starts[i + 1]]`."""

    def __init__(self) -> None:
        self.ids = np.zeros(1 << 16, np.int32)
        self.starts = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def append(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> None:
        """Adds texts: their tokens end to end (`ids`), and how many tokens each has (`lengths`)."""
        used = int(self.starts[-1])
        if used + len(ids) > len(self.ids):
            self.ids = np.concatenate([self.ids[:used], np.zeros(len(ids) + used // 2, np.int32)])
        self.ids[used : used + len(ids)] = ids
        self.starts = np.concatenate([self.starts, used + np.cumsum(lengths)])

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Some lists end to end: their ids, the index of each id in its list, and the lengths of the lists."""
        lengths = self.starts[indices + 1] - self.starts[indices]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.ids[within + np.repeat(self.starts[indices], lengths)], within, lengths


class TextPool:
    """Token ids of every distinct text, each encoded once, with control tokens off.

    Texts are known by their digests: the texts themselves would take as much memory as the whole data set.
    """

    def __init__(self, tokenizer: Any, *, by_words: bool) -> None:
        """
        Args:
            tokenizer: a byte-level `tokenizers.Tokenizer`.
            by_words: whether its rule allows a text to be cut into words.
        """
        self._tokenizer = tokenizer
        self._by_words = by_words
        self._indices: dict[bytes, int] = {}
        self._waiting: list[str] = []
        self._texts = _Tokens()
        self._word_indices: dict[str, int] = {}
        self._words = _Tokens()

    def add_tokens(self, ids: Sequence[int]) -> int:
        """The index of a text that is given as token ids. All of these must be added before the first other text."""
        assert not self._waiting
        self._texts.append(np.array(ids, np.int32), np.array([len(ids)]))
        return len(self._texts) - 1

    def index_of(self, text: str) -> int:
        """The index of a text, which may still wait to be encoded."""
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        index = self._indices.get(key)
        if index is None:
            index = self._indices[key] = len(self._texts) + len(self._waiting)
            self._waiting.append(text)
        return index

    def splits(self, header: str, content: str) -> bool:
        """Whether no token can cross the border between a header and the content after it."""
        return self._by_words and header.endswith("\n") and content[:1] in _VISIBLE

    def tokens_begun(self, text: str, characters: int) -> int:
        """How many tokens of `text` begin within its first `characters`."""
        tokens = self._tokenizer.encode(text, add_special_tokens=False).tokens
        begins = np.cumsum([0, *map(len, tokens)])[:-1]  # a byte-level token writes each byte as one character
        return int((begins < len(text[:characters].encode())).sum())

    def gather(self, layout: TextLayout) -> Examples:
        """Encodes the waiting texts, and lays the texts of the examples end to end."""
        self._encode_waiting()
        ids, within, lengths = self._texts.gather(np.array(layout.indices, np.int64))
        supervised = within >= np.repeat(np.array(layout.first, np.int64), lengths)
        supervised &= within < np.repeat(np.array(layout.last, np.int64), lengths)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        return Examples(ids, supervised, ends[np.array([0, *layout.ends], np.int64)])

    def _encode_waiting(self) -> None:
        words = [_WORD_STARTS.split(text) if self._by_words else [text] for text in self._waiting]
        flat = list(chain.from_iterable(words))
        new = [word for word in dict.fromkeys(flat) if word not in self._word_indices]
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(new, add_special_tokens=False)]
        self._word_indices.update(zip(new, range(len(self._words), len(self._words) + len(new)), strict=True))
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self._words.append(np.fromiter(chain.from_iterable(encoded), np.int32, lengths.sum()), lengths)

        indices = np.fromiter(map(self._word_indices.__getitem__, flat), np.int64, len(flat))
        ids, _, lengths = self._words.gather(indices)
        borders = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        ends = np.concatenate([[0], np.cumsum(lengths)])[np.concatenate([[0], borders])]
        self._texts.append(ids, np.diff(ends))
        self._waiting = []
