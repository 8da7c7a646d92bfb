from pathlib import Path

import pytest

from fintune_kit.conversations import Conversation, Message, closed_instructions, read_conversations
from fintune_kit.errors import MissingInputError
from fintune_kit.evaluate.sets.validation import answer_tokens, validation_tasks
from fintune_kit.evaluate.tasks import evenly_chosen
from tests.evaluate.world import World

ASK = "positive or negative?"


def row(number: int, answer: str, *, system: str | None = ASK, task_type: str = "sentiment") -> Conversation:
    messages = [Message(role="user", content=f"text {number}"), Message(role="assistant", content=answer)]
    if system is not None:
        messages.insert(0, Message(role="system", content=system))
    return Conversation(
        row_id=f"r{number}", messages=messages, task_type=task_type, source="rows.csv", conversation_id=f"r{number}"
    )


TRAIN = [
    *(row(n, "positive") for n in range(6)),
    *(row(n, "Positive.") for n in range(6, 8)),
    *(row(n, "negative") for n in range(8, 11)),
    *(row(n, f"a long free answer, number {n}", system=None, task_type="qa") for n in range(11, 21)),
    *(row(n, f"Firm {n}: positive; Bank: neutral", system="list", task_type="ner") for n in range(21, 24)),
]


def test_an_instruction_with_few_short_repeated_answers_is_closed() -> None:
    assert closed_instructions(TRAIN) == {("sentiment", ASK): ("positive", "negative")}


def test_spellings_of_one_label_are_one_option_in_the_commonest_form() -> None:
    (task,) = validation_tasks(TRAIN, [row(30, "POSITIVE")], max_generated=5)
    (question,) = task.questions
    assert (question.target, question.options) == ("positive", ("positive", "negative"))
    assert task.labelled[ASK][1].count("positive") == 8


def test_a_label_that_training_never_showed_stays_and_is_no_option() -> None:
    (task,) = validation_tasks(TRAIN, [row(30, "mixed")], max_generated=5)
    (question,) = task.questions
    assert question.target == "mixed"
    assert "mixed" not in question.options


def test_free_text_is_generated_and_lists_of_entities_are_read_as_pairs() -> None:
    held = [
        row(30, "some answer", system=None, task_type="qa"),
        row(31, "Firm: negative", system="list", task_type="ner"),
    ]
    tasks = validation_tasks(TRAIN, held, max_generated=5)
    assert [(task.name, task.metric) for task in tasks] == [
        ("validation_ner_text", "entities"),
        ("validation_qa_text", "rouge_l"),
    ]
    assert all(not question.options for task in tasks for question in task.questions)


def test_the_prompt_ends_with_the_users_message() -> None:
    (task,) = validation_tasks(TRAIN, [row(30, "negative")], max_generated=5)
    assert [message["role"] for message in task.questions[0].messages] == ["system", "user"]


def test_rows_are_chosen_evenly_and_the_task_says_of_how_many() -> None:
    held = [row(n, "free text", system=None, task_type="qa") for n in range(10)]
    (task,) = validation_tasks(TRAIN, held, max_generated=4)
    assert [question.row_id for question in task.questions] == ["r0", "r2", "r5", "r7"]
    assert task.of_total == 10
    assert list(evenly_chosen(3, max_chosen=None)) == [0, 1, 2]


def test_room_for_an_answer_follows_trainings_answers() -> None:
    assert answer_tokens(["x" * 300] * 99 + ["x" * 9000]) == 100
    assert (answer_tokens(["x"]), answer_tokens(["x" * 9000]), answer_tokens([])) == (16, 256, 16)


def test_conversations_are_read_with_their_ids(world: World, tmp_path: Path) -> None:
    rows = read_conversations(world.conversations, "validation")
    assert len(rows) == 16
    assert rows[0].row_id == "made#positive-20"
    assert rows[0].answer == "positive"
    with pytest.raises(MissingInputError, match="fintune-kit data"):
        read_conversations(tmp_path / "nothing", "train")
