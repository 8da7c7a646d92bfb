"""Sujet's histories, taken apart where they are histories and left alone where they are not."""

import pytest

from fintune_kit.data.convert.history import parse_history


def parsed(text: str) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in parse_history(text)[0]]


def test_labelled_turns_with_a_context_before_them():
    text = "Revenue was 12.1.\n\nUser: How much?\nAssistant: 12.1\nUser: And before?"
    assert parsed(text) == [
        ("user", "Revenue was 12.1.\n\nHow much?"),
        ("assistant", "12.1"),
        ("user", "And before?"),
    ]
    assert parse_history(text)[1] == "labelled turns"


def test_a_last_question_after_three_newlines():
    text = "User: How much?\nAssistant: 12.1\n\n\nAnd before?"
    assert parsed(text) == [("user", "How much?"), ("assistant", "12.1"), ("user", "And before?")]
    assert parse_history(text)[1] == "turns after three newlines"


def test_turns_without_labels_alternate():
    assert parsed("How much?\n\n\n12.1\n\n\n\nAnd before?") == [
        ("user", "How much?"),
        ("assistant", "12.1"),
        ("user", "And before?"),
    ]


def test_a_cue_for_the_answer_is_no_turn():
    assert parsed("User: How much?\nAssistant:") == [("user", "How much?")]


def test_one_question_is_no_history():
    assert parse_history("What is an ETF?") == ([{"role": "user", "content": "What is an ETF?"}], "a single question")
    assert parse_history("User: What is an ETF?")[1] == "a single question"


@pytest.mark.parametrize(
    "text",
    [
        "User: a\nUser: b",
        "User: a\nAssistant: b",
        "a\n\n\nb",
        "User: a\nAssistant:\nUser: c",
        "User: a\n\n\nb\n\n\nc\nUser: d",
    ],
)
def test_what_does_not_alternate_or_end_with_the_user_is_kept_whole(text: str):
    assert parse_history(text) == ([{"role": "user", "content": text}], "kept as one message")


def test_a_label_inside_a_sentence_is_text():
    assert parsed(
        "User: What does 'Assistant: yes' mean here?\nAssistant: x\nUser: See the Note to User: it says so."
    ) == [
        ("user", "What does 'Assistant: yes' mean here?"),
        ("assistant", "x"),
        ("user", "See the Note to User: it says so."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Revenue was 12.1 in 2018.\n\n\nIt fell to 9 in the year after that.\n\n\nWhat was revenue?",
        "What was revenue?\n\n\nRevenue was 12.1 in 2018.\n\n\nIt fell to 9 in the year after that, since the plant in "
        "the north was shut and the workers were on strike for most of the spring.",
        "Was it 12?\n\n\nOr was it 13?\n\n\nAnd before?",
    ],
    ids=["article and question", "question and article", "three questions"],
)
def test_paragraphs_are_not_turns(text: str):
    assert parse_history(text) == ([{"role": "user", "content": text}], "kept as one message")


def test_a_short_remark_of_the_user_is_a_turn():
    text = "My rent went up. How do I budget?\n\n\nFind the new amount first.\n\n\nThe rent was $1,250."
    assert [role for role, _ in parsed(text)] == ["user", "assistant", "user"]
