"""The better of two rows of a kind has the better score."""

import pytest

from fintune_kit.data.choose.scoring import PARTS, score, score_parts
from tests.data.rows import conversations

GOOD = (
    "How are dividends taxed in the year in which they are paid?",
    "Dividends are taxed as income in the year of payment, at a lower rate where the shares were held for long.",
)


@pytest.mark.parametrize(
    ("part", "worse"),
    [
        ("length", (GOOD[0], "As income.")),
        ("whole", (GOOD[0], GOOD[1].lower().rstrip("."))),
        ("grounded", ("Sales were 12.5 in 2019. How much?", "They were 99.9 in the year.")),
        ("clean", (GOOD[0], "SELL SHARES TODAY #now @you " + GOOD[1])),
    ],
)
def test_each_part_falls_where_its_reason_is(part: str, worse: tuple[str, str]):
    best, worst = (score_parts(row, is_open=True, finance_weight=16)[part] for row in conversations(GOOD, worse))
    assert best > worst


def test_a_score_is_the_mean_of_its_parts_and_within_bounds():
    rows = conversations(GOOD, ("x", "y"), ("", "1 " * 5000))
    scores = [
        score(row, is_open=True, finance_weight=weight) for row, weight in zip(rows, (16.0, 0.0, 400.0), strict=True)
    ]
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] > scores[1]
    parts = score_parts(rows[0], is_open=True, finance_weight=16.0)
    assert tuple(parts) == PARTS
    assert scores[0] == pytest.approx(sum(parts.values()) / 5, abs=1e-6)


@pytest.mark.parametrize("answer", ["$1,250.5 million", "-3.2%", "(12)", "operating profit fell"])
def test_a_figure_and_a_passage_of_the_prompt_are_not_scored_by_their_length(answer: str):
    (row,) = conversations(("Why? In 2019 operating profit fell by a tenth, since costs were high.", answer))
    parts = score_parts(row, is_open=True, finance_weight=16)
    assert (parts["length"], parts["whole"]) == (1.0, 1.0)
