"""The record that every reader returns: a file's transactions, and a reason for each line that is not one.

    transactions   in the order of the file, each with the line that it stands in
    set_aside      lines that are not transactions, each with its reason: blank, header, total, pending ...
    columns        which column was read as what; unused: columns of text or amounts that no role took
    notes          decisions of the reader that a person may want to change: turned signs, an odd balance

Nothing in the record's report quotes a cell: it holds counts, line numbers and the names of columns.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fintune_kit.bank.transactions import Transaction

_LINES_SHOWN = 6
_LINES_REPORTED = 20


class SetAside(NamedTuple):
    """Lines that are not a transaction."""

    first: int
    last: int
    reason: str


@dataclass(slots=True, kw_only=True)
class Statement:
    """The content of a file: transactions, and the lines that are none, each with its reason."""

    format: str
    """CSV, Excel, OFX, MT940, CAMT, QIF."""
    unit: Literal["lines", "entries"]
    """The unit of `total` and of all numbers: lines (CSV, MT940, QIF, Excel) or entries (OFX, CAMT)."""
    total: int = 0
    """Lines or entries in the file."""
    transactions: list[Transaction] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Where each transaction stands in the file, from 1."""
    references: list[str] = field(default_factory=list)
    """The bank's own number of each transaction; empty where it has none."""
    set_aside: list[SetAside] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Names (or numbers) of the columns by role, where the file has columns."""
    unused: list[str] = field(default_factory=list)
    """Columns with text or amounts that were not used."""
    notes: list[str] = field(default_factory=list)
    """Decisions and doubts, each a sentence without any value of the file."""
    unknown_labels: list[int] = field(default_factory=list)
    """Lines whose own category means none of the taxonomy's: these transactions stay unlabelled."""

    def add(self, transaction: Transaction, *, line: int, reference: str = "") -> None:
        """Takes one transaction."""
        self.transactions.append(transaction)
        self.lines.append(line)
        self.references.append(reference)

    def skip(self, first: int, reason: str, *, last: int | None = None) -> None:
        """Sets lines aside, by name."""
        self.set_aside.append(SetAside(first, first if last is None else last, reason))

    def lines_by_reason(self) -> dict[str, tuple[int, list[int]]]:
        """How many lines each reason set aside, and where they begin."""
        counts: Counter[str] = Counter()
        where: dict[str, list[int]] = {}
        for first, last, reason in self.set_aside:
            counts[reason] += last - first + 1
            where.setdefault(reason, []).append(first)
        return {reason: (counts[reason], sorted(where[reason])) for reason in sorted(counts)}

    @property
    def report(self) -> dict[str, Any]:
        """Counts for the report file: transactions, and every line set aside by reason. No content."""
        reasons = self.lines_by_reason()
        return {
            "format": self.format,
            f"{self.unit}_in_file": self.total,
            f"{self.unit}_of_transactions": self.total - sum(count for count, _ in reasons.values()),
            "transactions": len(self.transactions),
            "money_in": sum(transaction.amount > 0 for transaction in self.transactions),
            "money_out": sum(transaction.amount < 0 for transaction in self.transactions),
            "labelled": sum(bool(transaction.category) for transaction in self.transactions),
            "unknown_labels": {"count": len(self.unknown_labels), "first": self.unknown_labels[:_LINES_REPORTED]},
            "set_aside": {
                reason: {self.unit: count, "first": where[:_LINES_REPORTED]}
                for reason, (count, where) in reasons.items()
            },
            "columns": dict(self.columns),
            "columns_not_used": list(self.unused),
            "notes": list(self.notes),
        }


def explain(report: Mapping[str, Any]) -> list[str]:
    """A statement's report in sentences for the terminal: the roles of columns, and the lines that were set aside."""
    unit = "lines" if "lines_in_file" in report else "entries"
    said = [
        f"{report['transactions']:,} transactions ({report['money_out']:,} out, {report['money_in']:,} in) from "
        f"{report[f'{unit}_in_file']:,} {unit} of {report['format']}"
    ]
    if report["columns"]:
        said.append("read as: " + ", ".join(f"{role} = {name}" for role, name in report["columns"].items()))
    if report["columns_not_used"]:
        said.append(f"columns of text or amounts that were not used: {', '.join(report['columns_not_used'])}")
    for reason, entry in report["set_aside"].items():
        said.append(f"set aside: {entry[unit]:,} {unit}, {reason} ({_numbers(entry['first'], unit=unit)})")
    if (left_out := report.get("left_out")) and left_out["transactions"]:
        holders = f"{' and '.join(left_out['files'])} {'holds' if len(left_out['files']) == 1 else 'hold'}"
        where = _numbers(left_out["first"], unit=unit)
        said.append(
            f"left out: {left_out['transactions']:,} transactions that {holders} too ({where}): each is counted once"
        )
    unknown = report["unknown_labels"]
    if unknown["count"]:
        said.append(
            f"{unknown['count']:,} labels mean no category of ours ({_numbers(unknown['first'], unit=unit)}): these "
            "transactions stay unlabelled; `fintune-kit transactions taxonomy` lists the categories and their aliases"
        )
    return [*said, *(f"note: {note}" for note in report["notes"])]


def _numbers(lines: Sequence[int], *, unit: str) -> str:
    word = unit.removesuffix("s") if unit == "lines" else "entry"
    shown = ", ".join(map(str, lines[:_LINES_SHOWN]))
    return f"{word if len(lines) == 1 else unit} {shown}{' ...' if len(lines) > _LINES_SHOWN else ''}"
