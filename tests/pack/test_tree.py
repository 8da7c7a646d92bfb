import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.chat.examples import Example, Examples
from fintune_kit.pack.tree import COLUMNS, arrange, count_head_positions, unpack, write_columns
from tests.pack.world import GROWING, THREE_LEVELS, as_pairs, examples, expected_pairs, turns

PAD = 99


def pack(some, *, max_length, seed=0, **shares):
    arrangement = arrange(some, max_length=max_length, seed=seed, **shares)
    columns = write_columns(some, arrangement, first=0, last=len(arrangement), max_length=max_length, pad_id=PAD)
    return [{name: columns[name][row] for name in COLUMNS} for row in range(len(arrangement))]


def test_layout_of_one_pack():
    (row,) = pack(examples(([1, 2, 3, 5], [10]), ([1, 2, 3, 6], [20])), max_length=9)
    assert row["input_ids"].tolist() == [1, 2, 3, 5, 10, 6, 20, PAD, PAD]
    assert row["position_ids"].tolist() == [0, 1, 2, 3, 4, 3, 4, 0, 0]
    assert row["subtree_end"].tolist() == [7, 7, 7, 5, 5, 7, 7, 8, 9]
    assert row["shift_labels"].tolist() == [-100, -100, -100, 10, -100, 20, -100, -100, -100]
    assert row["loss_weight"].tolist() == [0, 0, 0, 1, 0, 1, 0, 0, 0]
    assert all(column.dtype == np.int32 for column in row.values())


def test_identical_prompts_share_all_but_the_last_token():
    (row,) = pack(examples(([1, 2, 3], [10]), ([1, 2, 3], [20])), max_length=6)
    assert row["input_ids"].tolist() == [1, 2, 3, 10, 3, 20]
    assert row["shift_labels"].tolist() == [-100, -100, 10, -100, 20, -100]


def test_three_levels_are_written_depth_first():
    (row,) = pack(examples(*THREE_LEVELS), max_length=35)
    assert row["position_ids"].tolist()[:11] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert row["input_ids"].tolist().count(1) == 1, "the system prompt is written once"
    assert row["subtree_end"][0] == 29
    assert row["subtree_end"][3] == 20
    assert as_pairs(unpack(row)) == expected_pairs(examples(*THREE_LEVELS))


def test_without_sharing_the_subtree_ends_where_the_example_does():
    rows = pack(examples(*THREE_LEVELS[:2]), max_length=23, share_prefixes=False)
    assert len(rows) == 1
    assert sorted(set(rows[0]["subtree_end"].tolist())) == [12, 23]
    assert as_pairs(unpack(rows[0])) == expected_pairs(examples(*THREE_LEVELS[:2]))


def test_an_answer_that_two_conversations_repeat_is_written_once_and_counts_twice():
    both = [turns(([1, 2], [3]), ([4, 5], [last])) for last in (6, 7)]
    (row,) = pack(Examples.of(both), max_length=8)
    assert row["input_ids"].tolist() == [1, 2, 3, 4, 5, 6, 5, 7]
    assert row["shift_labels"].tolist() == [-100, 3, -100, -100, 6, -100, 7, -100]
    assert row["loss_weight"].tolist() == [0, 2, 0, 0, 1, 0, 1, 0]


def test_the_rows_of_a_growing_conversation_are_one_path_with_a_last_token_each():
    rows = [turns(*[([turn, 7], [10 + turn]) for turn in range(count)]) for count in (1, 2, 3)]
    (row,) = pack(Examples.of(rows), max_length=12)
    assert row["input_ids"].tolist() == [0, 7, 10, 10, 1, 7, 11, 11, 2, 7, 12, PAD]
    assert row["position_ids"].tolist() == [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 0]
    assert row["loss_weight"].tolist() == [0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0]
    assert as_pairs(unpack(row)) == expected_pairs(Examples.of(rows))


def test_where_answers_part_the_branch_starts_one_token_earlier():
    (row,) = pack(examples(([1, 2], [3, 4, 5]), ([1, 2], [3, 6, 5])), max_length=8)
    assert row["input_ids"].tolist() == [1, 2, 3, 4, 5, 3, 6, 5]
    assert row["shift_labels"].tolist() == [-100, 3, 4, 5, -100, 6, 5, -100]
    assert row["loss_weight"].tolist() == [0, 2, 1, 1, 0, 1, 1, 0]


def test_a_token_that_only_one_example_is_to_learn_is_not_shared():
    """The first conversation is not supervised in its first answer, the second one is."""
    quiet = Example(np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 0, 0, 0, 1], bool))
    (row,) = pack(Examples.of([quiet, turns(([1, 2], [3]), ([4], [5]))]), max_length=9)
    assert row["input_ids"].tolist() == [1, 2, 3, 4, 5, 2, 3, 4, 5]
    assert row["shift_labels"].tolist() == [-100, -100, -100, 5, -100, 3, -100, 5, -100]


