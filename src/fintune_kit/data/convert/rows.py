"""The rows of a file become conversations of a corpus: mapped to messages, repaired, their roles checked; or refused.

The result of each file is announced in one sentence, with everything that was not used:

    orders.csv: read as Alpaca: 4,990 of 5,000 rows; not used: column 'id'; turn field 'reasoning_content'
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from fintune_kit.conversations import Conversation, Message, find_fault
from fintune_kit.data.convert.cells import RowError, is_absent
from fintune_kit.data.convert.columns import VALUES_DECIDE, ColumnLayout, RowContent, map_row, recognise
from fintune_kit.data.convert.hints import unmapped_columns_error
from fintune_kit.data.convert.repair import KINDS, Repair, repair
from fintune_kit.data.corpus import Corpus, Refusal, row_json
from fintune_kit.data.read.lines import Row, as_unicode
from fintune_kit.data.read.sources import SourceFile
from fintune_kit.errors import UserError

MAX_EXAMPLES = 3
"""Repairs of each kind that the report shows."""
MAX_EXAMPLE = 300
"""Characters of a repaired text that the report shows."""


@dataclass
class FileLayouts:
    """The layouts of one file's rows, and the columns and turn fields that no layout reads."""

    mapping: Mapping[str, str] | None
    rows_by_layout: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    """Why the columns of rows fit no layout, or several."""
    known: dict[tuple[str, ...], ColumnLayout | str] = field(default_factory=dict)
    unused_columns: Counter[str] = field(default_factory=Counter)
    """By column that plays no role: rows in which it holds a value."""
    unused_fields: Counter[str] = field(default_factory=Counter)
    """By field of turns that is not read: turns in which it holds a value."""

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

    def repair(self, row_id: str, messages: list[Message]) -> bool:
        """Repairs the contents of messages in place; says whether one of them changed."""
        kinds: set[str] = set()
        for message in messages:
            found = self._repair(message)
            if not found.kinds:
                continue
            for kind in found.kinds:
                if kind not in kinds and len(self.examples[kind]) < MAX_EXAMPLES:
                    self.examples[kind].append(_example(row_id, message["content"], found.text))
            kinds.update(found.kinds)
            message["content"] = found.text
        self.rows_by_kind.update(kinds)
        self.rows += bool(kinds)
        return bool(kinds)

    def _repair(self, message: Message) -> Repair:
        if message["role"] != "system":
            return repair(message["content"])
        if message["content"] not in self.system_prompts:
            self.system_prompts[message["content"]] = repair(message["content"])
        return self.system_prompts[message["content"]]


