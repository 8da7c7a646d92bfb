"""All rows of a run. Their indices never change. Some of them are refused, each with a rule and a detail.

    index            0         1                                     2
    conversations    c0        c1                                    c2
    origins          "fiqa"    "fpb"                                 "fiqa"
    rows             "{...}"   "{...}"                               "{...}"      packed
    row_findings               refusal: {1: "says 'I cannot'"}
    refused                    1: ("refusal", "says 'I cannot'")

A rule marks indices. Rows that never became a conversation have no index: `refusals` begins with them.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

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


class PackedRows:
    """The rows as they were read, each as JSON text. They are compressed, since few of them are looked at again."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._blocks: list[bytes] = []
        self._ends: list[int] = []
        if texts:
            batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["row"])
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
                stream.write_batch(batch)
            self._blocks.append(sink.getvalue().to_pybytes())
            self._ends.append(len(texts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def extend(self, other: "PackedRows") -> None:
        """Appends the rows of another collection."""
        before = len(self)
        self._blocks += other._blocks
        self._ends += [before + end for end in other._ends]

    def texts_at(self, indices: Sequence[int]) -> dict[int, str]:
        """The texts at some indices, which ascend: each block is unpacked once."""
        found: dict[int, str] = {}
        block, rows = -1, None
        for index in indices:
            if (own := bisect_right(self._ends, index)) != block:
                block, rows = own, pa.ipc.open_stream(self._blocks[own]).read_next_batch().column(0)
            found[index] = rows[index - (self._ends[block - 1] if block else 0)].as_py()  # type: ignore[index]
        return found


@dataclass
class Corpus:
    """The rows of a run. The three lists have one entry a conversation."""

    conversations: list[Conversation] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    """The upstream dataset that a row itself names, else its source."""
    rows: PackedRows = field(default_factory=PackedRows)
    """The rows as they were read."""
    row_findings: dict[str, Findings] = field(default_factory=dict)
    """The findings of each rule that looks at one row only. A row that an earlier rule refuses may stand here too."""
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Index to rule and detail, in the order of the rules."""
    unconverted: list[Refusal] = field(default_factory=list)
    """Rows that never became a conversation."""

    def extend(self, other: "Corpus") -> None:
        """Appends the rows of a corpus that no rule has marked yet."""
        assert not other.refused, "the indices of marked rows would be lost"
        before = len(self.conversations)
        for rule, findings in other.row_findings.items():
            self.row_findings.setdefault(rule, {}).update({before + i: said for i, said in findings.items()})
        self.conversations += other.conversations
        self.origins += other.origins
        self.rows.extend(other.rows)
        self.unconverted += other.unconverted

    def kept(self) -> list[int]:
        """The indices that no rule has marked so far."""
        return [index for index in range(len(self.conversations)) if index not in self.refused]

    def refuse(self, rule: str, findings: Findings) -> None:
        """Marks the indices of the findings. An index that an earlier rule marked keeps its mark."""
        self.refused |= {index: (rule, findings[index]) for index in sorted(findings) if index not in self.refused}

    def refusals(self) -> Iterator[Refusal]:
        """Every row that is not learned: first those that never became a conversation, then rule after rule."""
        yield from self.unconverted
        rows = self.rows.texts_at(sorted(self.refused))
        for index, (rule, detail) in self.refused.items():
            conversation = self.conversations[index]
            yield Refusal(
                row_id=conversation.row_id,
                source=conversation.source,
                origin=self.origins[index],
                task_type=conversation.task_type,
                row=rows.pop(index),
                rule=rule,
                detail=detail,
            )


def row_json(row: Mapping[str, Any]) -> str:
    """A row as JSON text. Values that JSON cannot write are described, so that a Parquet file can hold any row."""
    try:
        try:
            text = json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
        except ValueError:  # NaN is not JSON: it is written as null
            plain = json.loads(json.dumps(row, default=str), parse_constant=lambda _: None)
            text = json.dumps(plain, ensure_ascii=False)
    except (RecursionError, TypeError) as error:
        text = json.dumps({"unwritable": f"{type(error).__name__}: {list(row)[:9]!r}"})
    return as_unicode(text)
