"""The line to type where columns fit no layout is right: names and contents decide, and ids play no role."""

from typing import Any

import pytest

from fintune_kit.data.convert.hints import guess_mapping, unmapped_columns_error

TEXTS = {"Frage": "What is an ETF, and what does it cost?", "Antwort": "A fund that is traded like a share."}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"id": "a1", **TEXTS}, "--map user=Frage --map assistant=Antwort"),
        ({"uuid": "8f14e45fceea167a", "reply": "A fund.", "customer_text": "What is it?"},
         "--map user=customer_text --map assistant=reply"),
        ({"q": "What is it?", "a": "A fund."}, "--map user=q --map assistant=a"),
        ({"row_id": 7, "thread": [{"role": "user", "content": "x"}]}, "--map messages=thread"),
        ({"id": 3, "body": "Shares slump", "mood_label": "bad"}, "--map text=body --map label=mood_label"),
        ({"a question": "What is it?", "its answer": "A fund."},
         "--map user='a question' --map assistant='its answer'"),
    ],
    ids=lambda value: "/".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_guess_is_the_line_to_type(row: dict[str, Any], line: str):
    assert guess_mapping([row, row], list(row)).endswith(line)


def test_one_column_of_text_is_never_both_question_and_answer():
    hint = guess_mapping([{"id": 1, "text": "Only a text."}], ["id", "text"])
    assert "--map" not in hint
    assert "only 'text' holds text" in hint


def test_the_error_says_what_was_found_expected_and_to_do():
    error = str(unmapped_columns_error("a.csv", [TEXTS], "fit no known layout"))
    assert error.startswith("a.csv: the columns 'Frage', 'Antwort' fit no known layout; expected exactly one of Sujet")
    assert error.endswith("for example --map user=Frage --map assistant=Antwort")
