"""Tasks from the held-out conversations, one a task type, options from what training showed under the same instruction.

A system prompt whose answers in training are few, short and repeated is a closed question: its options are those
answers, and likelihood decides. Under any other system prompt the answer is free text, and is generated.
"""

import re
from collections.abc import Iterable, Sequence

from fintune_kit.conversations import Conversation, closed_instructions, fold_label
from fintune_kit.evaluate.tasks import Metric, Question, Task, evenly_chosen

_ENTITY_LIST = re.compile(r"[^:;\n]+:\s*\w+(\s*[;\n]\s*[^:;\n]+:\s*\w+)*\s*\.?")


def heldout_tasks(
    train: Sequence[Conversation], validation: Sequence[Conversation], *, most_rows: int | None, most_generated: int
) -> list[Task]:
    """Held-out rows by task type: choices first, free text after them.

    Args:
        most_rows: of a choice task; None for all.
        most_generated: of a free-text task, whose rows cost hundreds of times as much.
    """
    closed = closed_instructions(train)
    labelled = _labelled(train, closed)
    tasks: list[Task] = []
    for task_type in sorted({c.task_type for c in validation}):
        rows = [c for c in validation if c.task_type == task_type]
        choices = [c for c in rows if (task_type, c.system) in closed]
        free = [c for c in rows if (task_type, c.system) not in closed]
        if choices:
            chosen = [choices[i] for i in evenly_chosen(len(choices), limit=most_rows)]
            questions = tuple(_choice(c, closed[task_type, c.system]) for c in chosen)
            groups = {question.group: labelled[task_type, question.group] for question in questions}
            tasks.append(_task(task_type, "accuracy", questions, of_total=len(choices), labelled=groups))
        if free:
            chosen = [free[i] for i in evenly_chosen(len(free), limit=most_generated)]
            questions = tuple(_free_text(c) for c in chosen)
            metric: Metric = "entities" if _all_entity_lists(c.answer for c in rows) else "rouge_l"
            tokens = answer_tokens([c.answer for c in train if c.task_type == task_type])
            tasks.append(_task(task_type, metric, questions, of_total=len(free), max_new_tokens=tokens))
    return sorted(tasks, key=lambda task: not task.is_choice)


def answer_tokens(answers: Sequence[str]) -> int:
    """Room for 95 % of answers as long as training's: at three characters a token or more, from 16 to 256."""
    lengths = sorted(len(answer) for answer in answers) or [0]
    return min(256, max(16, lengths[len(lengths) * 95 // 100] // 3))


def _labelled(
    train: Sequence[Conversation], closed: dict[tuple[str, str], tuple[str, ...]]
) -> dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]]:
    """Training texts and labels of each closed instruction."""
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {key: ([], []) for key in closed}
    for conversation in train:
        key = (conversation.task_type, conversation.system)
        if key in closed:
            found[key][0].append(conversation.question)
            found[key][1].append(_as_option(conversation.answer, closed[key]))
    return {key: (tuple(texts), tuple(labels)) for key, (texts, labels) in found.items()}


def _as_option(answer: str, options: tuple[str, ...]) -> str:
    return next((option for option in options if fold_label(option) == fold_label(answer)), answer)


def _choice(conversation: Conversation, options: tuple[str, ...]) -> Question:
    return Question(
        row_id=conversation.row_id,
        messages=tuple(conversation.messages[:-1]),
        text=conversation.question,
        target=_as_option(conversation.answer, options),
        options=options,
        group=conversation.system,
    )


def _free_text(conversation: Conversation) -> Question:
    return Question(
        row_id=conversation.row_id,
        messages=tuple(conversation.messages[:-1]),
        text=conversation.question,
        target=conversation.answer,
        group=conversation.system,
    )


def _all_entity_lists(answers: Iterable[str]) -> bool:
    return all(_ENTITY_LIST.fullmatch(answer.strip()) for answer in answers)


def _task(
    task_type: str,
    metric: Metric,
    questions: tuple[Question, ...],
    *,
    of_total: int,
    max_new_tokens: int = 64,
    labelled: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] | None = None,
) -> Task:
    words = task_type.replace("_", " ")
    return Task(
        name=f"heldout_{re.sub(r'[^A-Za-z0-9]+', '_', task_type)}" + ("" if metric == "accuracy" else "_text"),
        title=f"held-out {words}" + ("" if metric == "accuracy" else ", free text"),
        metric=metric,
        questions=questions,
        source="conversations/validation.parquet",
        labelled=labelled or {},
        max_new_tokens=max_new_tokens,
        of_total=of_total,
    )
