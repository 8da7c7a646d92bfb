"""Packs that each hold a mix of tasks and labels, and an order in which each step sees such a mix.

Dense packs (`grouping`) put like examples together, so one optimizer step learns one task. Here a pack is filled from a
stratified order instead: every stratum (a task and its label) is spread evenly over the whole data set.

    strata      yes x 4, no x 2, open x 2          spread    yes open no yes yes open no yes
    packs       [yes open no yes] [yes open no yes]

Examples on the same report or of the same conversation stay together, a few at a time: they share most of their tokens
with one another and little with the rest. Such a group is a family.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fintune_kit.pack.grouping import Trie
from fintune_kit.pack.prefixes import RangeMinimum

MAX_FAMILY = 8
"""Examples that stay together at most. Larger families would make packs less mixed."""
COMMON = 4
"""A prefix is common where every pack is expected to hold this many of its examples, like a system prompt."""
MIN_SHARED = 16
"""Tokens that a family shares at least, beyond the prefixes that all packs write anyway. Fewer do not make a family."""
OPEN_PACKS = 16
"""Packs that are filled at the same time: the more, the fewer positions stay empty."""
_PACKS_AT_ONCE = 2048


def mixed_packs(
    trie: Trie, shared: Sequence[int], *, strata: Sequence[Hashable], max_length: int, seed: int
) -> list[list[int]]:
    """Packs of a mix, each the ascending indices of its examples in prefix order.

    Args:
        trie: of all examples.
        shared: tokens that each example shares with the one before it in prefix order.
        strata: task and label of each example in prefix order. The mix is made of them.
        max_length: positions in a pack.
        seed: of the order.
    """
    families = find_families(trie, max_length=max_length)
    order = spread([_stratum_of(family, strata) for family in families], seed=seed)
    packs = _FirstFit(trie.depth[: trie.leaves], shared, max_length=max_length)
    for index in order:
        packs.add(families[index])
    return packs.all()


def find_families(trie: Trie, *, max_length: int) -> list[list[int]]:
    """The examples in groups of at most `MAX_FAMILY` that stay together.

    Every pack writes the common prefixes anyway. Under any other prefix the examples are a family, if they share at
    least `MIN_SHARED` tokens beyond the common prefix above it. A larger family is cut.
    """
    sizes = _leaves_below(trie)
    packs = max(1.0, (trie.depth[trie.root] + trie.total[trie.root]) / max_length)
    families: list[list[int]] = []
    waiting = [(child, 0) for child in trie.children[trie.root]]  # nodes, and the depth of the common prefix above
    while waiting:
        node, common = waiting.pop()
        if node < trie.leaves:
            families.append([node])
        elif sizes[node] / packs >= COMMON:
            waiting.extend((child, trie.depth[node]) for child in trie.children[node])
        elif trie.depth[node] - common >= MIN_SHARED:
            members = sorted(trie.examples(node))
            families.extend(members[i : i + MAX_FAMILY] for i in range(0, len(members), MAX_FAMILY))
        else:
            waiting.extend((child, common) for child in trie.children[node])
    return sorted(families)


def spread(strata: Sequence[Hashable], *, seed: int) -> list[int]:
    """Indices in an order in which each stratum appears at even distances, its members shuffled.

    A pure function of its arguments; strata count in the order of their first appearance.
    """
    random = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    at = np.empty(len(strata))
    for indices in members.values():
        shuffled = random.permutation(indices)
        at[shuffled] = (np.arange(len(indices)) + random.random()) / len(indices)
    return np.argsort(at, kind="stable").tolist()


def even_order(composition: NDArray[np.int64], *, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """An order of packs in which any stretch holds the strata in about the proportions of the whole.

    The next pack is always the one that brings the running sum nearest to its share of the total ("herding", Welling
    2009). Rare strata count as much as frequent ones. Packs are taken in shuffled blocks of 2,048, so time grows
    linearly.

    Args:
        composition: `[packs, strata]`, how many examples of each stratum a pack holds.
        seed: of the shuffle.

    Returns:
        int64 `[packs]`, a permutation.
    """
    shuffled = np.random.default_rng(seed).permutation(len(composition))
    totals = composition.sum(axis=0)
    present = totals > 0
    weighed = composition[:, present] / np.sqrt(totals[present])
    excess = weighed - weighed.mean(axis=0) if len(composition) else weighed
    running = np.zeros(int(present.sum()))
    order: list[int] = []
    for first in range(0, len(shuffled), _PACKS_AT_ONCE):
        left = shuffled[first : first + _PACKS_AT_ONCE].tolist()
        table = excess[left]
        norms = (table**2).sum(axis=1)
        free = np.ones(len(left), bool)
        for _ in left:
            distance = np.where(free, 2 * table @ running + norms, np.inf)
            chosen = int(distance.argmin())
            free[chosen] = False
            running += table[chosen]
            order.append(left[chosen])
    return np.array(order, np.int64)


def compose(
    packs: Sequence[Sequence[int]], strata: Sequence[Hashable], *, names: Sequence[Hashable]
) -> NDArray[np.int64]:
    """How many examples of each stratum each pack holds, int64 `[packs, strata]`.

    Args:
        packs: indices of examples.
        strata: of each example.
        names: all strata, in the order of the columns.
    """
    columns = {name: column for column, name in enumerate(names)}
    composition = np.zeros((len(packs), len(columns)), np.int64)
    for index, pack in enumerate(packs):
        for member in pack:
            composition[index, columns[strata[member]]] += 1
    return composition


def _leaves_below(trie: Trie) -> list[int]:
    sizes = [1] * trie.leaves + [0] * (len(trie.depth) - trie.leaves)
    for node in trie.inner:
        sizes[node] = sum(sizes[child] for child in trie.children[node])
    return sizes


def _stratum_of(family: Sequence[int], strata: Sequence[Hashable]) -> Hashable:
    return Counter(strata[member] for member in family).most_common(1)[0][0]


@dataclass
class _OpenPack:
    """Ascending examples of a pack that is being filled, and the positions that they take."""

    members: list[int] = field(default_factory=list)
    used: int = 0


class _FirstFit:
    """Packs that are filled in order: a family goes to the oldest open pack that has room for it."""

    def __init__(self, lengths: Sequence[int], shared: Sequence[int], *, max_length: int) -> None:
        self._lengths, self._max_length = lengths, max_length
        self._shared = RangeMinimum(np.asarray(shared, np.int64))
        self._open: list[_OpenPack] = []
        self._closed: list[list[int]] = []

    def add(self, family: Sequence[int]) -> None:
        """Puts a family into a pack; one that fits into no pack whole is cut where its parts share least."""
        for pack in self._open:
            if grown := self._grown(pack, family):
                pack.members, pack.used = grown.members, grown.used
                return
        if grown := self._grown(_OpenPack(), family):
            self._open.append(grown)
            if len(self._open) > OPEN_PACKS:
                self._closed.append(self._open.pop(0).members)
            return
        assert len(family) > 1, "callers refuse examples that are longer than a pack"
        cut = min(range(1, len(family)), key=lambda at: self._cost_of_cutting(family, at))
        self.add(family[:cut])
        self.add(family[cut:])

    def all(self) -> list[list[int]]:
        """The packs, in the order in which they were begun."""
        return self._closed + [pack.members for pack in self._open]

    def _cost_of_cutting(self, family: Sequence[int], at: int) -> tuple[int, int]:
        """Tokens that both parts would write, and how uneven the parts are."""
        return self._shared.of(family[at - 1] + 1, family[at]), abs(2 * at - len(family))

    def _grown(self, pack: _OpenPack, family: Sequence[int]) -> _OpenPack | None:
        """The pack with a family in it; None if it has no room."""
        members, used = pack.members.copy(), pack.used
        for member in family:
            at = bisect_left(members, member)
            kept = 0
            if at > 0:
                kept = self._shared.of(members[at - 1] + 1, member)
            if at < len(members):
                kept = max(kept, self._shared.of(member + 1, members[at]))
            used += self._lengths[member] - kept
            if used > self._max_length:
                return None
            members.insert(at, member)
        return _OpenPack(members, used)
