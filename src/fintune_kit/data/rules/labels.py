"""Labels: which conversations answer a closed question, and with which of its few answers."""

from collections import defaultdict
from collections.abc import Sequence

from fintune_kit.conversations import Conversation, closed_instructions, fold_label

OPEN = "(open)"
"""Stands for the label of an open question."""


def labels_of(conversations: Sequence[Conversation], origins: Sequence[str]) -> list[str]:
    """The label that each conversation answers with, in small letters; `OPEN` where the question is open.

    Whether a question is closed is asked of each origin apart: another dataset without system prompts may ask open
    questions.
    """
    by_origin: dict[str, list[int]] = defaultdict(list)
    for index, origin in enumerate(origins):
        by_origin[origin].append(index)
    labels = [OPEN] * len(conversations)
    for indices in by_origin.values():
        closed = closed_instructions(conversations[index] for index in indices)
        options = {key: {fold_label(option) for option in found} for key, found in closed.items()}
        for index in indices:
            conversation = conversations[index]
            label = fold_label(conversation.answer)
            if label in options.get((conversation.task_type, conversation.system), ()):
                labels[index] = label
    return labels
