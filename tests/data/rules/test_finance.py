"""Open questions that are not about finance are told from those that are."""

import csv
from pathlib import Path

from fintune_kit.data.rules.finance import RELEVANT, finance_weight, finance_weights, not_finance
from fintune_kit.data.rules.labels import OPEN
from tests.data.rows import all_of, conversations

SAMPLE = Path(__file__).with_name("finance_relevance.csv")


def refused(*pairs: tuple[str, str], label: str = OPEN) -> dict[int, str]:
    rows = conversations(*pairs)
    return not_finance(rows, all_of(rows), finance_weights(rows, [label] * len(rows), all_of(rows)))


def test_finance_is_told_from_poems_and_figures_of_speech():
    assert list(
        refused(
            ("How are dividends taxed?", "As income."),
            ("Write a haiku about autumn.", "Leaves drift."),
            ("What is the capital of Norway?", "Oslo"),
        )
    ) == [1, 2]


def test_the_detail_names_what_was_found():
    assert refused(("What is the capital of Norway?", "The capital is Oslo.")) == {
        0: "weight 3, expected 4: only capital"
    }


def test_a_closed_question_needs_no_term():
    pair = ("Ludlow to close its plant in Oulu", "negative")
    assert refused(pair, label="negative") == {}
    assert list(refused(pair)) == [0]


def test_weak_terms_count_for_less_in_a_long_text():
    short, _ = finance_weight("the price and the share", "")
    long, _ = finance_weight("the price and the share " + "of many other things " * 100, "")
    assert long < short / 3


def test_precision_and_recall_on_the_half_that_the_terms_were_not_set_on():
    with SAMPLE.open(newline="") as file:
        rows = list(csv.DictReader(file))[1::2]
    found = [(finance_weight(row["prompt"], row["answer"])[0] >= RELEVANT, row["finance"] == "1") for row in rows]
    right = sum(said and true for said, true in found)
    assert len(rows) == 171
    assert right / sum(said for said, _ in found) >= 0.94
    assert right / sum(true for _, true in found) >= 0.88