def test_sharing_of_answers_can_be_left_out():
    (row,) = pack(GROWING, max_length=60, share_answers=False)
    assert set(row["loss_weight"].tolist()) == {0, 1}
    assert as_pairs(unpack(row)) == expected_pairs(GROWING)
    (shared,) = pack(GROWING, max_length=60)
    assert max(shared["loss_weight"].tolist()) == 6, "the first token of the first answer, which all six repeat"
    assert (shared["input_ids"] != PAD).sum() < (row["input_ids"] != PAD).sum()


def test_an_arrangement_says_what_cutting_a_tree_costs():
    """Forty questions of 3 tokens on a report of 20: a pack of 50 holds ten of them, and each writes the report."""
    made = arrange(examples(*[([*range(20), n], [50, 51]) for n in range(20, 60)]), max_length=50)
    written = 40 * 23 - int(made.shared.sum())
    assert (made.tree, written, made.min_tokens) == (140, 200, 200)
    assert len(made) == made.min_packs == 4


def test_each_part_of_a_tree_that_is_cut_counts_its_own_examples():
    """Two packs write the path again; each counts an answer on it as often as its own examples repeat it."""
    whole = pack(GROWING, max_length=60)
    parts = pack(GROWING, max_length=14)
    assert len(whole) == 1
    assert len(parts) > 1
    assert as_pairs([pair for row in parts for pair in unpack(row)]) == expected_pairs(GROWING)
    supervised = int(GROWING.supervised.sum())
    assert sum(row["loss_weight"].sum() for row in parts) == whole[0]["loss_weight"].sum() == supervised


def test_packs_are_shuffled_by_seed_and_stay_the_same_for_one():
    some = examples(*[([1, n, 7], [n]) for n in range(40)])
    by_seed = [[row["input_ids"].tolist() for row in pack(some, max_length=12, seed=s)] for s in (0, 0, 1)]
    assert len(by_seed[0]) > 5, "one pack could not show an order"
    assert by_seed[0] == by_seed[1]
    assert by_seed[0] != by_seed[2]
    assert sorted(by_seed[0]) == sorted(by_seed[2])


def test_any_stretch_of_packs_can_be_written_alone():
    some = examples(*[([1, n % 5, n, 7], [n]) for n in range(50)])
    arrangement = arrange(some, max_length=12)
    whole = write_columns(some, arrangement, first=0, last=len(arrangement), max_length=12, pad_id=PAD)
    part = write_columns(some, arrangement, first=3, last=6, max_length=12, pad_id=PAD)
    for name in COLUMNS:
        np.testing.assert_array_equal(part[name], whole[name][3:6])


def test_the_head_scores_a_position_once_however_many_examples_predict_from_it():
    rows = [turns(*[([turn, 7], [10 + turn]) for turn in range(count)]) for count in (1, 2, 3)]
    some = Examples.of(rows)
    arrangement = arrange(some, max_length=12)
    assert int(some.supervised.sum()) == 6
    assert count_head_positions(some, arrangement) == 3
    assert sum((row["loss_weight"] > 0).sum() for row in pack(some, max_length=12)) == 3


def test_an_over_long_example_is_never_cut():
    with pytest.raises(AssertionError):
        arrange(examples(([1, 2, 3], [4])), max_length=3)


def test_no_examples_make_no_packs():
    assert len(arrange(Examples.concatenate([]), max_length=8)) == 0


@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.lists(st.integers(0, 2), min_size=1)),
        min_size=1,
        max_size=25,
    ),
    room=st.integers(0, 30),
    share=st.sampled_from([{}, {"share_answers": False}, {"share_prefixes": False}]),
    seed=st.integers(0, 3),
)
def test_every_example_comes_out_of_the_packs_exactly_once_token_for_token(rows, room, share, seed):
    some = examples(*rows)
    max_length = int(some.lengths().max()) + room
    packs = pack(some, max_length=max_length, seed=seed, **share)
    assert as_pairs([pair for row in packs for pair in unpack(row)]) == expected_pairs(some)
    assert sum(row["loss_weight"].sum() for row in packs) == some.supervised.sum()


@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=9), min_size=1, max_size=20
    )
)
def test_no_position_has_two_targets_however_supervision_alternates(rows):
    """Else one example's label would hide behind another's."""
    some = Examples.of([Example(np.array([t for t, _ in r], np.int32), np.array([s for _, s in r])) for r in rows])
    packs = pack(some, max_length=20)
    assert as_pairs([pair for row in packs for pair in unpack(row)]) == expected_pairs(some)
    written = sum(int((row["loss_weight"] > 0).sum()) for row in packs)
    assert count_head_positions(some, arrange(some, max_length=20)) == written


def test_walking_refuses_columns_that_are_not_a_tree_of_examples():
    (row,) = pack(examples(([1, 2, 3], [10]), ([1, 2, 3], [20])), max_length=6)
    for name, position in (("position_ids", 4), ("subtree_end", 3), ("loss_weight", 2), ("loss_weight", 0)):
        broken = {column: values.copy() for column, values in row.items()}
        broken[name][position] += 1
        with pytest.raises(ValueError, match="position"):
            unpack(broken)
