"""Reads the statement that a bank or a budget tool exports, of any common format, into transactions.

    CSV (banks, cards, PayPal, Wise, Mint, YNAB, Firefly)   tables.py     OFX, QFX   ofx.py      MT940   mt940.py
    Excel, OpenDocument                                     tables.py     CAMT       camt.py     QIF     qif.py
    a zip of CAMT files, or of one file of another format

Everything in a file is accounted for: its lines are lines of transactions, or set aside, each with its reason. A file
that cannot be understood ends in one sentence. Neither this sentence nor any log quotes a cell of the file.
"""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.bank.statements.camt import read_camt
from fintune_kit.bank.statements.columns import ROLES
from fintune_kit.bank.statements.mt940 import read_mt940
from fintune_kit.bank.statements.ofx import read_ofx
from fintune_kit.bank.statements.overlap import joined
from fintune_kit.bank.statements.qif import read_qif
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.statements.tables import Reading, read_csv, read_workbook
from fintune_kit.bank.statements.text import decoded, statement_kind
from fintune_kit.bank.statements.values import DateOrder, DecimalMark
from fintune_kit.bank.transactions import HEADER, check_replaceable, read_statement, save_statement
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import read_limit, write_json

MAX_BYTES = 200_000_000
"""A statement is text of some megabytes; more is a mistake or an attack."""
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


def load_statement(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    date_order: DateOrder | None = None,
    decimal: DecimalMark | None = None,
    encoding: str | None = None,
    currency: str = "",
    charges_positive: bool | None = None,
) -> Statement:
    """Reads a statement of any format.

    Args:
        path: the file.
        mapping: column by role (a name of `columns.ROLES`), by name or by number from 1, where the layout is not known.
        date_order: where the file leaves open whether the day or the month comes first.
        decimal: `,` or `.`, where the file leaves open what `1.000` means.
        encoding: of the text; None finds out.
        currency: of amounts that name none.
        charges_positive: the file writes money out with a plus sign (some cards) where nothing but the sign says the
            direction; False: it does not; None finds out, and a note says what was found.

    Raises:
        MissingInputError: the file is missing.
        UserError: it is not a statement that can be read; the message says what to do.
    """
    path = Path(path)
    if currency and not re.fullmatch(r"[A-Za-z]{3}", currency):
        raise UserError(f"--currency is {currency!r}, expected three letters such as EUR")
    reading = Reading(
        mapping=mapping or {},
        date_order=date_order,
        decimal=decimal,
        currency=currency,
        charges_positive=charges_positive,
    )
    statement = _read(_bytes_of(path), path=path, reading=reading, encoding=encoding)
    if not statement.transactions:
        reasons = ", ".join(statement.lines_by_reason()) or "nothing"
        raise UserError(
            f"{path} holds no transaction that can be read (format {statement.format}, {statement.total} "
            f"{statement.unit}: {reasons}); expected dated amounts: check that it is the export of an account's "
            "transactions"
        )
    return statement


def import_statements(files: Sequence[Path], *, out: Path, **reading: Any) -> list[dict[str, Any]]:
    """Reads statements of any formats, and writes them as one CSV of ours in which each payment stands once.

    Args:
        files: of any formats, in any order.
        out: the CSV to write; the report goes beside it as `<name>.report.json`.
        **reading: as of `load_statement`.

    Returns:
        The report of each file, as of `overlap.joined`.

    Raises:
        UserError: as `load_statement`; nothing is written then.
    """
    for file in files:
        check_replaceable(Path(out), source=Path(file))
    statements = [load_statement(Path(file), **reading) for file in files]
    transactions, reports = joined(statements, names=[Path(file).name for file in files])
    save_statement(Path(out), transactions, source=Path(files[0]))
    report = reports[0] if len(files) == 1 else {"transactions": len(transactions), "files": reports}
    write_json(Path(out).with_suffix(".report.json"), report)
    return reports


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


