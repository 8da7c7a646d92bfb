"""A batch of rows becomes conversations: mapped to messages, repaired, their roles checked; or refused.

No row is compared with another one here, so batches can be converted in any process. `Converted` holds the results of
one batch, and what was counted on the way; those of the batches that follow are added to it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from sys import intern
from typing import Any

from fintune_kit.conversations import Conversation, Message, find_fault
from fintune_kit.data.convert.cells import RowError, is_absent
from fintune_kit.data.convert.columns import VALUES_DECIDE, ColumnLayout, RowContent, map_row, recognise
from fintune_kit.data.convert.repair import KINDS, Repair, repair
from fintune_kit.data.corpus import Corpus, PackedRows, Refusal, row_json
from fintune_kit.data.read.lines import Row, as_unicode

BATCH_ROWS = 4_096
MAX_EXAMPLES = 3
"""Repairs of each kind that the report shows."""
MAX_EXAMPLE = 300
"""Characters of a repaired text that the report shows."""
MAX_MISFITS = 200
"""Rows that fit no layout and are kept to guess from."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one file that follow each other."""

    file: str
    source: str
    rows: Sequence[Row]
    row_ids: Sequence[str]


@dataclass
class FileLayouts:
    """The layouts of one file's rows, and the columns and turn fields that no layout reads."""

    mapping: Mapping[str, str] | None = None
    rows_by_layout: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    """Why the columns of rows fit no layout, or several."""
    known: dict[tuple[str, ...], ColumnLayout | str] = field(default_factory=dict)
    unused_columns: Counter[str] = field(default_factory=Counter)
    """By column that plays no role: rows in which it holds a value."""
    unused_fields: Counter[str] = field(default_factory=Counter)
    """By field of turns that is not read: turns in which it holds a value."""

    def add(self, other: "FileLayouts") -> None:
        """Adds the counts of the rows that follow."""
        for name in ("rows_by_layout", "misfits", "unused_columns", "unused_fields"):
            getattr(self, name).update(getattr(other, name))

    def layout_of(self, values: Mapping[str, Any]) -> ColumnLayout:
        """The layout of a row. It is found once for all rows with the same columns, unless it depends on the values.

        Raises:
            RowError: no layout fits, or several do.
        """
        present = tuple(name for name, value in values.items() if not is_absent(value))
        key = (*present, "", *values) if len(present) < len(values) else present
        if not VALUES_DECIDE.isdisjoint(name.strip().lower() for name in present):
            layout = recognise(values, self.mapping)
        elif key in self.known:
            layout = self.known[key]
        else:
            layout = self.known[key] = recognise(values, self.mapping)
        if isinstance(layout, str):
            self.misfits[layout] += 1
            raise RowError("unmapped", f"the columns {layout}")
        self.rows_by_layout[layout.name] += 1
        read = layout.roles.values()
        self.unused_columns.update(name for name in present if name not in read)
        return layout

    def unused(self) -> str:
        """The columns and turn fields that were not used, in words; empty if all were used."""
        parts = [f"column {name!r}" for name in self.unused_columns]
        parts += [f"turn field {name!r} ({count:,} turns)" for name, count in self.unused_fields.items()]
        return ", ".join(parts)


@dataclass
class RepairLog:
    """Repairs that were made: how many, and some of each kind."""

    rows: int = 0
    rows_by_kind: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    system_prompts: dict[str, Repair] = field(default_factory=dict)
    """Thousands of rows share a few, so each is repaired once."""

    def add(self, other: "RepairLog") -> None:
        """Adds the repairs of the rows that follow."""
        self.rows += other.rows
        self.rows_by_kind.update(other.rows_by_kind)
        for kind, examples in self.examples.items():
            examples += other.examples[kind][: MAX_EXAMPLES - len(examples)]

    def repair(self, row_id: str, messages: list[Message]) -> bool:
        """Repairs the contents of messages in place; says whether one of them changed."""
        kinds: dict[str, None] = {}
        for message in messages:
            found = self._repair(message)
            if not found.kinds:
                message["content"] = found.text  # one text for all rows that share a system prompt
                continue
            for kind in found.kinds:
                if kind not in kinds and len(self.examples[kind]) < MAX_EXAMPLES:
                    self.examples[kind].append(_example(row_id, message["content"], found.text))
            kinds.update(dict.fromkeys(found.kinds))
            message["content"] = found.text
        self.rows_by_kind.update(list(kinds))
        self.rows += bool(kinds)
        return bool(kinds)

    def _repair(self, message: Message) -> Repair:
        if message["role"] != "system":
            return repair(message["content"])
        if message["content"] not in self.system_prompts:
            self.system_prompts[message["content"]] = repair(message["content"])
        return self.system_prompts[message["content"]]


