"""Reads the statement that a bank or a budget tool exports, of any common format, into transactions.

    CSV (also Mint, YNAB, Firefly)   statement_csv.py        OFX, QFX, MT940, CAMT.052/053   statement_formats.py

Everything in the file is accounted for: lines = lines of transactions + lines set aside, each with its reason. A file
that cannot be understood ends in one sentence, and neither it nor any log quotes what the file holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.bank.statements.layouts import ROLES
from fintune_kit.bank.statements.named_fields import read_camt, read_mt940, read_ofx
from fintune_kit.bank.statements.tables import read_csv_statement
from fintune_kit.bank.statements.text import Statement, decoded, statement_kind
from fintune_kit.bank.statements.values import DateOrder
from fintune_kit.bank.transactions import HEADER, read_statement, save_statement
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import write_json

MAX_BYTES = 200_000_000
"""A statement is text of some megabytes; more is a mistake or an attack."""


def load_statement(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    date_order: DateOrder | None = None,
    encoding: str | None = None,
    currency: str = "",
    charges_positive: bool = False,
) -> Statement:
    """Reads a statement of any format.

    Args:
        path: the file.
        mapping: column by role (`date`, `description`, `payee`, `memo`, `amount`, `debit`, `credit`, `type`,
            `currency`, `category`, `account`), by name or by number from 1, where the layout is not known.
        date_order: where the file leaves open whether the day or the month comes first.
        encoding: of the text; None finds out (UTF-8, UTF-16, Windows-1252).
        currency: of amounts that name none.
        charges_positive: the file writes money out with a plus sign (some credit cards): signs are turned.

    Raises:
        MissingInputError: there is no such file.
        UserError: it is not a statement that can be read; the message says what to do.
    """
    path = Path(path)
    text = decoded(_bytes_of(path), path=path, encoding=encoding)
    if text.startswith(HEADER):
        return _own(path)
    kind = statement_kind(text, path=path)
    if kind == "csv":
        parsed = read_csv_statement(text, path=path, mapping=mapping or {}, date_order=date_order, currency=currency)
    else:
        reader = {"ofx": read_ofx, "mt940": read_mt940, "camt": read_camt}[kind]
        parsed = reader(text, path=path, currency=currency)
    if not parsed.rows:
        reasons = ", ".join(sorted({reason for _, _, reason in parsed.skipped})) or "nothing"
        raise UserError(
            f"{path} holds no transaction that can be read (format {parsed.format}, {parsed.total} {parsed.unit}: "
            f"{reasons}); expected dated amounts: check that it is the export of an account's transactions"
        )
    if charges_positive:
        return replace(parsed, rows=[replace(row, amount=-row.amount) for row in parsed.rows])
    return parsed


def import_statement(path: Path, *, out: Path, **reading: Any) -> dict[str, Any]:
    """Reads a statement of any format and writes it as CSV of ours, with a report of every line beside it.

    Args:
        path: the file.
        out: the CSV to write; the report goes beside it as `<name>.report.json`.
        **reading: what `load_statement` takes.

    Returns:
        The report (`Statement.accounting`).

    Raises:
        UserError: as `load_statement`; nothing is written then.
    """
    statement = load_statement(Path(path), **reading)
    save_statement(Path(out), statement.rows, source=Path(path))
    write_json(Path(out).with_suffix(".report.json"), statement.accounting)
    return statement.accounting


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """`["date=Buchungstag", "amount=5"]` as a mapping for `load_statement`.

    Raises:
        UserError: a pair is not ROLE=COLUMN.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not equals or not column or role not in ROLES:
            raise UserError(f"--map {pair!r} is not ROLE=COLUMN; expected a role of {', '.join(ROLES)}")
        mapping[role] = column
    return mapping


def _own(path: Path) -> Statement:
    rows = read_statement(path)
    return Statement(
        rows=rows,
        lines=list(range(2, len(rows) + 2)),
        format="fintune-kit",
        total=len(rows) + 1,
        unit="lines",
        skipped=[(1, 1, "header")],
    )


def _bytes_of(path: Path) -> bytes:
    if not path.is_file():
        raise MissingInputError(f"{path} is missing or not a file; expected a bank's export: check the path")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"{path} has {size:,} bytes, expected a statement of at most {MAX_BYTES:,}; export a shorter period"
        )
    return path.read_bytes()
