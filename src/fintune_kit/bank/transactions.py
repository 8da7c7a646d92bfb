"""Synthetic bank statements with labels: seeded, varied, of nobody.

    statements/
        statements.csv     account,date,description,amount,currency,category,merchant,split
        manifest.json      seed, counts by category and split, SHA-256

    account-000003,2023-05-14,SQ *BLUE BOTTLE 0514 OAKLAND CA,-6.50,USD,Food & Dining,BLUE BOTTLE,train

`split` belongs to the merchant: rows of `held_out` merchants are for evaluation, whoever made them. `categorize` turns
these rows (or a person's own labelled ones) into conversations.
"""

import csv
import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from fintune_kit.bank.synthetic.descriptors import Descriptors
from fintune_kit.bank.synthetic.habits import CURRENCIES, Payment, person_payments
from fintune_kit.bank.taxonomy import Taxonomy, load_taxonomy
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import read_manifest, replacing_folder, write_manifest

STATEMENTS = "statements.csv"
HEADER = "account,date,description,amount,currency,category,merchant,split"
"""First line of every statement that we write."""

_REFUND_WORDS = {
    "us": ("REFUND {}", "RETURN {}", "PURCHASE RETURN {}", "{} CREDIT"),
    "gb": ("REFUND {}", "{} REFUND", "CR {}"),
    "eu": ("GUTSCHRIFT {}", "REMBOURSEMENT {}", "ERSTATTUNG {}", "DEVOLUCION {}"),
    "in": ("REFUND/{}", "{} REV", "CR-{} REFUND"),
}
_PROGRESS_EVERY = 2_000


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
    """`train` or `held_out`; empty where the merchant is unknown."""


def generate_statements(*, count: int, seed: int, out: Path) -> dict[str, Any]:
    """Writes `count` labelled transactions of made-up people, the same bytes for the same count and seed.

    Args:
        count: rows in all; the last person's statement is cut to reach it.
        seed: of the people, their habits and the text.
        out: folder; an earlier output there is replaced, anything else is refused.

    Returns:
        The manifest: counts by category, split and currency.

    Raises:
        UserError: count or seed is out of range, or `out` holds files that are not ours.
    """
    if count < 1:
        raise UserError(f"--count is {count}, expected 1 or more: say how many transactions to write")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}, expected 0 to 2**32 - 1: choose another")
    tally: dict[str, Counter[str]] = {"category": Counter(), "split": Counter(), "currency": Counter()}
    accounts: set[str] = set()
    with replacing_folder(Path(out)) as folder:
        rows = _with_progress(synthetic_transactions(count=count, seed=seed), total=count)
        write_statement(folder / STATEMENTS, _tallied(rows, tally=tally, accounts=accounts))
        counts = {
            "transactions": count,
            "accounts": len(accounts),
            **{name: dict(sorted(counter.items())) for name, counter in tally.items()},
        }
        write_manifest(folder, stage="statements", inputs={}, counts=counts, seed=seed)
    return read_manifest(Path(out), stage="statements")


def synthetic_transactions(*, count: int, seed: int) -> Iterator[Transaction]:
    """`count` transactions, person after person, each in the order of its days."""
    taxonomy, writer = load_taxonomy(), Descriptors(seed=seed)
    number = written = 0
    while written < count:
        for row in _statement(number, seed=seed, taxonomy=taxonomy, writer=writer):
            yield row
            written += 1
            if written == count:
                return
        number += 1


def write_statement(path: Path, rows: Iterable[Transaction]) -> int:
    """Writes transactions as CSV (UTF-8, comma, amounts with a decimal point); returns how many."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER.split(","))
        for row in rows:
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
                )
            )
            written += 1
    return written


def save_statement(path: Path, rows: Iterable[Transaction], *, source: Path) -> int:
    """Writes a statement of its own (imported, anonymised) aside and renames it; returns how many rows.

    Raises:
        UserError: `path` is the file that was read, a folder, or a file that is not a statement of ours.
    """
    if path.is_dir() or (path.exists() and source.exists() and path.samefile(source)):
        raise UserError(f"--out {path} is a folder or the file that is read; name another file to write")
    if path.exists() and not path.read_bytes().startswith(HEADER.encode()):
        raise UserError(f"{path} is a file that is not ours to replace; name another with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    written = write_statement(partial, rows)
    partial.replace(path)
    return written


def read_statement(path: Path) -> list[Transaction]:
    """Reads what `write_statement` wrote: a generated folder or file, an imported or an anonymised statement.

    Raises:
        MissingInputError: there is no such file.
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
            if next(reader, None) != expected:
                raise UserError(
                    f"{file} does not start with the columns {', '.join(expected)}; turn a bank's own export into them "
                    "with `fintune-kit transactions import` first"
                )
            return [_row(values, file=file, line=reader.line_num, names=expected) for values in reader]
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


def as_record(row: Transaction) -> dict[str, str]:
    """Plain strings, for JSON and tables."""
    return {name: str(value) for name, value in asdict(row).items()}


def _statement(number: int, *, seed: int, taxonomy: Taxonomy, writer: Descriptors) -> Iterator[Transaction]:
    region, payments = person_payments(number, seed=seed, taxonomy=taxonomy)
    contacts = writer.contacts(region, 13)
    account, currency = f"account-{number:06d}", CURRENCIES[region]
    for payment in payments:
        day = datetime.date.fromordinal(payment.day)
        yield Transaction(
            account=account,
            date=day.isoformat(),
            description=_description(payment, region=region, day=day, contacts=contacts, writer=writer),
            amount=Decimal(payment.cents).scaleb(-2),
            currency=currency,
            category=payment.merchant.category,
            merchant=payment.merchant.name,
            split=payment.merchant.split,
        )


def _description(
    payment: Payment, *, region: str, day: datetime.date, contacts: list[tuple[str, str]], writer: Descriptors
) -> str:
    text = writer.line(
        payment.merchant,
        kind=payment.kind,
        region=payment.region,
        day=day,
        person=contacts[payment.contact],
        place=payment.place,
    )
    if not payment.refund:
        return text
    words = _REFUND_WORDS[region]
    return words[payment.day % len(words)].format(text)


def _tallied(
    rows: Iterable[Transaction], *, tally: dict[str, Counter[str]], accounts: set[str]
) -> Iterator[Transaction]:
    for row in rows:
        tally["category"][row.category] += 1
        tally["split"][row.split] += 1
        tally["currency"][row.currency] += 1
        accounts.add(row.account)
        yield row


def _with_progress(rows: Iterator[Transaction], *, total: int) -> Iterator[Transaction]:
    from tqdm import tqdm

    with tqdm(total=total, desc="transactions", unit="row", disable=total < _PROGRESS_EVERY) as bar:
        for number, row in enumerate(rows, start=1):
            yield row
            if number % _PROGRESS_EVERY == 0:
                bar.update(_PROGRESS_EVERY)
        bar.update(total % _PROGRESS_EVERY)


def _row(values: list[str], *, file: Path, line: int, names: list[str]) -> Transaction:
    try:
        record = dict(zip(names, values, strict=True))
        amount = Decimal(record.pop("amount"))
        datetime.date.fromisoformat(record["date"])
    except (ValueError, InvalidOperation):  # the row itself is private: it is named by its line alone
        raise UserError(
            f"line {line} of {file} is not {len(names)} values with an ISO date and a decimal amount; write it again"
        ) from None
    return Transaction(amount=amount, **record)
