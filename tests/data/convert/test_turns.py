"""Lists of turns: answers of weight 0 are context, and small faults of the order are mended and counted."""

from collections import Counter
from typing import Any

import pytest

from fintune_kit.data.convert.cells import RowError
from fintune_kit.data.convert.turns import in_order, parse_turns

ASK, ANSWER = {"role": "user", "content": "What is an ETF?"}, {"role": "assistant", "content": "A fund."}
MORE, SECOND = {"role": "user", "content": "Of what?"}, {"role": "assistant", "content": "Of shares."}


def ordered(*turns: dict[str, Any]) -> tuple[list[Any], dict[str, int]]:
    changes: Counter[str] = Counter()
    return in_order(parse_turns(list(turns)), changes), dict(changes)


@pytest.mark.parametrize("field", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}])
def test_an_answer_of_weight_0_is_context(field: dict[str, Any]):
    messages, changes = ordered(ASK, {**ANSWER, **field}, MORE, SECOND)
    assert messages == [ASK, {**ANSWER, "weight": 0}, MORE, SECOND]
    assert changes == {}
    assert ordered(ASK, {**ANSWER, "weight": 1})[0] == [ASK, ANSWER]


def test_nothing_follows_the_last_answer_that_is_learned():
    messages, changes = ordered(ASK, ANSWER, MORE, {**SECOND, "weight": 0})
    assert messages == [ASK, ANSWER]
    assert changes == {"turns after the last answer with a weight left out": 1}
    with pytest.raises(RowError, match="every answer has weight 0"):
        ordered(ASK, {**ANSWER, "weight": 0})


def test_turns_in_a_row_are_joined_and_a_question_at_the_end_is_left_out():
    assert ordered(ASK, {"role": "user", "content": "Be brief."}, ANSWER, MORE) == (
        [{"role": "user", "content": "What is an ETF?\n\nBe brief."}, ANSWER],
        {"user turns in a row joined": 1, "user turns without an answer at the end left out": 1},
    )
    system = [{"role": "system", "content": text} for text in ("You are a banker.", "Be brief.")]
    assert ordered(*system, ASK, ANSWER)[0][0] == {"role": "system", "content": "You are a banker.\n\nBe brief."}


def test_the_same_question_twice_is_asked_once():
    assert ordered(ASK, ASK, ANSWER)[0] == [ASK, ANSWER]


def test_answers_in_a_row_are_not_joined():
    assert ordered(ASK, ANSWER, SECOND)[0] == [ASK, ANSWER, SECOND]


def test_the_fields_of_a_turn_may_be_written_in_any_case():
    turns = [{"From": "Human", "Value": "Is it a fund?"}, {"From": "GPT", "Value": "Yes."}]
    assert parse_turns(turns) == [
        {"role": "user", "content": "Is it a fund?"},
        {"role": "assistant", "content": "Yes."},
    ]


def test_turns_in_parts_are_read():
    turns = [
        {"role": "user", "parts": [{"text": "Is it "}, {"text": "a fund?"}]},
        {"role": "model", "parts": [{"text": "Yes."}]},
    ]
    assert [turn["content"] for turn in parse_turns(turns)] == ["Is it a fund?", "Yes."]
