"""Which questions training has shown. The method is that of stage 1: `tests/data/rules/test_contamination.py`."""

from fintune_kit.evaluate.stage import seen_in_training
from fintune_kit.evaluate.tasks import Question, Task
from tests.data.rows import conversations

SENTENCE = "Aspocomp is aggressively pursuing its growth strategy by focusing on demanding printed circuit boards"
OTHER = "Aspocomp sold its growth unit and is now focusing on boards that others print for it elsewhere"


def task(name: str, *texts: str) -> Task:
    questions = tuple(
        Question(row_id=f"{name}#{index}", messages=(), text=text, target="neutral") for index, text in enumerate(texts)
    )
    return Task(name=name, title=name, metric="accuracy", questions=questions, source="made")


def test_each_question_is_looked_up_in_the_training_conversations() -> None:
    train = conversations((f"Financial text: {SENTENCE.upper()} https://t.co/abc", "neutral"), ("Why?", "So it is."))
    one_word_changed = SENTENCE.replace("growth", "harvest")
    assert one_word_changed != SENTENCE
    tasks = [task("first", OTHER, SENTENCE), task("second", one_word_changed), task("third", SENTENCE, OTHER, OTHER)]
    assert seen_in_training(tasks, train) == {
        "first": [False, True],
        "second": [True],
        "third": [True, False, False],
    }


def test_without_training_conversations_nothing_is_known_and_empty_ones_show_nothing() -> None:
    assert seen_in_training([task("first", SENTENCE)], None) == {"first": None}
    assert seen_in_training([task("first", SENTENCE)], []) == {"first": [False]}
