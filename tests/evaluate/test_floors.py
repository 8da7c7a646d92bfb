import pytest

from fintune_kit.evaluate.floors import floors
from tests.evaluate.conftest import make_task, question

RISE, FALL = "profit rose in the quarter {}", "profit fell in the quarter {}"
TEXTS = tuple(text.format(n) for n in range(10) for text in (RISE, FALL)) + tuple(FALL.format(n) for n in range(10, 15))
LABELS = tuple("up" if "rose" in text else "down" for text in TEXTS)


def test_both_floors_learn_from_training_and_not_from_the_evaluated_rows() -> None:
    rows = [question(RISE.format(n), "up", ("up", "down")) for n in range(20, 26)]
    rows += [question(FALL.format(n), "down", ("up", "down")) for n in range(20, 22)]
    found = floors(make_task(*rows, labelled={"": (TEXTS, LABELS)}), seed=0)
    assert found["majority_of_training"]["accuracy"] == 2 / 8  # `down` leads in training, `up` among these questions
    assert found["majority"]["accuracy"] == 6 / 8, "the best constant answer is the floor"
    assert found["tfidf"]["accuracy"] == 1.0
    assert found["chance"] == 0.5
    assert found["learned_from"] == "the training conversations"


def test_without_training_rows_the_floors_say_that_they_saw_the_rows_themselves() -> None:
    rows = [
        question(text.format(n), "up" if "rose" in text else "down", ("up", "down"))
        for n in range(6)
        for text in (RISE, FALL)
    ]
    found = floors(make_task(*rows), seed=0)
    assert found["learned_from"] == "the test questions, cross-validated"
    assert found["majority"]["accuracy"] == 0.5
    assert found["tfidf"]["accuracy"] == 1.0


def test_a_group_has_floors_of_its_own() -> None:
    first = [question("x", "yes", ("yes", "no"), group="a")] * 3
    second = [question("x", "buy", ("buy", "sell"), group="b")] * 3
    labelled = {"a": (("x", "y"), ("no", "no")), "b": (("x", "y"), ("buy", "buy"))}
    assert floors(make_task(*first, *second, labelled=labelled), seed=0)["majority_of_training"]["accuracy"] == 0.5


def test_questions_with_options_of_their_own_have_chance_as_their_floor() -> None:
    found = floors(make_task(question("x", "a", ("a", "b")), question("y", "c", ("c", "d", "e", "f"))), seed=0)
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found["majority"] is found["tfidf"] is None


def test_one_row_a_label_falls_back_to_the_majority() -> None:
    found = floors(make_task(question("x", "a", ("a", "b")), question("y", "b", ("a", "b"))), seed=0)
    assert found["tfidf"]["accuracy"] == found["majority"]["accuracy"] == 0.5