@dataclass
class Converted:
    """The conversations of some rows of one file, and what was met there."""

    layouts: FileLayouts
    corpus: Corpus = field(default_factory=Corpus)
    repairs: RepairLog = field(default_factory=RepairLog)
    histories: Counter[str] = field(default_factory=Counter)
    turn_changes: Counter[str] = field(default_factory=Counter)
    """Faults in the order of turns that were mended."""
    notes: Counter[str] = field(default_factory=Counter)
    first_with_note: dict[str, str] = field(default_factory=dict)
    """By note: where its first row stands."""
    misfits: list[Mapping[str, Any]] = field(default_factory=list)
    """The first rows whose columns fit no layout."""
    rows: int = 0

    def add(self, other: "Converted") -> None:
        """Adds the results of the rows that follow."""
        self.layouts.add(other.layouts)
        self.corpus.extend(other.corpus)
        self.repairs.add(other.repairs)
        for name in ("histories", "turn_changes", "notes"):
            getattr(self, name).update(getattr(other, name))
        self.first_with_note = other.first_with_note | self.first_with_note
        self.misfits += other.misfits[: MAX_MISFITS - len(self.misfits)]
        self.rows += other.rows


def convert_batch(
    batch: Batch, *, mapping: Mapping[str, str] | None = None, system_prompt: str | None = None
) -> Converted:
    """The conversations of a batch.

    Args:
        mapping: role to column, as `columns` says.
        system_prompt: added where a row has none.
    """
    converted = Converted(FileLayouts(mapping), rows=len(batch.rows))
    texts = []
    for row_id, row in zip(batch.row_ids, batch.rows, strict=True):
        if row.note:
            converted.notes[row.note] += 1
            converted.first_with_note.setdefault(row.note, row.location)
        try:
            _convert_row(row_id, row, batch, converted, system_prompt=system_prompt)
            texts.append(row_json(row.values or {}))
        except RowError as error:
            detail = as_unicode(f"{row.location}: {error.detail}")
            refusal = _refusal(row_id, row, batch, rule=error.rule, detail=detail)
            converted.corpus.unconverted.append(refusal)
            if error.rule == "unmapped" and row.values and len(converted.misfits) < MAX_MISFITS:
                converted.misfits.append(row.values)
    converted.corpus.rows = PackedRows(texts)
    converted.layouts.known.clear()  # found layouts hold functions, which do not travel between processes
    return converted


def _convert_row(row_id: str, row: Row, batch: Batch, converted: Converted, *, system_prompt: str | None) -> None:
    if row.values is None:
        raise RowError("unreadable", row.fault or "")
    content = map_row(
        converted.layouts.layout_of(row.values),
        row.values,
        system_prompt=system_prompt,
        unused=converted.layouts.unused_fields,
        changes=converted.turn_changes,
    )
    if fault := find_fault(content.messages):
        raise RowError("missing_or_empty" if fault.endswith("is empty") else "roles", fault)
    if converted.repairs.repair(row_id, content.messages) and (fault := find_fault(content.messages)):
        raise RowError("missing_or_empty", f"{fault} once repaired")
    if content.history:
        converted.histories[content.history] += 1
    converted.corpus.conversations.append(_conversation(row_id, batch, content))
    converted.corpus.origins.append(intern(content.origin or batch.source))


def _conversation(row_id: str, batch: Batch, content: RowContent) -> Conversation:
    return Conversation(
        row_id=row_id,
        source=batch.source,
        task_type=intern(content.task_type),
        conversation_id=f"{batch.file}#c{content.conversation}" if content.conversation else row_id,
        messages=content.messages,
    )


def batches_of(rows: Iterable[Row], *, file: str, source: str) -> Iterator[Batch]:
    """The rows of a file, some thousand at a time; their ids are `rows.csv#1`, `rows.csv#2` and so on."""
    remaining, first = iter(rows), 1
    while own := list(islice(remaining, BATCH_ROWS)):
        ids = [f"{file}#{number}" for number in range(first, first + len(own))]
        yield Batch(file=file, source=source, rows=own, row_ids=ids)
        first += len(own)


def _refusal(row_id: str, row: Row, batch: Batch, *, rule: str, detail: str) -> Refusal:
    values = row.values or {}
    task, origin = values.get("task_type"), values.get("dataset")
    return Refusal(
        row_id=row_id,
        source=batch.source,
        origin=as_unicode(origin) if isinstance(origin, str) and origin else batch.source,
        task_type=as_unicode(task) if isinstance(task, str) and task else "(unknown)",
        row=as_unicode(row.raw or "") if row.values is None else row_json(values),
        rule=rule,
        detail=detail,
    )


def _example(row_id: str, before: str, after: str) -> dict[str, str]:
    """The text around the first difference, before and after a repair."""
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, first - MAX_EXAMPLE // 4)
    shown = (text[start : start + MAX_EXAMPLE].encode("utf-8", "replace").decode() for text in (before, after))
    return dict(zip(("row_id", "before", "after"), (row_id, *shown), strict=True))
