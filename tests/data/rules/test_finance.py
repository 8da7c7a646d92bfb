"""Open questions that are not about finance are told from those that are, and only where the rule may judge."""

import csv
from pathlib import Path

import pytest

from fintune_kit.data.rules.finance import RELEVANT, finance_weight, is_mixed, not_finance
from fintune_kit.data.rules.labels import OPEN
from fintune_kit.data.rules.language import Languages
from tests.data.rows import all_of, conversations

SAMPLE = Path(__file__).with_name("finance_relevance.csv")
HAIKU = ("Write a haiku about autumn.", "Leaves drift.")


def refused(
    *pairs: tuple[str, str], label: str = OPEN, origin: str = "rows.csv", every_origin: bool = True
) -> dict[int, str]:
    rows = conversations(*pairs)
    origins = [origin] * len(rows)
    languages = Languages(rows, origins)
    return not_finance(rows, origins, [label] * len(rows), all_of(rows), languages, every_origin=every_origin)


def test_finance_is_told_from_poems_and_figures_of_speech():
    assert list(
        refused(
            ("How are dividends taxed?", "As income."),
            HAIKU,
            ("What is the capital of Norway?", "Oslo"),
            ("Write a story about saving a kitten.", "It is a wealth of joy."),
            ("What is the 10th letter of the alphabet?", "J"),
            ("What is supply and demand?", "They set prices."),
        )
    ) == [1, 2, 3, 4]


def test_the_detail_names_the_terms_that_were_found():
    assert refused(("What is the capital of Norway?", "The capital is Oslo.")) == {
        0: "weight 1.25, expected 4: only capital"
    }


def test_a_closed_question_is_never_judged():
    pair = ("Ludlow to close its plant in Oulu", "negative")
    assert refused(pair, label="negative") == {}
    assert list(refused(pair)) == [0]


@pytest.mark.parametrize(
    ("origin", "every_origin", "is_refused"),
    [
        ("gbharti/finance-alpaca", False, True),
        ("ceadar-ie/FinTalk-19k", False, False),
        ("ceadar-ie/FinTalk-19k", True, True),
        ("rows.csv", False, False),
    ],
)
def test_only_mixed_datasets_are_judged_unless_all_are_asked_for(origin: str, every_origin: bool, is_refused: bool):
    assert bool(refused(HAIKU, origin=origin, every_origin=every_origin)) == is_refused


def test_the_name_of_the_users_own_file_tells_nothing():
    assert is_mixed("gbharti/finance-alpaca", "rows.csv")
    assert not is_mixed("alpaca.jsonl", "alpaca.jsonl")


@pytest.mark.parametrize("prompt", ["Schreibe ein Gedicht über den Herbst und die Blätter.", "写一首关于秋天的诗"])
def test_text_in_another_language_is_never_judged(prompt: str):
    assert refused((prompt, "..."), ("Schreibe eine Zeile.", "...")) == {}


def test_weak_terms_count_for_less_in_a_long_text():
    short, _ = finance_weight("the price and the share", "")
    long, _ = finance_weight("the price and the share " + "of many other things " * 100, "")
    assert long < short / 3


@pytest.mark.parametrize(
    ("plural", "term"),
    [
        ("two annuities", "annuity"),
        ("the companies", "company"),
        ("its shares", "share"),
        ("two basis points", "basis point"),
    ],
)
def test_a_plural_counts_as_its_word(plural: str, term: str):
    assert finance_weight(plural, "")[1] == [term]


def test_precision_and_recall_on_our_own_rows():
    with SAMPLE.open(newline="") as file:
        rows = list(csv.DictReader(file))[1::2]
    found = [(finance_weight(row["prompt"], row["answer"])[0] >= RELEVANT, row["finance"] == "1") for row in rows]
    right = sum(said and true for said, true in found)
    assert len(rows) == 171
    assert right / sum(said for said, _ in found) >= 0.97
    assert right / sum(true for _, true in found) >= 0.74
