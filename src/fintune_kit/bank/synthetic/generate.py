"""Writes labelled statements of made-up people: the same bytes for the same count and seed.

    statements/
        statements.csv     a line a transaction, as `bank.transactions` writes them
        manifest.json      the seed, counts by category, split and currency, SHA-256

    account-000003,2023-05-14,SQ *BLUE BOTTLE 0514 OAKLAND CA,-6.50,USD,Food & Dining,BLUE BOTTLE,train

`split` belongs to the merchant: the transactions of an `unseen` merchant are for evaluation only.
"""

import csv
import datetime
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from fintune_kit.bank.synthetic.descriptors import Descriptors
from fintune_kit.bank.synthetic.habits import CURRENCIES, Payment, person_payments
from fintune_kit.bank.taxonomy import Taxonomy, load_taxonomy
from fintune_kit.bank.transactions import STATEMENTS, Transaction, write_statement
from fintune_kit.errors import UserError
from fintune_kit.workspace import read_manifest, replacing_folder, write_manifest

_REFUND_WORDS = {
    "us": ("REFUND {}", "RETURN {}", "PURCHASE RETURN {}", "{} CREDIT"),
    "gb": ("REFUND {}", "{} REFUND", "CR {}"),
    "eu": ("GUTSCHRIFT {}", "REMBOURSEMENT {}", "ERSTATTUNG {}", "DEVOLUCION {}"),
    "in": ("REFUND/{}", "{} REV", "CR-{} REFUND"),
}
_PROGRESS_EVERY = 2_000


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


def write_bank_export(path: Path, *, count: int, seed: int) -> int:
    """Writes the first transactions of one made-up person as a bank exports them: no labels, and names in the text.

        Account statement
        Date,Details,Paid out,Paid in,Balance,Currency
        14/05/2023,SQ *BLUE BOTTLE 0514 OAKLAND CA,6.50,,993.50,USD

    Args:
        path: the CSV file to write.
        count: transactions at most; a person has some hundreds.
        seed: of the person.

    Returns:
        How many transactions were written.
    """
    taxonomy, writer = load_taxonomy(), Descriptors(seed=seed)
    rows = list(islice(_statement(0, seed=seed, taxonomy=taxonomy, writer=writer), count))
    balance = Decimal("1000.00")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(["Account statement"])
        lines.writerow(["Date", "Details", "Paid out", "Paid in", "Balance", "Currency"])
        for row in rows:
            balance += row.amount
            day = datetime.date.fromisoformat(row.date).strftime("%d/%m/%Y")
            out, into = ("", row.amount) if row.amount > 0 else (-row.amount, "")
            lines.writerow([day, row.description, out, into, balance, row.currency])
    return len(rows)


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
        cents=payment.cents,
        currency=CURRENCIES[region],
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
