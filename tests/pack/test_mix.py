from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.pack.grouping import build_trie, group
from fintune_kit.pack.mix import (
    MAX_FAMILY,
    OPEN_PACKS,
    _FirstFit,
    compose,
    even_order,
    find_families,
    mixed_packs,
    spread,
)
from tests.pack.test_grouping import tokens_of, tries

SYSTEM, LENGTH = 20, 30


def two_tasks(count):
    """`count` examples of each of two tasks in prefix order: a system prompt of 20 tokens and 10 of their own."""
    lengths = [LENGTH] * 2 * count
    shared = [0, *[SYSTEM] * (count - 1)] * 2
    return lengths, shared, ["a"] * count + ["b"] * count


def test_each_stratum_appears_at_even_distances():
    order = spread(["yes"] * 8 + ["no"] * 4 + ["open"] * 4, seed=0)
    assert sorted(order) == list(range(16))
    for start in range(0, 16, 4):
        names = Counter("yes" if i < 8 else "no" if i < 12 else "open" for i in order[start : start + 4])
        assert names == {"yes": 2, "no": 1, "open": 1}, f"positions {start} to {start + 3}"


def test_another_seed_gives_another_order():
    strata = ["a"] * 20 + ["b"] * 20
    assert spread(strata, seed=1) == spread(strata, seed=1)
    assert spread(strata, seed=1) != spread(strata, seed=2)


def test_a_mixed_pack_holds_both_tasks_where_a_dense_one_holds_one():
    lengths, shared, strata = two_tasks(40)
    trie = build_trie(lengths, shared)
    room = 2 * SYSTEM + 8 * 10  # both prompts and eight examples
    mixed = mixed_packs(trie, shared, strata=strata, max_length=room, seed=0)
    dense = group(trie, room)
    assert len(mixed) == 10
    assert {tuple(sorted(Counter(strata[i] for i in pack).values())) for pack in mixed} == {(4, 4)}
    assert max(len({strata[i] for i in pack}) for pack in dense) == 1, "the dense packs could not show the difference"


def test_questions_on_one_report_stay_together():
    # Forty packs' worth of singles under one system prompt (20 tokens), and six questions on a report of 100 tokens.
    singles = 400
    lengths = [LENGTH] * singles + [SYSTEM + 110] * 6
    shared = [0] + [SYSTEM] * (singles - 1) + [SYSTEM] + [SYSTEM + 100] * 5
    families = find_families(build_trie(lengths, shared), max_length=300)
    assert [family for family in families if len(family) > 1] == [list(range(singles, singles + 6))]
    assert sum(map(len, families)) == singles + 6


def test_a_family_that_is_too_large_is_cut():
    singles, alike = 400, 2 * MAX_FAMILY + 3
    lengths = [LENGTH] * singles + [SYSTEM + 110] * alike
    shared = [0] + [SYSTEM] * (singles - 1) + [SYSTEM] + [SYSTEM + 100] * (alike - 1)
    families = find_families(build_trie(lengths, shared), max_length=300)
    assert sorted(len(family) for family in families if len(family) > 1) == [3, MAX_FAMILY, MAX_FAMILY]


def test_a_few_shared_words_make_no_family():
    singles = 400
    lengths = [LENGTH] * singles + [SYSTEM + 20] * 4
    shared = [0] + [SYSTEM] * (singles - 1) + [SYSTEM] + [SYSTEM + 5] * 3
    assert max(map(len, find_families(build_trie(lengths, shared), max_length=300))) == 1


def test_a_family_that_fits_into_no_pack_whole_is_cut():
    trie = build_trie([60] * 4, [0, 25, 25, 25])  # 25 + 4 x 35 = 165 tokens
    packs = mixed_packs(trie, [0, 25, 25, 25], strata=["a"] * 4, max_length=100, seed=0)
    assert sorted(map(len, packs)) == [2, 2]


@given(tries(), st.integers(0, 3))
def test_every_example_lies_in_one_pack_that_does_not_overflow(drawn, seed):
    lengths, shared = drawn
    strata = [index % 3 for index in range(len(lengths))]
    packs = mixed_packs(build_trie(lengths, shared), shared, strata=strata, max_length=40, seed=seed)
    assert sorted(leaf for pack in packs for leaf in pack) == list(range(len(lengths)))
    assert all(pack == sorted(pack) for pack in packs)
    assert max(tokens_of(pack, lengths, shared) for pack in packs) <= 40


def test_the_composition_counts_each_stratum_of_each_pack():
    composition = compose([[0, 1, 2], [3]], ["a", "b", "a", "b"], names=["a", "b", "c"])
    assert composition.tolist() == [[2, 1, 0], [0, 1, 0]]


def test_any_stretch_of_the_order_holds_the_tasks_in_proportion():
    # Thirty packs of task a, ten of task b: dense packs hold one task each.
    composition = np.array([[8, 0]] * 30 + [[0, 8]] * 10)
    order = even_order(composition, seed=3)
    assert sorted(order.tolist()) == list(range(40))
    for start in range(0, 40, 4):
        assert composition[order[start : start + 4]].sum(axis=0).tolist() == [24, 8], f"packs {start} to {start + 3}"
    assert order.tolist() != even_order(composition, seed=4).tolist()


def test_a_stratum_that_no_pack_holds_changes_nothing():
    composition = np.array([[8, 0, 0]] * 6 + [[0, 8, 0]] * 2)
    assert even_order(composition, seed=1).tolist() == even_order(composition[:, :2], seed=1).tolist()


def test_no_packs_have_an_order_too():
    assert even_order(np.zeros((0, 3), np.int64), seed=0).tolist() == []


def test_a_family_that_fits_into_no_pack_is_cut_where_its_parts_share_least():
    """One example shares 17 tokens with three others, which share 36: it goes alone, though halves would fit too."""
    shared = [0, 17, 36, 36]
    packs = mixed_packs(build_trie([40] * 4, shared), shared, strata=["a"] * 4, max_length=64, seed=0)
    assert sorted(packs) == [[0], [1, 2, 3]]


def test_a_family_without_shared_tokens_is_cut_in_its_middle():
    packs = _FirstFit([10] * 6, [0] * 6, max_length=40)
    packs.add(range(6))
    assert packs.all() == [[0, 1, 2], [3, 4, 5]]


def test_the_pack_that_was_begun_first_is_closed_first():
    count = OPEN_PACKS + 3
    packs = _FirstFit([7, 9] + [10] * count, [0] * (count + 2), max_length=10)
    for index in range(count):
        packs.add([index])
    assert packs.all() == [[index] for index in range(count)]
