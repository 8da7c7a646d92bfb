import itertools

from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.pack.grouping import build_trie, cluster, group, min_packs, min_tokens, refill


@st.composite
def tries(draw, longest=40):
    """Lengths and shared lengths such as sorted examples have: a share is less than both neighbours."""
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=30))
    shared = [0] + [draw(st.integers(0, min(a, b) - 1)) for a, b in itertools.pairwise(lengths)]
    return lengths, shared


def tokens_of(pack, lengths, shared):
    """Tokens of the tree over some examples, from the definition: each adds what none before it has."""
    total = lengths[pack[0]]
    for before, after in itertools.pairwise(pack):
        total += lengths[after] - min(shared[before + 1 : after + 1])
    return total


def test_a_trie_knows_its_branchings():
    #  0: a b c x     1: a b c y y     2: a z     3: q
    trie = build_trie([4, 5, 2, 1], [0, 3, 1, 0])
    assert [trie.depth[node] for node in trie.inner] == [3, 1, 0]
    assert [trie.total[node] for node in trie.inner] == [3, 6, 8]
    assert sorted(trie.examples(trie.inner[1])) == [0, 1, 2]
    assert trie.root == trie.inner[-1]


def test_a_subtree_that_fits_stays_whole():
    trie = build_trie([6, 6, 6, 6], [0, 5, 0, 5])
    assert group(trie, 7) == [[0, 1], [2, 3]]


def test_a_subtree_that_does_not_fit_pays_its_path_again():
    trie = build_trie([6, 6, 6, 6], [0, 4, 4, 4])  # 4 shared and 2 of each: 12 in all
    assert sorted(map(len, group(trie, 8))) == [2, 2]
    assert min_packs(trie, 8) == 2


def test_the_bound_on_packs_knows_how_many_chains_fit_into_one():
    """Below a prompt of 2 tokens each of twenty conversations writes 8, and a pack of 21 holds two: 18 positions."""
    trie = build_trie([5, 9] * 20, [0, 4, *[2, 4] * 19])
    assert min_tokens(trie, 21) == 2 * 9 + 20 * 8, "by volume 9 packs would do"
    assert min_packs(trie, 21) == len(group(trie, 21)) == 10


def test_the_bound_on_packs_knows_that_parts_of_two_large_trees_do_not_fit_into_one():
    """Three reports of 11 tokens have five questions of 2 each, and a pack of 20 holds four of one report."""
    trie = build_trie([13] * 15, [0, *[11] * 4] * 3)
    assert min_tokens(trie, 20) == 3 * (2 * 11 + 5 * 2), "by volume 5 packs would do"
    assert min_packs(trie, 20) == len(group(trie, 20)) == 6


def test_holes_are_filled_with_what_loses_least():
    # Two examples of 8 leave holes of 2 in packs of 10; the pair that shares 1 token parts to fill them.
    trie = build_trie([8, 8, 2, 2], [0, 0, 0, 1])
    assert sorted(len(nodes) for _, nodes in cluster(trie, 10)) == [1, 1, 1]
    assert sorted(map(len, group(trie, 10))) == [2, 2]
    assert all(min(pack) < 2 <= max(pack) for pack in group(trie, 10))


def test_without_shares_it_is_best_fit_decreasing():
    trie = build_trie([7, 3, 5, 5], [0, 0, 0, 0])
    assert sorted(map(sorted, group(trie, 10))) == [[0, 1], [2, 3]]


def test_no_examples_make_no_packs():
    assert group(build_trie([], []), 10) == []
    assert min_packs(build_trie([], []), 10) == 0


@given(tries())
def test_every_example_lies_in_one_pack_that_does_not_overflow(drawn):
    lengths, shared = drawn
    trie = build_trie(lengths, shared)
    packs = group(trie, 40)
    assert sorted(leaf for pack in packs for leaf in pack) == list(range(len(lengths)))
    assert max(tokens_of(pack, lengths, shared) for pack in packs) <= 40
    assert min_packs(trie, 40) <= len(packs)


@given(tries())
def test_the_sizes_of_packs_are_the_tokens_of_their_trees(drawn):
    lengths, shared = drawn
    trie = build_trie(lengths, shared)
    for bins in (cluster(trie, 40), refill(trie, cluster(trie, 40), 40)):
        for size, nodes in bins:
            assert size == tokens_of(sorted(x for node in nodes for x in trie.examples(node)), lengths, shared)


@given(tries())
def test_refilling_never_adds_a_pack(drawn):
    trie = build_trie(*drawn)
    assert len(refill(trie, cluster(trie, 40), 40)) <= len(cluster(trie, 40))


@given(tries(longest=6))
def test_the_bound_holds_for_the_best_arrangement_there_is(drawn):
    lengths, shared = (column[:6] for column in drawn)
    trie = build_trie(lengths, shared)
    assert min_packs(trie, 8) <= fewest_by_trying(lengths, shared, 8)
    fewest_tokens = min(
        sum(tokens_of(pack, lengths, shared) for pack in packs) for packs in fitting(lengths, shared, 8)
    )
    assert min_tokens(trie, 8) <= fewest_tokens


def fitting(lengths, shared, max_length):
    """All partitions of the examples into packs that do not overflow."""
    partitions = [[]]
    for leaf in range(len(lengths)):
        grown = [[*ps[:i], [*ps[i], leaf], *ps[i + 1 :]] for ps in partitions for i in range(len(ps))]
        partitions = [
            ps
            for ps in [*grown, *([*ps, [leaf]] for ps in partitions)]
            if all(tokens_of(pack, lengths, shared) <= max_length for pack in ps)
        ]
    return partitions


def fewest_by_trying(lengths, shared, max_length):
    """Every partition of the examples, tried."""
    best = len(lengths)

    def place(leaf, packs):
        nonlocal best
        if len(packs) >= best and leaf < len(lengths):
            return
        if leaf == len(lengths):
            best = min(best, len(packs))
            return
        for number in range(len(packs) + 1):
            grown = [*packs, []] if number == len(packs) else packs
            tried = [[*pack, leaf] if at == number else pack for at, pack in enumerate(grown)]
            if tokens_of(tried[number], lengths, shared) <= max_length:
                place(leaf + 1, tried)

    place(0, [])
    return best
