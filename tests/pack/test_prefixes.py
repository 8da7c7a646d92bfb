import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.chat.examples import Example, Examples
from fintune_kit.pack.prefixes import RangeMinimum, prefix_order, shareable_lengths, shared_with_previous
from tests.pack.world import THREE_LEVELS, examples

TOKENS = st.lists(st.integers(0, 2), min_size=2, max_size=12)


def test_the_last_token_before_an_answer_is_not_shared():
    some = examples(([1, 2, 3, 9], [4, 5]), ([1], [2]))
    assert shareable_lengths(some).tolist() == [3, 0]


def test_an_example_without_supervised_tokens_keeps_its_last_token():
    plain = Example(np.array([1, 2, 3], np.int32), np.zeros(3, bool))
    assert shareable_lengths(Examples.of([plain, plain])).tolist() == [2, 2]


def test_order_is_lexicographic_and_neighbours_share_what_both_may():
    some = examples(*reversed(THREE_LEVELS))
    shareable = shareable_lengths(some)
    order = prefix_order(some, shareable)
    assert order.tolist() == [5, 4, 3, 1, 2, 0]  # the two identical prompts (1 and 2) keep their order
    assert shared_with_previous(some, shareable, order).tolist() == [0, 8, 7, 3, 7, 0]


def test_tokens_above_255_are_ordered_as_numbers():
    some = examples(([256, 1], [1]), ([255, 1], [1]), ([70000, 1], [1]))
    assert prefix_order(some, shareable_lengths(some)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("at_once", [1, 2, 4096])
@given(rows=st.lists(st.tuples(TOKENS, st.integers(0, 12)), min_size=1, max_size=9))
def test_shared_lengths_are_those_found_token_by_token(at_once, rows):
    some = Examples.of(
        [Example(np.array(t, np.int32), np.arange(len(t)) >= min(first, len(t) - 1)) for t, first in rows]
    )
    shareable = shareable_lengths(some)
    order = prefix_order(some, shareable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fintune_kit.pack.prefixes._PAIRS_AT_ONCE", at_once)
        found = shared_with_previous(some, shareable, order)
    for place in range(1, len(order)):
        before, after = (some[order[p]].tokens[: shareable[order[p]]].tolist() for p in (place - 1, place))
        assert before <= after
        common = 0
        while common < min(len(before), len(after)) and before[common] == after[common]:
            common += 1
        assert found[place] == common
    assert found[0] == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_range_minimum_is_the_minimum_of_the_slice(values, data):
    first = data.draw(st.integers(0, len(values) - 1))
    last = data.draw(st.integers(first, len(values) - 1))
    found = RangeMinimum(np.array(values)).over(np.array([first, 0]), np.array([last, 0]))
    assert found.tolist() == [min(values[first : last + 1]), values[0]]
