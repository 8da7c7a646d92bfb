"""Synthetic bank statements with labels: seeded, varied, of nobody.

    statements/
        statements.csv     account,date,description,amount,currency,category,merchant,split
        manifest.json      seed, counts by category and split, SHA-256

    account-000003,2023-05-14,SQ *BLUE BOTTLE 0514 OAKLAND CA,-6.50,USD,Food & Dining,BLUE BOTTLE,train

`split` belongs to the merchant: rows of `unseen` merchants are for evaluation, whoever made them. `categorize` turns
these rows (or a person's own labelled ones) into conversations.
"""

import csv
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import repeat
from pathlib import Path

from fintune_kit.errors import MissingInputError, UserError

STATEMENTS = "statements.csv"
HEADER = "account,date,description,amount,currency,category,merchant,split"
"""First line of every statement that we write."""
NOT_SPENDING = ("Income", "Transfers", "Savings & Investments")
"""Categories of money that comes in, or that stays the person's own."""
DECIDED = ("suggestion", "confidence", "decided_by")
"""Columns after these in a statement that a model categorised; they are read past."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One line of a statement. Labels are empty where nobody gave one."""

    account: str
    date: str
    """ISO 8601."""
    description: str
    amount: Decimal
    """Signed: money out is negative."""
    currency: str
    category: str = ""
    merchant: str = ""
    """Who was paid, where that is known; rows are split by it."""
    split: str = ""
    """`train` or `unseen`; empty where the merchant is unknown."""


def write_statement(
    path: Path, rows: Iterable[Transaction], *, decided: Iterable[tuple[str, str, str]] | None = None
) -> int:
    """Writes transactions as CSV (UTF-8, comma, amounts with a decimal point); returns how many.

    Args:
        decided: the columns `DECIDED` of each transaction, where a model categorised them.
    """
    written = 0
    further: Iterable[tuple[str, ...]] = repeat(()) if decided is None else decided
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((*HEADER.split(","), *(() if decided is None else DECIDED)))
        for row, more in zip(rows, further, strict=decided is not None):
            writer.writerow(
                (
                    row.account,
                    row.date,
                    row.description,
                    str(row.amount),
                    row.currency,
                    row.category,
                    row.merchant,
                    row.split,
                    *more,
                )
            )
            written += 1
    return written


def save_statement(
    path: Path,
    rows: Iterable[Transaction],
    *,
    source: Path,
    decided: Iterable[tuple[str, str, str]] | None = None,
) -> int:
    """Writes a statement of its own (imported, anonymised, categorised) aside and renames it; returns how many rows.

    Raises:
        UserError: as `check_replaceable`.
    """
    check_replaceable(path, source=source)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    written = write_statement(partial, rows, decided=decided)
    partial.replace(path)
    return written


def check_replaceable(path: Path, *, source: Path) -> None:
    """Checks that a statement may be written.

    Raises:
        UserError: `path` is the file that is read, a folder, in no folder, or a file that is not a statement of ours.
    """
    if path.is_dir() or (path.exists() and source.exists() and path.samefile(source)):
        raise UserError(f"--out {path} is a folder or the file that is read; name another file to write")
    if parent := next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None):
        raise UserError(f"--out {path} lies in {parent}, which is a file; name a file in a folder")
    if path.exists() and not path.read_bytes().startswith(HEADER.encode()):
        raise UserError(f"{path} is a file that is not ours to replace; name another with --out")


def read_statement(path: Path) -> list[Transaction]:
    """Reads a statement of ours: a generated folder or file, an imported or an anonymised statement.

    Raises:
        MissingInputError: the file is missing.
        UserError: the file is not of this layout.
    """
    path = Path(path)
    file = path / STATEMENTS if path.is_dir() else path
    if not file.is_file():
        raise MissingInputError(
            f"{file} is missing; expected a statement written by `fintune-kit transactions generate`, `import` or "
            "`anonymise`: run one of them first"
        )
    expected = HEADER.split(",")
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            if (names := next(reader, [])) not in (expected, [*expected, *DECIDED]):
                raise UserError(
                    f"{file} does not start with the columns {', '.join(expected)}; turn a bank's own export into them "
                    "with `fintune-kit transactions import` first"
                )
            return [_row(values, file=file, line=reader.line_num, names=names) for values in reader]
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{file} is not a statement of ours in UTF-8; write it again") from None


def totals_by_category(
    rows: Iterable[Transaction], *, labels: Mapping[str, str] | None = None
) -> dict[str, dict[str, Decimal]]:
    """Sums per currency and category, computed from labels: a language model is never asked to add.

    Args:
        rows: transactions.
        labels: category by description, where a model's labels are to be added up instead of the rows' own.

    Returns:
        {"USD": {"Food & Dining": Decimal("-212.40"), ...}}; rows without a label are under "" .
    """
    totals: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        label = row.category if labels is None else labels.get(row.description, "")
        by_category = totals.setdefault(row.currency, {})
        by_category[label] = by_category.get(label, Decimal(0)) + row.amount
    return totals


def spending_by_month(rows: Iterable[Transaction]) -> dict[str, dict[str, dict[str, Decimal]]]:
    """Money spent per currency, category and month: money out less money back.

    Income, transfers and savings are not spending, so they are left out.

    Returns:
        {"USD": {"Food & Dining": {"2024-03": Decimal("212.40")}}}; transactions without a category are under "" .
    """
    spent: dict[str, dict[str, dict[str, Decimal]]] = {}
    for row in rows:
        if row.category in NOT_SPENDING:
            continue
        months = spent.setdefault(row.currency, {}).setdefault(row.category, {})
        months[row.date[:7]] = months.get(row.date[:7], Decimal(0)) - row.amount
    return spent


def _row(values: list[str], *, file: Path, line: int, names: list[str]) -> Transaction:
    try:
        record = dict(zip(names, values, strict=True))
        for name in DECIDED:
            record.pop(name, None)
        amount = Decimal(record.pop("amount"))
        datetime.date.fromisoformat(record["date"])
    except (ValueError, InvalidOperation):  # the row itself is private: it is named by its line alone
        raise UserError(
            f"line {line} of {file} is not {len(names)} values with an ISO date and a decimal amount; write it again"
        ) from None
    return Transaction(amount=amount, **record)
