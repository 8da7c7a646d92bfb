"""How the two models are asked: dialogues turn by turn, with the model's own earlier answers."""

import pytest

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.evaluate import models
from fintune_kit.evaluate.generation import GeneratedText
from fintune_kit.evaluate.models import answer_task
from fintune_kit.evaluate.scoring import Compute
from fintune_kit.evaluate.tasks import Question
from tests.evaluate.conftest import make_task


def turn(dialogue: str, index: int, text: str, target: str) -> Question:
    messages = (Message(role="user", content=text),)
    return Question(row_id=text, messages=messages, text=text, target=target, dialogue=dialogue, turn=index)


def test_a_later_turn_is_asked_with_the_models_own_earlier_answers(
    encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def generate(_model: object, questions: list[Question], **_rest: object) -> list[GeneratedText]:
        asked.append([question.messages[0]["content"] for question in questions])
        return [GeneratedText(f"<{question.row_id}>", True) for question in questions]

    monkeypatch.setattr(models, "generate_answers", generate)
    task = make_task(
        turn("b", 1, "{answer0} less 2?", "<{answer0} less 2?>"),
        turn("a", 0, "first of a", "9"),
        turn("b", 0, "first of b", "9"),
        metric="exact_match",
    )
    answers = answer_task(object(), task, encoder=encoder, compute=Compute(device="cpu"), label="x")
    assert asked == [["first of a", "first of b"], ["<first of b> less 2?"]]
    assert [answer.right for answer in answers] == [True, False, False], "answers stay in the order of the questions"
