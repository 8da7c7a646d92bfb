"""Rows into candidates: read, mapped to messages, repaired and checked for their roles; or refused, with the line.

What was read as what is announced, one sentence a file: `orders.csv: read as Alpaca: 4,990 of 5,000 rows`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from fintune_kit.conversations import Message, find_fault
from fintune_kit.data.convert.columns import Layout, Mapped, map_row, recognise, unmapped_columns_error
from fintune_kit.data.convert.repair import KINDS, Repaired, repair
from fintune_kit.data.convert.unfit import UnfitRow
from fintune_kit.data.corpus import Candidate, Corpus, Refusal, as_unicode, row_json
from fintune_kit.data.read.lines import Row
from fintune_kit.data.read.sources import LoadedFile

EXAMPLES_A_KIND = 3
"""Repairs of each kind that the report shows."""
SHOWN = 300
"""Characters of a repaired text that the report shows."""


@dataclass
class Intake:
    """Takes in files, one after another."""

    mapping: Mapping[str, str] | None = None
    system_prompt: str | None = None
    corpus: Corpus = field(default_factory=Corpus)
    files: list[dict[str, Any]] = field(default_factory=list)
    histories: Counter[str] = field(default_factory=Counter)
    repaired_rows: Counter[str] = field(default_factory=Counter)
    repairs: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    system_prompts: dict[str, Repaired] = field(default_factory=dict)
    rows: int = 0
    rows_repaired: int = 0

    def take(self, file: LoadedFile) -> str:
        """Takes in the rows of a file, and says what they were read as.

        Raises:
            UserError: the file has rows, and the columns of none of them fit exactly one layout.
        """
        read_as: Counter[str] = Counter()
        layouts: dict[tuple[str, ...], Layout | str] = {}
        misfits: Counter[str] = Counter()
        for number, row in enumerate(tqdm(file.rows, desc=file.name, unit=" rows", leave=False, disable=None), start=1):
            self._take_row(f"{file.name}#{number}", row, file, read_as=read_as, misfits=misfits, layouts=layouts)
        self.rows += len(file.rows)
        if misfits and not read_as and misfits.total() == sum(row.values is not None for row in file.rows):
            columns = list(dict.fromkeys(name for row in file.rows for name in row.values or ()))
            raise unmapped_columns_error(file.name, columns, misfits.most_common(1)[0][0])
        self._note(file, read_as)
        return _announcement(file, read_as)

    def account(self) -> dict[str, Any]:
        """What was read and repaired, for the report."""
        return {
            "files": self.files,
            "histories": dict(sorted(self.histories.items())),
            "repair": {
                "rows_changed": self.rows_repaired,
                "by_kind": dict(self.repaired_rows.most_common()),
                "examples": self.repairs,
            },
        }

    def _take_row(
        self,
        row_id: str,
        row: Row,
        file: LoadedFile,
        *,
        read_as: Counter[str],
        misfits: Counter[str],
        layouts: dict[tuple[str, ...], Layout | str],
    ) -> None:
        if row.values is None:
            self._refuse(row_id, row, file, rule="unreadable", detail=row.fault or "")
            return
        layout = _layout_of(row.values, self.mapping, layouts)
        if isinstance(layout, str):
            misfits[layout] += 1
            self._refuse(row_id, row, file, rule="unmapped", detail=f"the columns {layout}")
            return
        read_as[layout.name] += 1
        try:
            mapped = map_row(layout, row.values, system_prompt=self.system_prompt)
            if fault := find_fault(mapped.messages):
                raise UnfitRow("missing_or_empty" if fault.endswith("is empty") else "roles", fault)
            if self._repair(row_id, mapped) and (fault := find_fault(mapped.messages)):
                raise UnfitRow("missing_or_empty", f"{fault} once repaired")
        except UnfitRow as error:
            self._refuse(row_id, row, file, rule=error.rule, detail=error.detail)
            return
        if mapped.how:
            self.histories[mapped.how] += 1
        self.corpus.candidates.append(_candidate(row_id, row.values, file, mapped))

    def _refuse(self, row_id: str, row: Row, file: LoadedFile, *, rule: str, detail: str) -> None:
        values = row.values or {}
        task, origin = values.get("task_type"), values.get("dataset")
        self.corpus.refusals.append(
            Refusal(
                row_id=row_id,
                source=file.source.name,
                origin=as_unicode(origin) if isinstance(origin, str) and origin else file.source.name,
                task_type=as_unicode(task) if isinstance(task, str) and task else "(unknown)",
                row=as_unicode(row.raw or "") if row.values is None else row_json(values),
                rule=rule,
                detail=as_unicode(f"{row.place}: {detail}"),
            )
        )

    def _repair(self, row_id: str, mapped: Mapped) -> bool:
        """Repairs the messages where they stand; whether anything was to be done."""
        kinds: set[str] = set()
        for message in mapped.messages:
            repaired = self._repaired(message)
            if not repaired.undone:
                continue
            for kind in repaired.undone:
                if kind not in kinds and len(self.repairs[kind]) < EXAMPLES_A_KIND:
                    self.repairs[kind].append(_example(row_id, message["content"], repaired.text))
            kinds.update(repaired.undone)
            message["content"] = repaired.text
        self.repaired_rows.update(kinds)
        self.rows_repaired += bool(kinds)
        return bool(kinds)

    def _repaired(self, message: Message) -> Repaired:
        if message["role"] != "system":
            return repair(message["content"])
        if message["content"] not in self.system_prompts:  # thousands of rows share a few
            self.system_prompts[message["content"]] = repair(message["content"])
        return self.system_prompts[message["content"]]

    def _note(self, file: LoadedFile, read_as: Counter[str]) -> None:
        notes = Counter(row.note for row in file.rows if row.note)
        first = {note: next(row.place for row in file.rows if row.note == note) for note in notes}
        self.files.append(
            {
                "name": file.name,
                "rows": len(file.rows),
                "read_as": dict(sorted(read_as.items())),
                "fault": file.fault,
                "notes": [f"{count} rows are {note}, the first at {first[note]}" for note, count in notes.items()],
            }
        )


def _layout_of(
    values: Mapping[str, Any], mapping: Mapping[str, str] | None, known: dict[tuple[str, ...], Layout | str]
) -> Layout | str:
    """The layout of a row; found once for all rows with the same columns, unless it depends on the values."""
    if "text" in values:
        return recognise(values, mapping)
    columns = tuple(values)
    if columns not in known:
        known[columns] = recognise(values, mapping)
    return known[columns]


def _candidate(row_id: str, values: Mapping[str, Any], file: LoadedFile, mapped: Mapped) -> Candidate:
    return Candidate(
        row_id=row_id,
        source=file.source.name,
        origin=mapped.origin or file.source.name,
        task_type=mapped.task_type,
        conversation_id=f"{file.name}#c{mapped.conversation}" if mapped.conversation else row_id,
        messages=mapped.messages,
        row=values,
    )


def _example(row_id: str, before: str, after: str) -> dict[str, str]:
    """The surroundings of the first difference, before and after."""
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, first - SHOWN // 4)
    shown = (text[start : start + SHOWN].encode("utf-8", "replace").decode() for text in (before, after))
    return dict(zip(("row_id", "before", "after"), (row_id, *shown), strict=True))


def _announcement(file: LoadedFile, read_as: Counter[str]) -> str:
    if file.fault:
        return f"{file.name}: not read: {file.fault}"
    layouts = ", ".join(f"{name}: {count:,} of {len(file.rows):,} rows" for name, count in sorted(read_as.items()))
    return (
        f"{file.name}: read as {layouts}" if layouts else f"{file.name}: none of {len(file.rows):,} rows could be read"
    )
