"""A task is a list of questions that are reported together. A question is a conversation without its last answer.

    Task "validation_sentiment_analysis"                 metric: accuracy, decided by the likelihood of the options
        Question  system     You are a financial sentiment analyst. ... positive, neutral or negative.
                  user       Ludlow Retail warned that annual profit will be lower ...
                  options    positive | neutral | negative          target    negative

The modules in `sets` make tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fintune_kit.bank.transactions import Transaction
from fintune_kit.conversations import Message

Metric = Literal[
    "accuracy", "exact", "exact_match", "numeric", "spans", "token_f1", "rouge_l", "json", "entities", "mentions",
    "tokens", "categories",
]  # fmt: skip
"""The way of judging answers: `accuracy` by the likelihood of the options, all others by `judging` generated text."""

LabelledTexts = tuple[tuple[str, ...], tuple[str, ...]]
"""Texts and their labels."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question with its right answer."""

    row_id: str
    """The row of the file from which the question comes: `fpb.jsonl#17`."""
    messages: tuple[Message, ...]
    """The prompt. It ends with the user's message."""
    text: str
    """The text of the question without instructions. The floors and the search for contamination read it."""
    target: str
    """The right answer. In a choice task it is one of `options`, or a label that training never showed. No model can
    choose such a label, so every answer counts as wrong."""
    options: tuple[str, ...] = ()
    """All possible answers, in a fixed order. Empty if the answer is generated."""
    group: str = ""
    """Questions of one group share instruction and options. Floors are fitted for each group."""
    dialogue: str = ""
    """The id of a conversation of several questions (ConvFinQA). `{answer0}` in a prompt stands for the model's own
    answer to turn 0, and so on."""
    turn: int = 0
    """The index of the question in its dialogue."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions that are reported together."""

    name: str
    """Letters, digits and underscores only, because it is a part of file names."""
    title: str
    metric: Metric
    questions: tuple[Question, ...]
    source: str
    """The source of the questions, in words for the model card."""
    labelled: dict[str, LabelledTexts] = field(default_factory=dict)
    """Texts and labels of the training split for each group. The floors learn from them."""
    max_new_tokens: int = 64
    """The largest length of a generated answer."""
    of_total: int | None = None
    """The number of questions in the source; None if all are asked."""
    average_groups: bool = False
    """Whether F1 is also averaged over groups, as Headlines does over its nine tags."""
    statement: tuple[Transaction, ...] = ()
    """The bank transactions of the questions. Their amounts are added up by label."""

    @property
    def is_choice(self) -> bool:
        """Whether the model chooses among options by likelihood."""
        return self.metric == "accuracy"

    @property
    def labels(self) -> list[str]:
        """All options in order of first appearance: the axes of the confusion table."""
        return list(dict.fromkeys(option for question in self.questions for option in question.options))


def evenly_chosen(count: int, *, max_chosen: int | None) -> Sequence[int]:
    """At most `max_chosen` of `count` indices, evenly spread; None chooses all. Every machine chooses the same."""
    if max_chosen is None or count <= max_chosen:
        return range(count)
    return [index * count // max_chosen for index in range(max_chosen)]
