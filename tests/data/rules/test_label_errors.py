"""Labels that the other rows make very unlikely are named with the other label."""

import random

import pytest

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules.label_errors import label_errors
from tests.data.rows import all_of, conversation

WORDS = {
    "positive": ["profit", "rose", "growth", "strong", "beat", "record", "gain", "higher"],
    "negative": ["loss", "fell", "weak", "missed", "warning", "decline", "lower", "cut"],
}
FILLER = [f"word{n}" for n in range(40)]


def made(count: int, *, flips: int, options: list[str] | None = None) -> tuple[list[Conversation], list[str], set[int]]:
    """Rows whose words give their label away, of which some have the other label."""
    chance = random.Random(3)
    flipped = set(chance.sample(range(count), flips))
    rows, labels = [], []
    for n in range(count):
        label = "positive" if n % 2 else "negative"
        text = " ".join(chance.sample(WORDS[label], 3) + chance.sample(FILLER, 5))
        label = {"positive": "negative", "negative": "positive"}[label] if n in flipped else label
        rows.append(conversation(text, label, row=n, task="mood"))
        labels.append(label)
    return rows, labels, flipped


def test_planted_errors_are_found_with_the_other_label():
    rows, labels, flipped = made(400, flips=20)
    found = label_errors(rows, labels, all_of(rows))
    assert len(flipped) == 20
    assert len(set(found) & flipped) >= 15
    assert len(set(found) - flipped) <= 2
    index = min(set(found) & flipped)
    other = {"positive": "negative", "negative": "positive"}[labels[index]]
    assert found[index].startswith(f"the label {labels[index]!r} has probability 0.")
    assert f"{other!r} 0." in found[index]


@pytest.mark.parametrize(("flips", "is_refused"), [(5, False), (15, False), (30, True)])
def test_where_fewer_than_two_in_a_hundred_rows_are_doubtful_none_is_refused(flips, is_refused):
    rows, labels, flipped = made(1_000, flips=flips)
    assert len(flipped) == flips
    assert bool(label_errors(rows, labels, all_of(rows))) == is_refused


def test_rows_that_are_refused_already_and_open_answers_are_not_judged():
    rows, labels, flipped = made(400, flips=20)
    kept = [index for index in range(400) if index not in flipped]
    assert not set(label_errors(rows, labels, kept)) & flipped
    assert label_errors(rows, ["(open)"] * 400, all_of(rows)) == {}


def test_where_words_do_not_tell_the_label_nothing_is_doubted():
    chance = random.Random(4)
    rows = [conversation(" ".join(chance.sample(FILLER, 8)), "x", row=n, task="mood") for n in range(400)]
    assert label_errors(rows, [chance.choice(["yes", "no"]) for _ in rows], all_of(rows)) == {}


def test_too_few_rows_are_not_judged():
    rows, labels, _ = made(200, flips=10)
    assert label_errors(rows, labels, all_of(rows)) == {}


def test_a_text_that_is_asked_about_several_things_is_judged_for_each():
    rows, labels, flipped = made(400, flips=20)
    opposite = {"positive": "negative", "negative": "positive"}
    both = [conversation(f"{row.question}\nIs it good?", row.answer, row=n, task="mood") for n, row in enumerate(rows)]
    both += [
        conversation(f"{row.question}\nIs it bad?", row.answer, row=n + 400, task="mood") for n, row in enumerate(rows)
    ]
    found = label_errors(both, labels + [opposite[label] for label in labels], all_of(both))
    assert len(set(found) & (flipped | {n + 400 for n in flipped})) >= 30
