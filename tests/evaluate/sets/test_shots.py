"""Few-shot: the same solved examples before each question, so that packs write them once."""

import pytest

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.errors import UserError
from fintune_kit.evaluate.scoring import encode_questions
from fintune_kit.evaluate.sets.shots import with_shots
from fintune_kit.evaluate.tasks import Task
from fintune_kit.evaluate.trees import build_packs
from tests.evaluate.conftest import SENTIMENT, make_task, question

TRAINING = (tuple(f"training text {n}" for n in range(9)), tuple(SENTIMENT[n % 3] for n in range(9)))


def task(*, labelled: bool) -> Task:
    questions = [question(f"text {n}", SENTIMENT[n % 3]) for n in range(12)]
    return make_task(*questions, labelled={"": TRAINING} if labelled else {})


def test_examples_stand_between_the_instruction_and_the_question() -> None:
    found = with_shots(task(labelled=True), shots=3, seed=1)
    messages = found.questions[0].messages
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert {message["content"] for message in messages[2:-1:2]} == set(SENTIMENT), "one example of each label"
    assert messages[-1]["content"] == "text 0"
    assert found.title == "a task, 3-shot"
    assert all(question.messages[:-1] == messages[:-1] for question in found.questions)


def test_without_training_the_examples_are_not_asked() -> None:
    found = with_shots(task(labelled=False), shots=3, seed=1)
    assert len(found.questions) == 9
    shown = {message["content"] for message in found.questions[0].messages[1:-1]}
    assert not shown & {question.text for question in found.questions}


def test_no_shots_change_nothing_and_too_many_are_refused() -> None:
    assert with_shots(task(labelled=True), shots=0, seed=1) == task(labelled=True)
    with pytest.raises(UserError, match="has 9 examples and 12 questions left, expected 20 examples"):
        with_shots(task(labelled=True), shots=20, seed=1)


def test_shots_are_written_once_for_all_questions(encoder: ChatEncoder) -> None:
    plain, few = (
        encode_questions(t.questions, encoder=encoder)
        for t in (task(labelled=True), with_shots(task(labelled=True), shots=3, seed=1))
    )
    alone = [sum(map(len, prompts)) for prompts, _ in (plain, few)]
    written = [sum(map(len, build_packs(*found, length=4000))) for found in (plain, few)]
    assert alone[1] - alone[0] > 10 * (written[1] - written[0]), "twelve questions share one copy"
