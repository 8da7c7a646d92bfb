"""Dense packs: which examples share a pack, so that there are as few packs as possible.

A pack takes as many positions as the prefix tree over its examples has tokens. Positions are lost in two ways. A pack
that holds a part of a subtree writes the path to it again, and a pack may have positions that stay empty. So subtrees
are first kept together, and then the holes are filled:

1. `cluster` works from the leaves up. A subtree that fits into a pack beside its path stays whole. A larger one is cut
   into bins of `max_length - depth` by best-fit decreasing, and its bins become items of the parent.
2. `refill` dissolves packs, beginning with those that lose least. Their subtrees, or parts of these, go to the pack
   that already holds their deepest ancestor and has the tightest hole. A pack that cannot be dissolved whole stays.

`min_packs` is a proven lower bound on the packs of any arrangement, so the distance to it says what could be gained. It
knows two reasons why packs cannot be full: trees that are larger than a pack, and examples of which few fit into one.
Related: packing with shared pages, Sindelar, Sitaraman and Shenoy, "Sharing-aware algorithms for virtual machine
colocation", SPAA 2011; best fit by a table of gaps, as in TRL's `bfd`.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_PARTS = (1, 2, 3)
"""Items of more than a half, a third and a quarter of a pack: smaller ones leave little empty."""
Bin = tuple[int, list[int]]
"""Tokens below the node that it belongs to, and the subtrees in it."""


@dataclass(frozen=True)
class Trie:
    """A compressed prefix tree. Node v < `leaves` is example v in prefix order; the other nodes are branchings.

        depth    tokens from the root to the node's end (an example's length, for a leaf)
        total    tokens below the node, each written once (0 for a leaf)
        parent   -1 for the root
        inner    the branchings, children before parents; the last one is the root

    The subtree at v takes `depth[v] + total[v] - depth[a]` positions in a pack that already holds its ancestor a.
    """

    leaves: int
    depth: list[int]
    total: list[int]
    parent: list[int]
    children: list[list[int]]
    inner: list[int]

    @property
    def root(self) -> int:
        """The node of depth 0."""
        return self.inner[-1]

    def cost(self, node: int, below: int) -> int:
        """Tokens of the subtree at `node`, with its path from the ancestor `below`."""
        return self.depth[node] + self.total[node] - self.depth[below]

    def examples(self, node: int) -> list[int]:
        """The leaves under a node."""
        found, open_nodes = [], [node]
        while open_nodes:
            node = open_nodes.pop()
            if node < self.leaves:
                found.append(node)
            else:
                open_nodes.extend(self.children[node])
        return found


def build_trie(lengths: Sequence[int], shared: Sequence[int]) -> Trie:
    """The tree of examples in prefix order.

    Args:
        lengths: tokens of each example.
        shared: tokens that each shares with the one before it.
    """
    leaves = len(lengths)
    depth, parent, total = list(lengths), [-1] * leaves, [0] * leaves
    children: list[list[int]] = [[] for _ in range(leaves)]
    inner: list[int] = []

    def _branch(at: int) -> int:
        depth.append(at)
        parent.append(-1)
        total.append(0)
        children.append([])
        return len(depth) - 1

    def adopt(node: int, child: int) -> None:
        """Makes a finished node the child of another one."""
        parent[child] = node
        children[node].append(child)
        total[node] += depth[child] + total[child] - depth[node]

    path = [_branch(0)]
    for leaf in range(leaves):
        following = shared[leaf + 1] if leaf + 1 < leaves else 0
        if following > depth[path[-1]]:
            path.append(_branch(following))
        adopt(path[-1], leaf)
        while depth[path[-1]] > following:
            closed = path.pop()
            inner.append(closed)
            if depth[path[-1]] < following:
                path.append(_branch(following))
            adopt(path[-1], closed)
    return Trie(leaves, depth, total, parent, children, [*inner, path[0]])


def min_tokens(trie: Trie, max_length: int) -> int:
    """A lower bound on the positions that any arrangement fills, if it never splits an example.

    A tree larger than a pack is cut, and each part writes the path to it again. Let `need[v]` be the positions that all
    packs together spend below node v. At least `need[c] / (max_length - depth[c])` packs hold a part of the subtree of
    child c, and each of them writes the edge to c. So `need[v]` is at least the sum over its children of `need[c]` and
    these edges.
    """
    return _needs(trie, max_length)[trie.root]


def min_packs(trie: Trie, max_length: int) -> int:
    """A lower bound on the packs of any arrangement that never splits an example.

    It is the larger of two bounds. By volume: `min_tokens` in full packs. By shape: three conversations of 700 tokens
    do not fit into a pack of 2,048, even if they leave a third of it empty (`_packs_by_shape`).
    """
    if trie.leaves == 0:
        return 0
    needs = _needs(trie, max_length)
    return max(_ceil_divide(needs[trie.root], max_length), _packs_by_shape(trie, needs, max_length))


def _needs(trie: Trie, max_length: int) -> list[int]:
    """For each node, a lower bound on the positions that all packs together spend below it."""
    need = [0] * len(trie.depth)
    for node in trie.inner:
        for child in trie.children[node]:
            copies = max(1, _ceil_divide(need[child], max_length - trie.depth[child])) if need[child] else 1
            need[node] += need[child] + copies * (trie.depth[child] - trie.depth[node])
    return need


def _packs_by_shape(trie: Trie, needs: Sequence[int], max_length: int) -> int:
    """A lower bound on packs from subtrees of which few fit into one pack.

    Take subtrees that do not contain one another. At least one pack writes the longest example of such a subtree. Every
    other pack that holds a part of it writes at least the shortest one. In a pack these paths share nothing below their
    subtrees' parents, and all stand below the trunk that every example shares. So they are the items of a bin packing
    problem. A bin has the room of a pack without the trunk.

    An item of `size` counts as `floor(size (parts + 1) / room) / parts` bins. This is a dual feasible function (Fekete
    and Schepers, "New classes of fast lower bounds for bin packing problems", Math. Programming 91, 2001): together,
    the items of one bin never count as more than one. With 2 parts, an item of more than a third of the room counts as
    half a bin. The best subtrees are found from the leaves up.
    """
    trunk = trie.root
    while len(trie.children[trunk]) == 1 and trie.children[trunk][0] >= trie.leaves:
        trunk = trie.children[trunk][0]
    room = max_length - trie.depth[trunk]
    depth, parent = np.array(trie.depth), np.array(trie.parent)
    copies = np.maximum(1, -(-np.array(needs) // np.maximum(1, max_length - depth)))
    shortest, longest = (np.array(path) - depth[parent] for path in _shortest_and_longest(trie))
    best = 0
    for parts in _PARTS:
        # One token less: an item of exactly its share counts as one below it.
        least, most = ((path * (parts + 1) - 1) // room for path in (shortest, longest))
        own = most + (copies - 1) * least
        below = np.bincount(parent[: trie.leaves], weights=own[: trie.leaves], minlength=len(depth))
        counts, whole = below.astype(np.int64).tolist(), own.tolist()
        for node in trie.inner[:-1]:
            counts[trie.parent[node]] += max(counts[node], whole[node])
        best = max(best, _ceil_divide(counts[trunk], parts))
    return best


def _shortest_and_longest(trie: Trie) -> tuple[list[int], list[int]]:
    """The lengths of the shortest and of the longest example below each node."""
    shortest, longest = list(trie.depth), list(trie.depth)
    for node in trie.inner:
        shortest[node] = min([shortest[child] for child in trie.children[node]])
        longest[node] = max([longest[child] for child in trie.children[node]])
    return shortest, longest


def group(trie: Trie, max_length: int) -> list[list[int]]:
    """Packs, each the ascending indices of its examples in prefix order."""
    bins = refill(trie, cluster(trie, max_length), max_length)
    return [sorted(leaf for node in nodes for leaf in trie.examples(node)) for _, nodes in bins]


def cluster(trie: Trie, max_length: int) -> list[Bin]:
    """Cuts the tree into packs, from the leaves up. Subtrees stay whole where they fit."""
    waiting: dict[int, list[Bin]] = {}
    for node in trie.inner:
        depth = trie.depth[node]
        if depth + trie.total[node] <= max_length and node != trie.root:
            continue
        items = waiting.pop(node, [])
        items += [(trie.cost(c, node), [c]) for c in trie.children[node] if trie.cost(c, trie.root) <= max_length]
        bins = _best_fit(items, max_length - depth)
        if node == trie.root:
            return bins
        above = trie.parent[node]
        edge = depth - trie.depth[above]
        waiting.setdefault(above, []).extend((size + edge, nodes) for size, nodes in bins)
    raise AssertionError("the last inner node is the root")


def refill(trie: Trie, bins: Sequence[Bin], max_length: int) -> list[Bin]:
    """Dissolves packs into the holes of others, and returns fewer, fuller ones.

    A pack that shares little loses little. It is known by how few tokens its examples have, each counted alone.
    """
    packs = _Packs(trie, bins, max_length)
    plain = [sum(trie.depth[leaf] for node in nodes for leaf in trie.examples(node)) for _, nodes in bins]
    for index in sorted(range(len(bins)), key=lambda b: (plain[b], b)):
        packs.dissolve(index)
    return packs.filled()


def _best_fit(items: list[Bin], capacity: int) -> list[Bin]:
    """Best-fit decreasing: the largest item comes first, and each goes where the least room is left."""
    holes = _Holes()
    bins: list[list[int]] = []
    sizes: list[int] = []
    for size, nodes in sorted(items, key=lambda item: -item[0]):
        tightest = holes.tightest(size)
        if tightest is None:
            tightest = len(bins)
            bins.append([])
            sizes.append(0)
        else:
            holes.remove(capacity - sizes[tightest], tightest)
        bins[tightest] += nodes
        sizes[tightest] += size
        holes.add(capacity - sizes[tightest], tightest)
    return list(zip(sizes, bins, strict=True))


class _Holes:
    """Packs by the room that is left in them. Bit s of `_sizes` is set if some pack has room for exactly s tokens."""

    def __init__(self) -> None:
        self._sizes = 0
        self._packs: dict[int, dict[int, None]] = {}  # a dict keeps the order of insertion; a set would not

    def add(self, size: int, pack: int) -> None:
        """Notes that a pack has room for exactly `size` tokens."""
        self._sizes |= 1 << size
        self._packs.setdefault(size, {})[pack] = None

    def remove(self, size: int, pack: int) -> None:
        """Takes back what `add` noted with the same arguments."""
        del self._packs[size][pack]
        if not self._packs[size]:
            self._sizes ^= 1 << size

    def tightest(self, size: int) -> int | None:
        """The pack with the least room among those that have room for `size` tokens; None if there is none."""
        enough = self._sizes >> size
        if not enough:
            return None
        return next(iter(self._packs[size + (enough & -enough).bit_length() - 1]))


@dataclass
class _Pack:
    """The subtrees in a pack, all their ancestors, and how many tokens still fit."""

    nodes: list[int]
    path: set[int]
    room: int

    def copy(self) -> "_Pack":
        """The same contents in lists of their own."""
        return _Pack(list(self.nodes), set(self.path), self.room)


class _Packs:
    """Packs, and for each tree node the holes of the packs that already hold it."""

    def __init__(self, trie: Trie, bins: Sequence[Bin], max_length: int) -> None:
        self._trie, self._max_length = trie, max_length
        self._packs: list[_Pack] = []
        self._holes: defaultdict[int, _Holes] = defaultdict(_Holes)
        for index, (_, nodes) in enumerate(bins):
            self._packs.append(_Pack([], set(), max_length))
            self._fill(index, nodes)

    def dissolve(self, index: int) -> None:
        """Moves the subtrees of a pack into the holes of others, the largest first, and in parts where they must be.

        If one part finds no hole, everything is put back: the pack stays as it was.
        """
        trie = self._trie
        before = {index: self._packs[index]}
        self._replace(index, _Pack([], set(), self._max_length))
        moving = [(-trie.cost(node, trie.parent[node]), node) for node in before[index].nodes]
        heapq.heapify(moving)
        while moving:
            _, node = heapq.heappop(moving)
            target = self._target(node)
            if target is not None:
                before.setdefault(target, self._packs[target].copy())
                self._fill(target, [node])
            elif trie.children[node]:
                for child in trie.children[node]:
                    heapq.heappush(moving, (-trie.cost(child, node), child))
            else:
                for touched, pack in before.items():
                    self._replace(touched, pack)
                return

    def filled(self) -> list[Bin]:
        """The packs that are not empty."""
        return [(self._max_length - pack.room, pack.nodes) for pack in self._packs if pack.nodes]

    def _target(self, node: int) -> int | None:
        """The pack that holds the deepest ancestor of `node` and has the tightest hole for the rest of it."""
        above = self._trie.parent[node]
        while above >= 0:
            holes = self._holes.get(above)
            target = holes.tightest(self._trie.cost(node, above)) if holes else None
            if target is not None:
                return target
            above = self._trie.parent[above]
        return None

    def _fill(self, index: int, nodes: Sequence[int]) -> None:
        trie, pack = self._trie, self._packs[index]
        self._close_holes(index)
        for node in nodes:
            above = trie.parent[node]
            pack.room -= trie.cost(node, above)
            while above >= 0 and above not in pack.path:
                pack.path.add(above)
                if above != trie.root:
                    pack.room -= trie.depth[above] - trie.depth[trie.parent[above]]
                above = trie.parent[above]
        pack.nodes += nodes
        self._open_holes(index)

    def _replace(self, index: int, pack: _Pack) -> None:
        self._close_holes(index)
        self._packs[index] = pack
        self._open_holes(index)

    def _close_holes(self, index: int) -> None:
        for node in self._packs[index].path:
            self._holes[node].remove(self._packs[index].room, index)

    def _open_holes(self, index: int) -> None:
        for node in self._packs[index].path:
            self._holes[node].add(self._packs[index].room, index)


def _ceil_divide(value: int, by: int) -> int:
    return -(-value // by)