def _read(raw: bytes, *, path: Path, reading: Reading, encoding: str | None) -> Statement:
    if raw.startswith(_OLD_EXCEL):
        return _read_book(raw, path=path, reading=reading, encoding=encoding)
    if raw.startswith(_ZIP):
        return _read_zip(raw, path=path, reading=reading, encoding=encoding)
    text = decoded(raw, path=path, encoding=encoding)
    if text.startswith(HEADER):
        return _own(path)
    kind = statement_kind(text, path=path)
    if kind == "csv":
        return read_csv(text, path=path, reading=reading)
    if reading.mapping:
        raise UserError(f"{path} is {kind.upper()}, which names its fields itself; leave --map out")
    if kind == "mt940":
        return _turned(read_mt940(text, path=path, currency=reading.currency), reading=reading)
    if kind == "camt":
        return read_camt([text], path=path, reading=reading)
    return {"ofx": read_ofx, "qif": read_qif}[kind](text, path=path, reading=reading)


def _read_zip(raw: bytes, *, path: Path, reading: Reading, encoding: str | None) -> Statement:
    """A workbook is a zip; some banks send a zip of CAMT files."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = [item for item in archive.infolist() if not item.is_dir() and "__MACOSX" not in item.filename]
            _check_unpacked_size(archive, path=path)
            if any(item.filename in ("xl/workbook.xml", "xl/workbook.bin", "content.xml") for item in names):
                return _read_book(raw, path=path, reading=reading, encoding=encoding)
            members = [archive.read(item) for item in sorted(names, key=lambda item: item.filename)]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zipfile.zlib.error):  # type: ignore[attr-defined]
        raise UserError(f"{path} is a zip file that cannot be unpacked; unpack it yourself and name the file") from None
    if len(members) == 1:
        return _read(members[0], path=path, reading=reading, encoding=encoding)
    texts = [decoded(member, path=path, encoding=encoding) for member in members]
    if not texts or any(statement_kind(text, path=path) != "camt" for text in texts):
        raise UserError(
            f"{path} is a zip of {len(members)} files, expected CAMT files or one statement; unpack it and import one "
            "file at a time"
        )
    return read_camt(texts, path=path, reading=reading)


def _check_unpacked_size(archive: zipfile.ZipFile, *, path: Path) -> None:
    """Unpacks everything once, without keeping it. An archive can say less than it unpacks to.

    Raises:
        UserError: it is more than a statement may have.
    """
    allowed, found = int(MAX_BYTES * read_limit()), 0
    for item in archive.infolist():
        claimed, item.file_size = item.file_size, 1 << 62  # `open` stops at what the archive claims
        with archive.open(item) as member:
            while block := member.read(1 << 20):
                found += len(block)
                if found > allowed:
                    raise UserError(
                        f"{path} unpacks to more than {allowed:,} bytes, expected a statement: check the file, and if "
                        f"it is right, set FINTUNE_READ_LIMIT=10 to allow ten times as much"
                    )
        item.file_size = claimed


def _read_book(raw: bytes, *, path: Path, reading: Reading, encoding: str | None) -> Statement:
    if encoding:
        raise UserError(f"{path} is a workbook, which says its encoding itself; leave --encoding out")
    return read_workbook(raw, path=path, reading=reading)


def _turned(statement: Statement, *, reading: Reading) -> Statement:
    if reading.charges_positive:
        statement.transactions = [replace(t, amount=-t.amount) for t in statement.transactions]
    return statement


def _own(path: Path) -> Statement:
    transactions = read_statement(path)
    statement = Statement(format="fintune-kit", unit="lines", total=len(transactions) + 1)
    statement.skip(1, "header")
    for line, transaction in enumerate(transactions, start=2):
        statement.add(transaction, line=line)
    return statement


def _bytes_of(path: Path) -> bytes:
    if not path.is_file():
        raise MissingInputError(f"{path} is missing or not a file; expected a bank's export: check the path")
    size = path.stat().st_size
    if size > MAX_BYTES * read_limit():
        raise UserError(
            f"{path} has {size:,} bytes, expected a statement of at most {int(MAX_BYTES * read_limit()):,}; export a "
            f"shorter period, or set FINTUNE_READ_LIMIT=10 to allow ten times as much"
        )
    return path.read_bytes()
