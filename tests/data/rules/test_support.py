"""An answer from a context has its figures and names from there."""

import pytest

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules.labels import OPEN
from fintune_kit.data.rules.support import missing_from, unsupported_answer
from tests.data.rows import all_of, conversation

CONTEXT = "The maker reported that its revenue in Norway was $33.1 million in 2019, or 5 per cent more than before."


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("Revenue was $33.10 million in 2019.", []),
        ("Revenue was $26.3 million.", ["26.3"]),
        ("It rose by 12.5%, from 0.", []),
        ("It was reported in Norway.", []),
        ("It was sold to Ludlow Retail in that year.", ["Ludlow", "Retail"]),
        ("It was sold to Ludlow in that year.", []),
        ("Ludlow. Retail. These begin sentences.", []),
    ],
)
def test_figures_and_names_that_the_context_does_not_hold(answer: str, missing: list[str]):
    assert missing_from(CONTEXT, answer) == missing


@pytest.mark.parametrize(
    ("context", "answer", "missing"),
    [
        ("Cash used was $(49,833) in 2023, in millions.", "It was $49.8 billion in 2023.", []),
        ("Cash used was $(49,833) in 2023, in millions.", "It was $49.7 billion in 2023.", ["49.7"]),
        ("EBIT was $7.5 billion.", "It was $7,462 million.", ["7,462"]),
        ("Cash was $3.9 billion, before that $3.4 billion.", "It rose by $500 million.", []),
        ("Cash was $3.9 billion, before that $3.4 billion.", "It rose by $600 million.", ["600"]),
        ("Profit rose in 2023 from a loss.", "The loss of 2022 became a profit.", []),
        ("The goal is 30 per cent by 2032.", "By 2030.", ["2030"]),
        ("It was filed on 3/5/21.", "In March 2021.", []),
        ("Securities and HELOCs are pledged.", "Home Equity Lines of Credit are pledged.", []),
        ("It is regulated by the CFPB.", "The Consumer Financial Protection Bureau regulates it.", []),
        ("It is regulated by the SEC.", "The Consumer Financial Protection Bureau regulates it.",
         ["Consumer", "Financial", "Protection", "Bureau"]),
        ("It held $3.8 billion of one and $3.3 billion of the other.", "$7.1 billion", []),
        ("The allowance was $1.48 billion and $907 million.", "It rose by $573 million.", []),
        ("It names records and costs.", "There are two: 1) records and (2) costs.", []),
        ("Sales were EUR 5.339.3 mn.", "They were 5.339.3, later 5.2.1.", ["5.2.1"]),
        ("By U.S. principles.", "By principles of the United States of America.", []),
    ],
)  # fmt: skip
def test_other_spellings_of_what_the_context_holds(context: str, answer: str, missing: list[str]):
    assert missing_from(context, answer) == missing


def test_a_percentage_may_be_computed_from_two_figures():
    assert missing_from("It was $33 million.", "It rose by 12.5%.") == ["12.5%"]
    assert missing_from("It was $33 million, after 20.", "It rose by 12.5%.") == []


def rows(supported: int, unsupported: int) -> list[Conversation]:
    context = "The report says what follows: " + "and so on it goes with many words that are of no use here, " * 3
    answers = [str(n) for n in range(supported)] + [f"9{n}" for n in range(1000, 1000 + unsupported)]
    return [conversation(f"{context}{n}", answer, row=n) for n, answer in enumerate(answers)]


def refused(made: list[Conversation]) -> list[int]:
    return list(unsupported_answer(made, ["reports"] * len(made), [OPEN] * len(made), all_of(made)))


def test_the_few_unsupported_answers_of_an_extractive_dataset_are_refused():
    assert refused(rows(95, 5)) == [95, 96, 97, 98, 99]


def test_where_answers_are_computed_or_the_rows_are_few_none_is_refused():
    assert refused(rows(60, 40)) == []
    assert refused(rows(40, 2)) == []
