"""Closed questions are told by their few repeated answers, in each origin apart."""

from collections import Counter

from fintune_kit.data.rules.labels import OPEN, labels_of
from tests.data.rows import conversation

MOOD = [conversation(f"text {n}", ["neutral", "Neutral.", "positive"][n % 3], row=n, task="mood") for n in range(30)]
OPEN_ROWS = [conversation(f"question {n}", f"answer {n}", row=n) for n in range(30)]


def test_labels_are_repeated_answers_in_one_spelling():
    labels = labels_of([*MOOD, *OPEN_ROWS], ["rows"] * 60)
    assert Counter(labels[:30]) == {"neutral": 20, "positive": 10}
    assert set(labels[30:]) == {OPEN}


def test_open_rows_of_another_origin_do_not_open_a_closed_question():
    moods = [conversation(row.question, row.answer, row=row_number) for row_number, row in enumerate(MOOD)]
    together = [*moods, *OPEN_ROWS]
    assert set(labels_of(together, ["rows"] * 60)) == {OPEN}, "the same instruction must be asked both ways"
    assert labels_of(together, ["moods"] * 30 + ["rows"] * 30)[:2] == ["neutral", "neutral"]
