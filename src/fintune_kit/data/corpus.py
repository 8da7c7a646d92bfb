"""All rows of a run, at indices that never change: the conversations, and which of them were refused and why.

    index            0         1                                     2
    conversations    c0        c1                                    c2
    origins          "fiqa"    "fpb"                                 "fiqa"
    rows             {...}     {...}                                 {...}
    refused                    1: ("refusal", "says 'I cannot'")

A rule marks indices. Rows that never became a conversation have no index: `refusals` begins with them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fintune_kit.conversations import Conversation
from fintune_kit.data.read.lines import as_unicode

Findings = dict[int, str]
"""Indices of conversations that break a rule, with what was found there."""


@dataclass(slots=True)
class Refusal:
    """A row that is not learned."""

    row_id: str
    source: str
    origin: str
    task_type: str
    row: str
    """The row as JSON text; of an unreadable row, its first characters."""
    rule: str
    detail: str


@dataclass
class Corpus:
    """The rows of a run. The three lists have one entry a conversation."""

    conversations: list[Conversation] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    """The upstream dataset that a row itself names, else its source."""
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    """The rows as they were read."""
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Index to rule and detail, in the order of the rules."""
    unconverted: list[Refusal] = field(default_factory=list)
    """Rows that never became a conversation."""

    def add(self, conversation: Conversation, *, origin: str, row: Mapping[str, Any]) -> None:
        """Appends a conversation with the row that it was made from."""
        self.conversations.append(conversation)
        self.origins.append(origin)
        self.rows.append(row)

    def kept(self) -> list[int]:
        """The indices that no rule has marked so far."""
        return [index for index in range(len(self.conversations)) if index not in self.refused]

    def refuse(self, rule: str, findings: Findings) -> None:
        """Marks the indices of the findings."""
        self.refused |= {index: (rule, findings[index]) for index in sorted(findings)}

    def refusals(self) -> Iterator[Refusal]:
        """Every row that is not learned: first those that never became a conversation, then rule after rule."""
        yield from self.unconverted
        for index, (rule, detail) in self.refused.items():
            conversation = self.conversations[index]
            yield Refusal(
                row_id=conversation.row_id,
                source=conversation.source,
                origin=self.origins[index],
                task_type=conversation.task_type,
                row=row_json(self.rows[index]),
                rule=rule,
                detail=detail,
            )


def row_json(row: Mapping[str, Any]) -> str:
    """A row as JSON text. Values that JSON cannot write are described, so that a Parquet file can hold any row."""
    try:
        try:
            text = json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
        except ValueError:  # JSON has no NaN: it is written as null
            plain = json.loads(json.dumps(row, default=str), parse_constant=lambda _: None)
            text = json.dumps(plain, ensure_ascii=False)
    except (RecursionError, TypeError) as error:
        text = json.dumps({"unwritable": f"{type(error).__name__}: {list(row)[:9]!r}"})
    return as_unicode(text)
