"""Examples, single and by the hundred thousand, and the pool of lines that they are laid out from.

Finance data repeats its system prompts, instructions and reports, so a text is cut into lines, every distinct line is
encoded once, and an example is a list of line numbers until its tokens are gathered:

    pool     [<|im_start|>] [user\\n] [Revenue rose.\\n] [Is that good?] [<|im_end|> ...] ...
    example  0 1 2 3 4 ...      another  0 1 2 7 4 ...
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pre-tokenization rule of Qwen2 to Qwen3. No match of it holds a newline and a visible character after it."""

_LINE_STARTS = re.compile(r"(?<=\n)(?=[!-~])")


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


@dataclass(frozen=True)
class Layout:
    """Examples as line numbers of a pool; of each line, tokens `first` to before `last` are supervised.

    The last field tells where each example ends among the lines.
    """

    numbers: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, number: int, first: int, last: int) -> None:
        """Appends a line to the example that is being laid out."""
        self.numbers.append(number)
        self.first.append(first)
        self.last.append(last)

    def end_example(self) -> None:
        """What is added from here on belongs to the next example."""
        self.ends.append(len(self.numbers))


class LinePool:
    """Token ids of every distinct line, each encoded once.

    Lines are known by their digest: their text would hold the whole data set in memory.
    """

    def __init__(self, tokenizer: Any, *, cuts_lines: bool) -> None:
        """`tokenizer` is a byte-level `tokenizers.Tokenizer`; a text is cut into lines where its rule allows it."""
        self._tokenizer = tokenizer
        self._cuts_lines = cuts_lines
        self._numbers: dict[bytes, int] = {}
        self._waiting: list[str] = []
        self._tokens = np.zeros(1 << 16, np.int32)
        self._starts = np.zeros(1, np.int64)

    def add_tokens(self, tokens: Sequence[int]) -> int:
        """The number of a line given as token ids. Comes before any line given as text."""
        assert not self._waiting
        self._store([tokens])
        return len(self._starts) - 2

    def lines(self, text: str) -> list[str]:
        """`text`, cut where no token can lie across: between a newline and a visible ASCII character."""
        return _LINE_STARTS.split(text) if self._cuts_lines else [text]

    def number(self, line: str) -> int:
        """The number of a line given as text, which may still wait to be encoded."""
        key = hashlib.blake2b(line.encode(), digest_size=16).digest()
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._starts) - 1 + len(self._waiting)
            self._waiting.append(line)
        return number

    def tokens_begun(self, line: str, characters: int) -> int:
        """How many tokens of `line` begin within its first `characters`."""
        if not characters:
            return 0
        tokens = self._tokenizer.encode(line, add_special_tokens=False).tokens
        begins = np.cumsum([0, *map(len, tokens)])[:-1]  # a byte-level token writes each byte as one character
        return int((begins < len(line[:characters].encode())).sum())

    def gather(self, layout: Layout) -> Examples:
        """Encodes what is waiting and lays the lines end to end."""
        encodings = self._tokenizer.encode_batch_fast(self._waiting, add_special_tokens=False)
        self._waiting = []
        self._store([encoding.ids for encoding in encodings])
        numbers = np.array(layout.numbers, np.int64)
        lengths = np.diff(self._starts)[numbers]
        ends = np.cumsum(lengths)
        within = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
        supervised = within >= np.repeat(np.array(layout.first, np.int64), lengths)
        supervised &= within < np.repeat(np.array(layout.last, np.int64), lengths)
        tokens = self._tokens[within + np.repeat(self._starts[numbers], lengths)]
        return Examples(tokens, supervised, np.concatenate([[0], ends])[[0, *layout.ends]])

    def _store(self, lines: Sequence[Sequence[int]]) -> None:
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        used, added = int(self._starts[-1]), int(lengths.sum())
        if used + added > len(self._tokens):
            self._tokens = np.concatenate([self._tokens[:used], np.zeros(added + used // 2, np.int32)])
        self._tokens[used : used + added] = np.fromiter(chain.from_iterable(lines), np.int32, added)
        self._starts = np.concatenate([self._starts, used + np.cumsum(lengths)])
