"""The rows of a run on their way to being conversations, and those that were refused, with the reason for each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fintune_kit.conversations import Conversation


@dataclass(slots=True, kw_only=True)
class Candidate(Conversation):
    """A row that was read as a conversation."""

    origin: str
    """The upstream dataset that the row itself names, else the source."""
    row: Mapping[str, Any]
    """The row as it was read."""


@dataclass(slots=True)
class Refusal:
    """A row that does not become a conversation."""

    row_id: str
    source: str
    origin: str
    task_type: str
    row: str
    """As JSON text; of an unreadable row, its head as it stands."""
    rule: str
    detail: str


@dataclass
class Corpus:
    """Candidates still in the running, and refusals so far."""

    candidates: list[Candidate] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, findings: Mapping[int, str], *, rule: str) -> None:
        """Moves the candidates at these positions to the refusals; each finding is the detail."""
        kept = []
        for position, candidate in enumerate(self.candidates):
            if (detail := findings.get(position)) is None:
                kept.append(candidate)
            else:
                self.refusals.append(refusal_of(candidate, rule=rule, detail=detail))
        self.candidates = kept


def refusal_of(candidate: Candidate, *, rule: str, detail: str) -> Refusal:
    """The refusal of a candidate."""
    return Refusal(
        row_id=candidate.row_id,
        source=candidate.source,
        origin=candidate.origin,
        task_type=candidate.task_type,
        row=row_json(candidate.row),
        rule=rule,
        detail=detail,
    )


def row_json(row: Mapping[str, Any]) -> str:
    """A row as JSON text that any Parquet file can hold, whatever is in it."""
    try:
        try:
            text = json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
        except ValueError:  # NaN is no JSON: it is written as null
            plain = json.loads(json.dumps(row, default=str), parse_constant=lambda _: None)
            text = json.dumps(plain, ensure_ascii=False)
    except (RecursionError, TypeError) as error:
        text = json.dumps({"unwritable": f"{type(error).__name__}: {list(row)[:9]!r}"})
    return as_unicode(text)


def as_unicode(text: str) -> str:
    """The text without halves of surrogate pairs, which no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
