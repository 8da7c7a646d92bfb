from itertools import takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.chat.examples import Example, Examples
from fintune_kit.pack.prefixes import RangeMinimum, prefix_order, shareable_lengths, shared_with_previous
from tests.pack.world import GROWING, THREE_LEVELS, examples


def test_an_example_keeps_its_last_token():
    assert shareable_lengths(examples(([1, 2, 3, 9], [4, 5]), ([1], [2]))).tolist() == [5, 1]


def test_without_answers_the_last_token_before_an_answer_is_not_shared():
    some = examples(([1, 2, 3, 9], [4, 5]), ([1], [2]))
    assert shareable_lengths(some, answers=False).tolist() == [3, 0]
    plain = Example(np.array([1, 2, 3], np.int32), np.zeros(3, bool))
    assert shareable_lengths(Examples.of([plain, plain]), answers=False).tolist() == [2, 2]


def test_order_is_lexicographic_and_neighbours_share_what_both_may():
    some = examples(*reversed(THREE_LEVELS))
    shareable = shareable_lengths(some)
    order = prefix_order(some, shareable)
    assert order.tolist() == [5, 4, 3, 2, 1, 0]
    assert shared_with_previous(some, shareable, order).tolist() == [0, 8, 7, 3, 7, 0]


def test_a_conversation_comes_before_what_continues_it():
    shareable = shareable_lengths(GROWING)
    order = prefix_order(GROWING, shareable)
    assert order.tolist() == [0, 1, 4, 2, 3, 5]
    assert shared_with_previous(GROWING, shareable, order).tolist() == [0, 5, 5, 7, 9, 4]


def test_tokens_above_255_are_ordered_as_numbers():
    some = examples(([256, 1], [1]), ([255, 1], [1]), ([70000, 1], [1]))
    assert prefix_order(some, shareable_lengths(some)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("at_once", [1, 2, 4096])
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=9), min_size=1, max_size=9
    ),
    answers=st.booleans(),
)
def test_shared_lengths_are_those_found_token_by_token(at_once, rows, answers):
    supervised = [[False, *(s for _, s in row[1:])] for row in rows]  # nothing predicts a first token
    tokens = [np.array([t for t, _ in row], np.int32) for row in rows]
    some = Examples.of([Example(t, np.array(s)) for t, s in zip(tokens, supervised, strict=True)])
    shareable = shareable_lengths(some, answers=answers)
    order = prefix_order(some, shareable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fintune_kit.pack.prefixes._PAIRS_AT_ONCE", at_once)
        found = shared_with_previous(some, shareable, order)
    paths = [list(zip(*pair, strict=True))[: shareable[index]] for index, pair in enumerate(map(labelled, some))]
    for first in range(len(order)):
        for last in range(first + 1, len(order)):
            pairs = zip(paths[order[first]], paths[order[last]], strict=False)
            common = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
            assert min(found[first + 1 : last + 1]) == common, "neighbours describe the whole tree"
    assert found[0] == 0


def labelled(example):
    """Tokens of an example, and what is to be predicted from each."""
    tokens, supervised = example.tokens.tolist(), example.supervised.tolist()
    return tokens, [t if s else None for t, s in zip(tokens[1:], supervised[1:], strict=True)] + [None]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_range_minimum_is_the_minimum_of_the_slice(values, data):
    first = data.draw(st.integers(0, len(values) - 1))
    last = data.draw(st.integers(first, len(values) - 1))
    found = RangeMinimum(np.array(values)).over(np.array([first, 0]), np.array([last, 0]))
    assert found.tolist() == [min(values[first : last + 1]), values[0]]
