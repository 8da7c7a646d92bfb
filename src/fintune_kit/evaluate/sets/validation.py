"""Makes tasks from the validation split, for each task type, with the options from training.

If a system prompt has few, short, repeated answers in training, its questions are closed: these answers are the
options, and the model chooses by likelihood. After any other system prompt the model writes its answer.

    conversations/validation.parquet  ->  validation_sentiment_analysis     choice
                                          validation_qa_text                free text
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from fintune_kit.conversations import Conversation, closed_instructions, fold_label
from fintune_kit.evaluate.tasks import LabelledTexts, Metric, Question, Task, evenly_chosen

Instruction = tuple[str, str]
"""Task type and system prompt."""
PREFIX = "validation_"
"""The beginning of the tasks' names."""
_ENTITY_LIST = re.compile(r"[^:;\n]+:\s*\w+(\s*[;\n]\s*[^:;\n]+:\s*\w+)*\s*\.?")


def validation_tasks(
    train: Sequence[Conversation], validation: Sequence[Conversation], *, max_generated: int
) -> list[Task]:
    """The validation conversations as tasks by task type: choice tasks first, then free text.

    Args:
        train: tells which instructions are closed, and their options. The floors learn from it too.
        max_generated: the largest number of questions in a free-text task. Each takes hundreds of times as long as a
            choice.
    """
    closed = closed_instructions(train)
    labelled = _labelled(train, closed)
    choices, generated = [], []
    for task_type in sorted({conversation.task_type for conversation in validation}):
        conversations = [c for c in validation if c.task_type == task_type]
        closed_ones = [c for c in conversations if (task_type, c.system) in closed]
        free = [c for c in conversations if (task_type, c.system) not in closed]
        if closed_ones:
            choices.append(_choice_task(task_type, closed_ones, closed=closed, labelled=labelled))
        if free:
            answers = [c.answer for c in train if c.task_type == task_type]
            generated.append(_free_task(task_type, free, training_answers=answers, max_generated=max_generated))
    return choices + generated


def _choice_task(
    task_type: str,
    conversations: Sequence[Conversation],
    *,
    closed: Mapping[Instruction, tuple[str, ...]],
    labelled: Mapping[Instruction, LabelledTexts],
) -> Task:
    questions = tuple(_question(c, options=closed[task_type, c.system]) for c in conversations)
    return Task(
        name=PREFIX + _letters(task_type),
        title=f"validation {task_type.replace('_', ' ')}",
        metric="accuracy",
        questions=questions,
        source="conversations/validation.parquet",
        labelled={question.group: labelled[task_type, question.group] for question in questions},
        of_total=len(questions),
    )


def _free_task(
    task_type: str, conversations: Sequence[Conversation], *, training_answers: Sequence[str], max_generated: int
) -> Task:
    chosen = [conversations[index] for index in evenly_chosen(len(conversations), max_chosen=max_generated)]
    metric: Metric = "entities" if _all_entity_lists(c.answer for c in conversations) else "rouge_l"
    return Task(
        name=f"{PREFIX}{_letters(task_type)}_text",
        title=f"validation {task_type.replace('_', ' ')}, free text",
        metric=metric,
        questions=tuple(_question(c) for c in chosen),
        source="conversations/validation.parquet",
        max_new_tokens=answer_tokens(training_answers),
        of_total=len(conversations),
    )


def answer_tokens(answers: Sequence[str]) -> int:
    """Tokens that are enough for 95 % of such answers, from 16 to 256: one for every three characters."""
    lengths = sorted(len(answer) for answer in answers) or [0]
    return min(256, max(16, lengths[len(lengths) * 95 // 100] // 3))


def _labelled(
    train: Sequence[Conversation], closed: Mapping[Instruction, tuple[str, ...]]
) -> dict[Instruction, LabelledTexts]:
    """The training texts and labels of each closed instruction."""
    found: dict[Instruction, tuple[list[str], list[str]]] = {key: ([], []) for key in closed}
    for conversation in train:
        key = (conversation.task_type, conversation.system)
        if key in closed:
            found[key][0].append(conversation.question)
            found[key][1].append(_as_option(conversation.answer, closed[key]))
    return {key: (tuple(texts), tuple(labels)) for key, (texts, labels) in found.items()}


def _as_option(answer: str, options: Sequence[str]) -> str:
    """The option with the same letters as an answer, else the answer itself."""
    return next((option for option in options if fold_label(option) == fold_label(answer)), answer)


def _question(conversation: Conversation, *, options: tuple[str, ...] = ()) -> Question:
    return Question(
        row_id=conversation.row_id,
        messages=tuple(conversation.messages[:-1]),
        text=conversation.question,
        target=_as_option(conversation.answer, options),
        options=options,
        group=conversation.system,
    )


def _all_entity_lists(answers: Iterable[str]) -> bool:
    return all(_ENTITY_LIST.fullmatch(answer.strip()) for answer in answers)


def _letters(task_type: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", task_type)
