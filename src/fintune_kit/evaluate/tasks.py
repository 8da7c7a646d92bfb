"""What a task is: questions in the form of a conversation that lacks its last answer, and how an answer is judged.

    Task "heldout_sentiment_analysis"                    kind: choice, judged by likelihood of the options
        Question  system     You are a financial sentiment analyst. ... positive, neutral or negative.
                  user       Ludlow Retail warned that annual profit will be lower ...
                  options    positive | neutral | negative          target    negative

Where a task comes from is another room: held-out conversations (`heldout`), files and known sets (`declared`), bank
transactions (`transactions`), general knowledge (`general`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fintune_kit.bank.transactions import Transaction
from fintune_kit.conversations import Message

Metric = Literal["accuracy", "exact", "numeric", "token_f1", "rouge_l", "json", "entities", "categories"]
"""How an answer is judged: `accuracy` by likelihood among options, the others on generated text (`judging`)."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of a task."""

    row_id: str
    messages: tuple[Message, ...]
    """The prompt: it ends with the user's message."""
    text: str
    """What is asked about, without instructions: read by the floors and compared with the training set."""
    target: str
    """The right answer; of a choice task, one of `options` (or a label that training never showed: always wrong)."""
    options: tuple[str, ...] = ()
    """All answers that compete, in a fixed order; empty where the answer is generated."""
    group: str = ""
    """Rows of one group share instruction and options; floors are fitted a group."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions that are reported together."""

    name: str
    """Letters, digits and underscores: it names files."""
    title: str
    metric: Metric
    questions: tuple[Question, ...]
    source: str
    """Where the rows come from, in words that stand in the model card."""
    labelled: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Of each group, (texts, labels) of the training split: what the floors may learn from."""
    max_new_tokens: int = 64
    """Of a generated answer."""
    of_total: int | None = None
    """Rows that the source holds, where fewer are asked."""
    statement: tuple[Transaction, ...] = ()
    """Of bank transactions: the amounts behind the questions, to be added up by label."""

    @property
    def is_choice(self) -> bool:
        """Whether the options' likelihood decides."""
        return self.metric == "accuracy"

    @property
    def labels(self) -> list[str]:
        """All options, in order of first appearance: the axes of a confusion grid."""
        return list(dict.fromkeys(option for question in self.questions for option in question.options))


def evenly_chosen(count: int, *, limit: int | None) -> Sequence[int]:
    """At most `limit` of `count` indices, spread evenly: the same rows on every machine, none of them chosen by us."""
    if limit is None or count <= limit:
        return range(count)
    return [index * count // limit for index in range(limit)]
