"""Few-shot: puts solved examples before each question of a choice task.

All questions of a group get the same examples, so the examples are a shared prefix, and the packs of `trees` write it
once. The examples come from training, the same number for each label. Without training data they come from the task
itself, and these questions are not asked.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from fintune_kit.conversations import Message
from fintune_kit.errors import UserError
from fintune_kit.evaluate.tasks import Question, Task

Example = tuple[str, str]
"""A user message and its answer."""


def with_shots(task: Task, *, shots: int, seed: int) -> Task:
    """The same task with `shots` examples before each question. Free-text tasks are returned unchanged.

    Raises:
        UserError: there are not enough examples.
    """
    if shots == 0 or not task.is_choice:
        return task
    questions: list[Question] = []
    for group in dict.fromkeys(question.group for question in task.questions):
        own = [question for question in task.questions if question.group == group]
        texts, labels = task.labelled.get(group, ((), ()))
        examples = _balanced(list(zip(texts, labels, strict=True)), shots, seed)
        if not examples:
            examples = _balanced([(q.messages[-1]["content"], q.target) for q in own], shots, seed)
            own = [question for question in own if question.messages[-1]["content"] not in dict(examples)]
        if len(examples) < shots or not own:
            raise UserError(
                f"task {task.name!r} has {len(examples)} examples and {len(own)} questions left, expected {shots} "
                f"examples for few-shot: ask for fewer"
            )
        questions += [_with(question, examples) for question in own]
    return replace(task, title=f"{task.title}, {shots}-shot", questions=tuple(questions))


def _balanced(examples: Sequence[Example], shots: int, seed: int) -> list[Example]:
    """`shots` random examples, one of each label in turn. A seed always gives the same examples."""
    chance = random.Random(seed)  # noqa: S311 - examples, not secrets
    by_label: dict[str, list[Example]] = {}
    for example in chance.sample(list(examples), len(examples)):
        by_label.setdefault(example[1], []).append(example)
    turns = [by_label[label] for label in sorted(by_label)]
    found: list[Example] = []
    while turns and len(found) < shots:
        found += [left.pop() for left in turns][: shots - len(found)]
        turns = [left for left in turns if left]
    return found


def _with(question: Question, examples: Sequence[Example]) -> Question:
    turns = [
        message
        for user, answer in examples
        for message in (Message(role="user", content=user), Message(role="assistant", content=answer))
    ]
    head = [message for message in question.messages if message["role"] == "system"]
    rest = [message for message in question.messages if message["role"] != "system"]
    return replace(question, messages=(*head, *turns, *rest))
