"""Packs as prefix trees: five integers for each position.

Two examples, `a x X . b Y .` and `a x X . c Z .`, whose answers `X .`, `Y .` and `Z .` are supervised, in one pack:

    position        0  1  2  3  4  5  6  7  8  9 10 11
    input_ids       a  x  X  .  b  Y  .  c  Z  .  _  _     `a x X .` is written once
    position_ids    0  1  2  3  4  5  6  4  5  6  0  0     depth in the example: the branch c restarts at 4
    subtree_end    10 10 10 10  7  7  7 10 10 10 11 12     query q sees key k where k <= q < subtree_end[k]
    shift_labels    -  X  .  -  Y  .  -  Z  .  -  -  -     the token to predict from here, -100 where there is none
    loss_weight     0  2  2  0  1  1  0  1  1  0  0  0     how many examples predict it from here
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import IGNORE, Examples
from fintune_kit.pack.grouping import build_trie, group, min_packs, min_tokens
from fintune_kit.pack.mix import compose, even_order, mixed_packs
from fintune_kit.pack.prefixes import RangeMinimum, prefix_order, shareable_lengths, shared_with_previous

COLUMNS = ("input_ids", "position_ids", "subtree_end", "shift_labels", "loss_weight")
"""The columns of a pack, each int32 [max_length]."""


@dataclass(frozen=True)
class Arrangement:
    """Which examples lie in which pack, and what each shares with the one before it.

    members    int64 [n]  indices of examples, pack after pack, in prefix order within a pack
    shared     int64 [n]  tokens shared with the previous member of the pack (0 for its first)
    ends       int64 [p]  where each pack ends among the members
    min_packs  proven lower bound on the number of packs
    min_tokens proven lower bound on the positions that the packs fill
    tree       tokens of the one tree over all examples: packs that cut it write some of them again
    """

    members: NDArray[np.int64]
    shared: NDArray[np.int64]
    ends: NDArray[np.int64]
    min_packs: int
    min_tokens: int
    tree: int

    def __len__(self) -> int:
        return len(self.ends)

    @staticmethod
    def join(parts: Sequence[tuple[NDArray[np.int64], "Arrangement"]]) -> "Arrangement":
        """The packs of several parts of the examples, one part after the other; each with its examples' indices."""
        nothing = np.zeros(0, np.int64)
        members = [indices[part.members] for indices, part in parts]
        begins = np.cumsum([0, *(len(part) for part in members)])
        return Arrangement(
            np.concatenate([nothing, *members]),
            np.concatenate([nothing, *(part.shared for _, part in parts)]),
            np.concatenate([nothing, *(part.ends + begin for (_, part), begin in zip(parts, begins, strict=False))]),
            min_packs=sum(part.min_packs for _, part in parts),
            min_tokens=sum(part.min_tokens for _, part in parts),
            tree=sum(part.tree for _, part in parts),
        )

    def packs(self) -> list[list[int]]:
        """Indices of the examples in each pack."""
        return [part.tolist() for part in np.split(self.members, self.ends[:-1])] if len(self) else []

    def sum_by_pack(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums one value a member over the members of each pack, int64 [p]."""
        return np.diff(np.concatenate([[0], np.cumsum(values)])[np.concatenate([[0], self.ends])])


def arrange(
    examples: Examples,
    *,
    max_length: int,
    share_prefixes: bool = True,
    share_answers: bool = True,
    strata: Sequence[Hashable] | None = None,
    mix: bool = False,
    seed: int = 0,
) -> Arrangement:
    """Groups examples of at most `max_length` tokens into packs, and puts the packs in order.

    An example of one token is never packed: it teaches nothing, and it would read as padding.

    Args:
        examples: of 2 to `max_length` tokens each.
        max_length: positions in a pack.
        share_prefixes: whether a shared prefix is written once; without it this is ordinary best-fit packing.
        share_answers: whether shared prefixes may hold supervised tokens.
        strata: task and label of each example: any stretch of packs then holds a mix of them. None shuffles the packs.
        mix: whether each pack holds such a mix too (`mix`); else there are as few packs as possible (`grouping`).
        seed: of the order.
    """
    assert strata is not None or not mix, "a mix needs strata"
    lengths = examples.lengths()
    assert len(lengths) == 0 or (lengths.max() <= max_length and lengths.min() >= 2), "callers refuse other lengths"
    if share_prefixes:
        shareable = shareable_lengths(examples, answers=share_answers)
        order = prefix_order(examples, shareable)
        shared = shared_with_previous(examples, shareable, order)
    else:
        order, shared = np.arange(len(lengths)), np.zeros(len(lengths), np.int64)
    trie = build_trie(lengths[order].tolist(), shared.tolist())
    in_order = [strata[index] for index in order.tolist()] if strata is not None else []
    if mix:
        packs = mixed_packs(trie, shared.tolist(), strata=in_order, max_length=max_length, seed=seed)
    else:
        packs = group(trie, max_length)
    packs = _in_training_order(packs, in_order, seed=seed)
    ends = np.cumsum([len(pack) for pack in packs], dtype=np.int64)
    ranks = np.array([rank for pack in packs for rank in pack], np.int64)
    in_pack = np.zeros(len(ranks), np.int64)
    follows = np.setdiff1d(np.arange(len(ranks)), np.concatenate([[0], ends]))
    in_pack[follows] = RangeMinimum(shared).over(ranks[follows - 1] + 1, ranks[follows])
    return Arrangement(
        order[ranks],
        in_pack,
        ends,
        min_packs=min_packs(trie, max_length),
        min_tokens=min_tokens(trie, max_length),
        tree=trie.total[trie.root],
    )


def _in_training_order(packs: list[list[int]], strata: Sequence[Hashable], *, seed: int) -> list[list[int]]:
    """Packs in an order in which any stretch holds a mix of the strata; shuffled where there are none."""
    if strata:
        turn = even_order(compose(packs, strata, names=list(dict.fromkeys(strata))), seed=seed)
    else:
        turn = np.random.default_rng(seed).permutation(len(packs))
    return [packs[index] for index in turn.tolist()]


def write_columns(
    examples: Examples, arrangement: Arrangement, *, first: int, last: int, max_length: int, pad_id: int
) -> dict[str, NDArray[np.int32]]:
    """The columns of packs `first` to before `last`, each int32 [last - first, max_length]."""
    borders = np.concatenate([[0], arrangement.ends])[first : last + 1]
    members = arrangement.members[borders[0] : borders[-1]]
    shared = arrangement.shared[borders[0] : borders[-1]]
    lengths = examples.lengths()[members]
    written = lengths - shared
    starts = np.cumsum(written) - written  # of each member's own positions, all packs end to end
    total = int(written.sum())

    depth = np.arange(total) - np.repeat(starts - shared, written)
    source = depth + np.repeat(examples.offsets[members], written)
    following = np.minimum(source + 1, len(examples.tokens) - 1)
    supervised = examples.supervised[following] & (depth + 1 < np.repeat(lengths, written))
    ends, sharing = _ends_and_sharing(starts.tolist(), shared.tolist(), lengths.tolist(), total)

    used = np.diff(np.append(starts, total)[borders - borders[0]])
    begins = np.cumsum(used) - used
    within = np.arange(total) - np.repeat(begins, used)
    assert len(used) == 0 or used.max() <= max_length
    rows = np.repeat(np.arange(last - first), used)
    columns = {name: np.zeros((last - first, max_length), np.int32) for name in COLUMNS}
    columns["input_ids"][:] = pad_id
    # Padding sees itself: an empty row of the mask would give NaN.
    columns["subtree_end"][:] = np.arange(1, max_length + 1)
    columns["shift_labels"][:] = IGNORE
    columns["input_ids"][rows, within] = examples.tokens[source]
    columns["position_ids"][rows, within] = depth
    columns["subtree_end"][rows, within] = ends - np.repeat(begins, used)
    columns["shift_labels"][rows, within] = np.where(supervised, examples.tokens[following], IGNORE)
    columns["loss_weight"][rows, within] = np.where(supervised, sharing, 0)
    return columns


def count_head_positions(examples: Examples, arrangement: Arrangement) -> int:
    """Positions of all packs that predict a supervised token. The head scores each of them once, whatever its weight.

    Args:
        examples: those that were arranged.
    """
    before = np.concatenate([[0], np.cumsum(examples.supervised)])  # supervised tokens before each token
    first = examples.offsets[arrangement.members] + arrangement.shared + 1  # predicted from a member's own positions
    last = examples.offsets[arrangement.members + 1]
    return int((before[last] - before[first]).sum())


def pack_examples(
    examples: Examples, *, max_length: int, pad_id: int, share_prefixes: bool = True
) -> list[dict[str, NDArray[np.int32]]]:
    """A few examples as packs in memory: of each pack its columns, int32 [max_length].

    Args:
        examples: of 2 to `max_length` tokens each.
        max_length: positions in a pack.
        pad_id: of positions that stay empty.
        share_prefixes: whether a shared prefix is written once.
    """
    arrangement = arrange(examples, max_length=max_length, share_prefixes=share_prefixes)
    columns = write_columns(examples, arrangement, first=0, last=len(arrangement), max_length=max_length, pad_id=pad_id)
    return [{name: column[index] for name, column in columns.items()} for index in range(len(arrangement))]


def _ends_and_sharing(
    starts: list[int], shared: list[int], lengths: list[int], total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each position of members written end to end: the first position that does not continue it, and how many
    members it belongs to.

    An open stretch is the part of a member, from depth `top` to `bottom`, that the next member may still continue. All
    members from the one that opens it to the one that closes it have continued it.
    """
    found: list[tuple[int, int, int, int]] = []  # position, count, subtree end, members
    stretches: list[tuple[int, int, int, int]] = []  # top, bottom, position of the top, member that opened it
    for member, (start, keeps, length) in enumerate(zip([*starts, total], [*shared, 0], [*lengths, 0], strict=True)):
        while stretches and stretches[-1][1] > keeps:
            top, bottom, position, opener = stretches.pop()
            kept = max(0, keeps - top)
            found.append((position + kept, bottom - top - kept, start, member - opener))
            if kept:
                stretches.append((top, keeps, position, opener))
        stretches.append((keeps, length, start, member))
    found.sort()
    table = np.array(found, np.int64).reshape(-1, 4)
    return np.repeat(table[:, 2], table[:, 1]), np.repeat(table[:, 3], table[:, 1])


def unpack(pack: Mapping[str, NDArray[np.int32]]) -> list[tuple[list[int], list[int]]]:
    """The examples of a pack, as (tokens, shifted labels), by walking its tree; padding is left out.

    This checks packs, so it does not use the code that makes them. A position lies under another one if it comes before
    that one's `subtree_end`. An example ends where nothing continues it.

    Raises:
        ValueError: the columns do not describe a tree, or a weight is not the number of examples that predict a token.
    """
    tokens, depths, ends, labels, weights = (np.asarray(pack[name]).tolist() for name in COLUMNS)
    found: list[tuple[list[int], list[int]]] = []
    path: list[int] = []
    counted = [0] * len(tokens)
    for position in range(len(tokens)):
        while path and ends[path[-1]] <= position:
            path.pop()
        if len(path) != depths[position] or not position < ends[position] <= (ends[path[-1]] if path else len(tokens)):
            raise ValueError(f"position {position} has depth {depths[position]} and subtree_end {ends[position]}")
        path.append(position)
        if ends[position] == position + 1 and len(path) > 1:
            found.append(([tokens[at] for at in path], [labels[at] for at in path]))
            for at in path:
                counted[at] += labels[at] != IGNORE
    for position, (weight, count) in enumerate(zip(weights, counted, strict=True)):
        if weight != count:
            raise ValueError(f"position {position} has loss_weight {weight}, but {count} examples predict from there")
    return found
