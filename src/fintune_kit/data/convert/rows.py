"""Files of rows become one corpus of conversations, a batch of rows at a time.

The result of each file is announced in one sentence, with everything that was not used:

    orders.csv: read as Alpaca: 4,990 of 5,000 rows; not used: column 'id'; turn field 'reasoning_content'
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from fintune_kit.data.convert.batches import Batch, Converted, FileLayouts, RepairLog, batches_of, convert_batch
from fintune_kit.data.convert.hints import unmapped_columns_error
from fintune_kit.data.corpus import Corpus
from fintune_kit.data.read.sources import SourceFile
from fintune_kit.errors import UserError


def _one_after_another(batches: Iterable[Batch]) -> Iterable[Converted]:
    return map(convert_batch, batches)


@dataclass
class Converter:
    """Converts the rows of one file after another into one corpus, and counts what it met."""

    convert_all: Callable[[Iterable[Batch]], Iterable[Converted]] = _one_after_another
    """Converts batches, and gives the results in the same order."""
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
        found = Converted(FileLayouts())
        rows = tqdm(file.rows, desc=file.name, unit=" rows", leave=False, disable=None)
        for part in self.convert_all(batches_of(rows, file=file.name, source=file.source.name)):
            found.add(part)
        self.rows += found.rows
        self.corpus.extend(found.corpus)
        self.repairs.add(found.repairs)
        self.histories.update(found.histories)
        self.turn_changes.update(found.turn_changes)
        if found.layouts.rows_by_layout:
            self.sources_read.add(file.source.name)
        elif found.layouts.misfits:
            misfit = unmapped_columns_error(file.name, found.misfits, found.layouts.misfits.most_common(1)[0][0])
            self.misfits.setdefault(file.source.name, misfit)
            file.fault = str(misfit).removeprefix(f"{file.name}: ")
        self.files.append(_file_record(file, found))
        return _announcement(file, found)

    def check_layouts(self) -> None:
        """Raises UserError where a source has rows, and the columns of none of them fit exactly one layout."""
        for source, error in self.misfits.items():
            if source not in self.sources_read:
                raise error

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


def _file_record(file: SourceFile, found: Converted) -> dict[str, Any]:
    layouts = found.layouts
    notes = [
        f"{count} rows are {note}, the first at {found.first_with_note[note]}" for note, count in found.notes.items()
    ]
    return {
        "name": file.name,
        "rows": found.rows,
        "read_as": dict(sorted(layouts.rows_by_layout.items())),
        "unused_columns": dict(layouts.unused_columns),
        "unused_turn_fields": dict(layouts.unused_fields),
        "fault": file.fault,
        "notes": notes,
    }


def _announcement(file: SourceFile, found: Converted) -> str:
    if file.fault:
        return f"{file.name}: not read: {file.fault}"
    if not found.layouts.rows_by_layout:
        return f"{file.name}: none of {found.rows:,} rows could be read"
    counts = sorted(found.layouts.rows_by_layout.items())
    read_as = ", ".join(f"{name}: {count:,} of {found.rows:,} rows" for name, count in counts)
    unused = found.layouts.unused()
    return f"{file.name}: read as {read_as}" + (f"; not used: {unused}" if unused else "")
