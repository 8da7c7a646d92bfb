"""Packs many questions with their answer options as prefix trees.

Questions of a task share their instruction, and each question branches into its options. In sorted order, neighbours
share the longest prefixes, so each shared prefix is written once. `subtree_end` tells which keys a position attends to,
as in training (`pack.tree`):

    instruction  text A  pos|neu      text B  pos|neu     `pos`, `neu` are inputs only where a token follows them
    0 1 2 3 4 5  6 7 8 9 10  10       6 7 8   9   9       position_ids: depth in its own answer
    17 . . . . . 12 . .  11  12       17 . .  16  17      subtree_end

The last token of an option is predicted but never read, so it is a target and takes no position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fintune_kit.errors import UserError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class OptionTrie:
    """The options of a question as a tree below its prompt. The model reads `inputs` and predicts `targets`."""

    inputs: Ints
    """[I] token ids, depth first."""
    depth: Ints
    """[I] 0 for a token directly after the prompt."""
    end: Ints
    """[I] the index of the first input that does not continue this one."""
    targets: Ints
    """[T] token ids."""
    parent: Ints
    """[T] the index of the input that predicts the target; -1 is the last token of the prompt."""
    on_path: NDArray[np.bool_]
    """[options, T] True for the targets whose log-probabilities add up to an option's score."""


def option_trie(options: Sequence[Sequence[int] | Ints]) -> OptionTrie:
    """The trie of some options.

    Args:
        options: the token ids of each option, at least one.

    Returns:
        A trie whose `on_path` has the order of the options.
    """
    assert options, "a question without options"
    assert all(len(option) for option in options), "an option without tokens"
    inputs: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    targets: list[int] = []
    parent: list[int] = []
    paths: list[list[int]] = [[] for _ in options]

    def _grow(members: list[int], level: int, above: int) -> None:
        """Adds the tokens at depth `level` of the options `members`, which share all tokens before it."""
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
                _grow(longer, level + 1, node)
                end[node] = len(inputs)

    _grow(list(range(len(options))), 0, -1)
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
    """One pack: `input_ids`, `position_ids`, `subtree_end` int64 [n], and the targets with their positions."""

    input_ids: Ints
    position_ids: Ints
    subtree_end: Ints
    parent: Ints
    """[K] the position that predicts each target, question after question."""
    target: Ints
    """[K] the predicted token ids."""
    questions: Ints
    """[Q] indices of the questions in this pack. Each question q has the next `len(tries[q].targets)` targets."""

    def __len__(self) -> int:
        return len(self.input_ids)


def build_packs(prompts: Sequence[Ints], tries: Sequence[OptionTrie], *, length: int) -> Iterator[TreePack]:
    """Questions in packs of at most `length` positions, sorted by the tokens of their prompts.

    A question longer than `length` gets a longer pack of its own.

    Args:
        prompts: token ids of each question's prompt.
        tries: options of each question (questions may share one object).
        length: positions in a pack.
    """
    order = sorted(range(len(prompts)), key=lambda index: np.asarray(prompts[index], ">i4").tobytes())
    builder = _Builder()
    for index in order:
        if builder.questions and builder.used + builder.cost(prompts[index], tries[index]) > length:
            yield builder.finish()
            builder = _Builder()
        builder.add(index, prompts[index], tries[index])
    if builder.questions:
        yield builder.finish()


def longest_answer(prompts: Sequence[Ints], tries: Sequence[OptionTrie]) -> int:
    """The number of tokens of the longest question with an option."""
    depths = [len(p) + (int(t.depth.max()) + 1 if len(t.depth) else 0) for p, t in zip(prompts, tries, strict=True)]
    return max(depths, default=0)


def check_depth(prompts: Sequence[Ints], tries: Sequence[OptionTrie], *, max_depth: int, task: str) -> None:
    """Checks that the model can read every question.

    Raises:
        UserError: a question is longer than `max_depth` tokens.
    """
    found = longest_answer(prompts, tries)
    if found > max_depth:
        raise UserError(
            f"task {task!r} has a question of {found} tokens, the model reads at most {max_depth}: shorten it, or "
            "leave it out"
        )


class _Builder:
    """A pack that grows question by question. `_path` holds the positions of the last prompt's tokens."""

    def __init__(self) -> None:
        self.questions: list[int] = []
        self.used = 0
        self._prompt: Ints = np.zeros(0, np.int64)
        self._path: Ints = np.zeros(0, np.int64)
        self._tokens: list[Ints] = []
        self._depths: list[Ints] = []
        self._ends: list[Ints] = []  # known at once for options; for prompts, when nothing continues them any more
        self._closed: list[tuple[Ints, int]] = []
        self._parents: list[Ints] = []
        self._targets: list[Ints] = []

    def cost(self, prompt: Ints, trie: OptionTrie) -> int:
        """The number of positions that a question would add."""
        return len(prompt) - _common_prefix(self._prompt, prompt) + len(trie.inputs)

    def add(self, question: int, prompt: Ints, trie: OptionTrie) -> None:
        """Adds a question. Its prompt continues the longest prefix that it shares with the last prompt."""
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
        self.questions.append(question)
        self.used = first + len(trie.inputs)

    def finish(self) -> TreePack:
        """The pack of all questions that were added."""
        end = np.concatenate(self._ends)
        for path, cursor in [*self._closed, (self._path, self.used)]:
            end[path] = cursor
        return TreePack(
            input_ids=np.concatenate(self._tokens).astype(np.int64),
            position_ids=np.concatenate(self._depths).astype(np.int64),
            subtree_end=end,
            parent=np.concatenate(self._parents),
            target=np.concatenate(self._targets),
            questions=np.array(self.questions, np.int64),
        )


def _common_prefix(a: Ints, b: Ints) -> int:
    n = min(len(a), len(b))
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