@dataclass
class Converter:
    """Converts the rows of one file after another into one corpus, and counts what it met."""

    mapping: Mapping[str, str] | None = None
    """Role to column, as `columns` says."""
    system_prompt: str | None = None
    """Added where a row has none."""
    corpus: Corpus = field(default_factory=Corpus)
    files: list[dict[str, Any]] = field(default_factory=list)
    histories: Counter[str] = field(default_factory=Counter)
    turn_changes: Counter[str] = field(default_factory=Counter)
    """Faults in the order of turns that were mended."""
    misfits: dict[str, UserError] = field(default_factory=dict)
    """For each source, the error of its first file whose columns fit no layout."""
    sources_read: set[str] = field(default_factory=set)
    """Sources with a file whose columns fit."""
    repairs: RepairLog = field(default_factory=RepairLog)
    rows: int = 0

    def convert(self, file: SourceFile) -> str:
        """Converts the rows of a file, and says how they were read."""
        layouts = FileLayouts(self.mapping)
        for number, row in enumerate(tqdm(file.rows, desc=file.name, unit=" rows", leave=False, disable=None), start=1):
            row_id = f"{file.name}#{number}"
            try:
                self._convert_row(row_id, row, file, layouts)
            except RowError as error:
                detail = as_unicode(f"{row.location}: {error.detail}")
                self.corpus.unconverted.append(_refusal(row_id, row, file, rule=error.rule, detail=detail))
        self.rows += len(file.rows)
        if layouts.rows_by_layout:
            self.sources_read.add(file.source.name)
        elif layouts.misfits:
            values = [row.values for row in file.rows if row.values]
            misfit = unmapped_columns_error(file.name, values, layouts.misfits.most_common(1)[0][0])
            self.misfits.setdefault(file.source.name, misfit)
            file.fault = str(misfit).removeprefix(f"{file.name}: ")
        self.files.append(_file_record(file, layouts))
        return _announcement(file, layouts)

    def check_layouts(self) -> None:
        """Raises UserError where a source has rows, and the columns of none of them fit exactly one layout."""
        for source, error in self.misfits.items():
            if source not in self.sources_read:
                raise error

    def _convert_row(self, row_id: str, row: Row, file: SourceFile, layouts: FileLayouts) -> None:
        if row.values is None:
            raise RowError("unreadable", row.fault or "")
        content = map_row(
            layouts.layout_of(row.values),
            row.values,
            system_prompt=self.system_prompt,
            unused=layouts.unused_fields,
            changes=self.turn_changes,
        )
        if fault := find_fault(content.messages):
            raise RowError("missing_or_empty" if fault.endswith("is empty") else "roles", fault)
        if self.repairs.repair(row_id, content.messages) and (fault := find_fault(content.messages)):
            raise RowError("missing_or_empty", f"{fault} once repaired")
        if content.history:
            self.histories[content.history] += 1
        origin = content.origin or file.source.name
        self.corpus.add(_conversation(row_id, file, content), origin=origin, row=row.values)

    def account(self) -> dict[str, Any]:
        """The files, the histories and the repairs, for the report."""
        return {
            "files": self.files,
            "histories": dict(sorted(self.histories.items())),
            "turns": dict(sorted(self.turn_changes.items())),
            "repair": {
                "rows_changed": self.repairs.rows,
                "by_kind": dict(self.repairs.rows_by_kind.most_common()),
                "examples": self.repairs.examples,
            },
        }


def _conversation(row_id: str, file: SourceFile, content: RowContent) -> Conversation:
    return Conversation(
        row_id=row_id,
        source=file.source.name,
        task_type=content.task_type,
        conversation_id=f"{file.name}#c{content.conversation}" if content.conversation else row_id,
        messages=content.messages,
    )


def _refusal(row_id: str, row: Row, file: SourceFile, *, rule: str, detail: str) -> Refusal:
    values = row.values or {}
    task, origin = values.get("task_type"), values.get("dataset")
    return Refusal(
        row_id=row_id,
        source=file.source.name,
        origin=as_unicode(origin) if isinstance(origin, str) and origin else file.source.name,
        task_type=as_unicode(task) if isinstance(task, str) and task else "(unknown)",
        row=as_unicode(row.raw or "") if row.values is None else row_json(values),
        rule=rule,
        detail=detail,
    )


def _file_record(file: SourceFile, layouts: FileLayouts) -> dict[str, Any]:
    notes = Counter(row.note for row in file.rows if row.note)
    first = {note: next(row.location for row in file.rows if row.note == note) for note in notes}
    return {
        "name": file.name,
        "rows": len(file.rows),
        "read_as": dict(sorted(layouts.rows_by_layout.items())),
        "unused_columns": dict(layouts.unused_columns),
        "unused_turn_fields": dict(layouts.unused_fields),
        "fault": file.fault,
        "notes": [f"{count} rows are {note}, the first at {first[note]}" for note, count in notes.items()],
    }


def _example(row_id: str, before: str, after: str) -> dict[str, str]:
    """The text around the first difference, before and after a repair."""
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, first - MAX_EXAMPLE // 4)
    shown = (text[start : start + MAX_EXAMPLE].encode("utf-8", "replace").decode() for text in (before, after))
    return dict(zip(("row_id", "before", "after"), (row_id, *shown), strict=True))


def _announcement(file: SourceFile, layouts: FileLayouts) -> str:
    if file.fault:
        return f"{file.name}: not read: {file.fault}"
    if not layouts.rows_by_layout:
        return f"{file.name}: none of {len(file.rows):,} rows could be read"
    counts = sorted(layouts.rows_by_layout.items())
    read_as = ", ".join(f"{name}: {count:,} of {len(file.rows):,} rows" for name, count in counts)
    unused = layouts.unused()
    return f"{file.name}: read as {read_as}" + (f"; not used: {unused}" if unused else "")
