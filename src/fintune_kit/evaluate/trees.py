"""Prompts and their answer options as prefix trees, many rows in one pack.

Rows of a task share their instruction, and each row branches into its options. Sorted, neighbours share the longest
prefixes, so one pass writes them once; `subtree_end` says who attends to whom, as in training (`pack.tree`):

    instruction  text A  pos|neu      text B  pos|neu     `pos`, `neu` are inputs only where a token follows them
    0 1 2 3 4 5  6 7 8 9 10  10       6 7 8   9   9       position_ids: depth in its own answer
    17 . . . . . 12 . .  11  12       17 . .  16  17      subtree_end

The last token of an option is predicted but never read, so it is a target and takes no place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fintune_kit.errors import UserError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class OptionTrie:
    """The options of a row below its prompt: `inputs` tokens that are read, `targets` that are predicted."""

    inputs: Ints
    """[I] token ids, depth first."""
    depth: Ints
    """[I] 0 for a token right after the prompt."""
    end: Ints
    """[I] first input after all that continue this one."""
    targets: Ints
    """[T] token ids."""
    parent: Ints
    """[T] the input that predicts the target; -1 is the prompt's last token."""
    on_path: NDArray[np.bool_]
    """[options, T] the targets whose log-probabilities add up to an option's score."""


def option_trie(options: Sequence[Sequence[int] | Ints]) -> OptionTrie:
    """The trie of some options' tokens (at least one token each), which keeps their order in `on_path`."""
    assert options, "a row without options"
    assert all(len(option) for option in options), "an option without tokens"
    inputs: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    targets: list[int] = []
    parent: list[int] = []
    paths: list[list[int]] = [[] for _ in options]

    def grow(members: list[int], level: int, above: int) -> None:
        for token in sorted({int(options[m][level]) for m in members}):
            here = [m for m in members if options[m][level] == token]
            for member in here:
                paths[member].append(len(targets))
            targets.append(token)
            parent.append(above)
            longer = [m for m in here if len(options[m]) > level + 1]
            if longer:
                node = len(inputs)
                inputs.append(token)
                depth.append(level)
                end.append(0)
                grow(longer, level + 1, node)
                end[node] = len(inputs)

    grow(list(range(len(options))), 0, -1)
    on_path = np.zeros((len(options), len(targets)), bool)
    for option, path in enumerate(paths):
        on_path[option, path] = True
    return OptionTrie(
        inputs=np.array(inputs, np.int64),
        depth=np.array(depth, np.int64),
        end=np.array(end, np.int64),
        targets=np.array(targets, np.int64),
        parent=np.array(parent, np.int64),
        on_path=on_path,
    )


@dataclass(frozen=True)
class TreePack:
    """One row of positions: `input_ids`, `position_ids`, `subtree_end` int64 [n], and what is predicted where."""

    input_ids: Ints
    position_ids: Ints
    subtree_end: Ints
    parent: Ints
    """[K] the position that predicts each target, row after row."""
    target: Ints
    """[K] the predicted token ids."""
    rows: Ints
    """[R] indices of the rows in here; row r owns the next `len(tries[r].targets)` targets."""

    def __len__(self) -> int:
        return len(self.input_ids)


def build_packs(prompts: Sequence[Ints], tries: Sequence[OptionTrie], *, length: int) -> Iterator[TreePack]:
    """Rows in packs of at most `length` positions, in the order of their prompts' tokens.

    A row that is longer than `length` by itself gets a pack of its own, as long as it needs.

    Args:
        prompts: token ids of each row's prompt.
        tries: options of each row (rows may share one object).
        length: positions in a pack.
    """
    order = sorted(range(len(prompts)), key=lambda row: np.asarray(prompts[row], ">i4").tobytes())
    builder = _Builder()
    for row in order:
        if builder.rows and builder.used + builder.cost(prompts[row], tries[row]) > length:
            yield builder.finish()
            builder = _Builder()
        builder.add(row, prompts[row], tries[row])
    if builder.rows:
        yield builder.finish()


def longest_answer(prompts: Sequence[Ints], tries: Sequence[OptionTrie]) -> int:
    """The deepest position that any row needs."""
    depths = [len(p) + (int(t.depth.max()) + 1 if len(t.depth) else 0) for p, t in zip(prompts, tries, strict=True)]
    return max(depths, default=0)


def check_depth(prompts: Sequence[Ints], tries: Sequence[OptionTrie], *, most: int, task: str) -> None:
    """
    Raises:
        UserError: a row is longer than the model can read.
    """
    found = longest_answer(prompts, tries)
    if found > most:
        raise UserError(
            f"task {task!r} has a row of {found} tokens, the model reads at most {most}: shorten it, or leave it out"
        )


class _Builder:
    """A pack that grows row by row; `path` holds the positions of the current row's prompt tokens."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.used = 0
        self._prompt: Ints = np.zeros(0, np.int64)
        self._path: Ints = np.zeros(0, np.int64)
        self._tokens: list[Ints] = []
        self._depths: list[Ints] = []
        self._ends: list[Ints] = []  # of option tokens now, of prompt tokens when their last continuation is known
        self._closed: list[tuple[Ints, int]] = []
        self._parents: list[Ints] = []
        self._targets: list[Ints] = []

    def cost(self, prompt: Ints, trie: OptionTrie) -> int:
        """Positions that a row would add."""
        return len(prompt) - _common_prefix(self._prompt, prompt) + len(trie.inputs)

    def add(self, row: int, prompt: Ints, trie: OptionTrie) -> None:
        shared = _common_prefix(self._prompt, prompt)
        if len(self._path) > shared:
            self._closed.append((self._path[shared:], self.used))
        own = len(prompt) - shared
        first = self.used + own  # where the options begin
        self._path = np.concatenate([self._path[:shared], np.arange(self.used, first)])
        self._prompt = prompt
        self._tokens += [prompt[shared:], trie.inputs]
        self._depths += [np.arange(shared, len(prompt)), len(prompt) + trie.depth]
        self._ends += [np.zeros(own, np.int64), first + trie.end]
        self._parents.append(np.where(trie.parent < 0, self._path[-1], first + trie.parent))
        self._targets.append(trie.targets)
        self.rows.append(row)
        self.used = first + len(trie.inputs)

    def finish(self) -> TreePack:
        end = np.concatenate(self._ends)
        for path, cursor in [*self._closed, (self._path, self.used)]:
            end[path] = cursor
        return TreePack(
            input_ids=np.concatenate(self._tokens).astype(np.int64),
            position_ids=np.concatenate(self._depths).astype(np.int64),
            subtree_end=end,
            parent=np.concatenate(self._parents),
            target=np.concatenate(self._targets),
            rows=np.array(self.rows, np.int64),
        )


def _common_prefix(a: Ints, b: Ints) -> int:
    n = min(len(a), len(b))
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
