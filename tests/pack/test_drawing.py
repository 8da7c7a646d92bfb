import numpy as np

from fintune_kit.pack.drawing import draw_pack, stretches, table_of
from fintune_kit.pack.tree import pack_examples
from tests.pack.world import examples


def one_pack(max_length=9):
    some = examples(([1, 2, 3, 5], [10]), ([1, 2, 3, 6], [20]))
    return pack_examples(some, max_length=9, pad_id=0)[0]


def test_stretches_are_the_branches_of_the_tree():
    found = [(s.start, s.stop, s.end, s.level, s.shared, s.padding) for s in stretches(one_pack())]
    assert found == [
        (0, 3, 7, 0, True, False),
        (3, 5, 5, 1, False, False),
        (5, 7, 7, 1, False, False),
        (7, 8, 8, 0, False, True),
        (8, 9, 9, 0, False, True),
    ]


def test_stretches_cover_every_position_once():
    found = stretches(one_pack())
    assert np.concatenate([np.arange(s.start, s.stop) for s in found]).tolist() == list(range(9))


def test_the_drawing_has_a_title_and_named_axes():
    figure = draw_pack(one_pack())
    (axes,) = figure.axes
    assert axes.get_title() == "2 examples of 10 tokens, written in 7 positions"
    assert axes.get_xlabel() == "position in the pack of 9"
    assert axes.get_ylabel() == "branchings above"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "shared prefix",
        "one example",
        "supervised",
        "padding",
    ]


def test_the_title_can_be_given():
    assert draw_pack(one_pack(), title="one pack").axes[0].get_title() == "one pack"


def test_a_small_pack_is_shown_as_a_table():
    (pack,) = pack_examples(examples(([1, 2, 3, 5], [10]), ([1, 2, 3, 6], [20])), max_length=8, pad_id=99)
    lines = table_of(pack, decode=lambda tokens: f"t{tokens[0]}").splitlines()
    assert len(lines) == 9
    assert lines[4].split() == ["3", "'t5'", "5", "3", "5", "1", "'t10'"]
    assert lines[6].split() == ["5", "'t6'", "6", "3", "7", "1", "'t20'"]
    assert lines[8].split() == ["7", "'t99'", "99", "0", "8", "0", "-"]
