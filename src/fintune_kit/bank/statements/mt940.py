"""Reads MT940, the SWIFT statement, and sets aside what MT942 messages in the same file announce.

    :20:STARTUMS   :60F: ... :61:240304D30,00  :86:105?00Basislastschrift?20SVWZ+Beitrag?32Ruderverein   :62F:
    :20:STARTDISPE :34F: ... :61:240306D11,90  :86:005?00Vorgemerkt                                     pending

The messages go through `mt-940` (its loggers muted: they quote lines). First an `:86:` that speaks of the whole
statement is set aside, and the field marks of Polish and other banks are written as the German ones.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.transactions import Transaction
from fintune_kit.errors import UserError

_TAG = re.compile(r"^:(\d\d[A-Z]?|NS):")
_BALANCES = ("60", "62", "64", "65", "90", "34")
_FIELD_MARK = re.compile(r"^(:86:\s*\d{3})([~^<>@|])(?=\d\d)")
_SLASH_FIELD = re.compile(
    r"/(TRTP|TRCD|IBAN|BIC|NAME|REMI|EREF|CNTP|MARF|MREF|CSID|CREF|KREF|PREF|ORDP|BENM|ULTD|ULTB|ADDR|ID|ISDT|INIT|"
    r"RTRN|PURP|SVCL|IREF|PREF|RREF|EXCH|CHGS|CHGS1|OCMT|COAM)/"
)


@dataclass(slots=True)
class _Line:
    number: int
    text: str
    tag: str = ""
    """Of its own; empty in a continuation."""
    reason: str = ""
    """Why it is not part of a transaction; empty where it is."""


def read_mt940(text: str, *, path: Path, currency: str) -> Statement:
    """Transactions of an MT940 file, with every line of it accounted for.

    Raises:
        UserError: the file is not sound MT940.
    """
    lines = _lines(text)
    statement = Statement(format="MT940", unit="lines", total=len(lines))
    starts = [line.number for line in lines if line.tag == "61" and not line.reason]
    for line in lines:
        if line.reason:
            statement.skip(line.number, line.reason)
    kept = [line for line in lines if line.reason not in ("pending", "text of the whole statement")]
    parsed = _parsed("\n".join(_with_german_marks(kept)))
    if parsed is None or len(parsed) != len(starts):
        raise UserError(f"{path} is not sound MT940 (its :61: lines do not read); export it again, or as CSV or CAMT")
    for number, (data, account) in zip(starts, parsed, strict=True):
        transaction = Transaction(
            account=account,
            date=str(data["date"])[:10],
            description=_description(data),
            amount=Decimal(str(data["amount"].amount)),
            currency=str(data["amount"].currency or currency or "")[:3],
        )
        statement.add(transaction, line=number, reference=str(data.get("bank_reference") or ""))
    return statement


def _lines(text: str) -> list[_Line]:
    """The lines of all messages, each with its tag, and a reason where it is not part of a transaction."""
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    for message in _messages(lines):
        tags = {match.group(1) for line in message if (match := _TAG.match(line.text))}
        announced = not any(tag.startswith("60") for tag in tags) and any(tag[:2] in ("13", "34") for tag in tags)
        inside, reason = False, "header"
        for line in message:
            match = _TAG.match(line.text)
            line.tag = match.group(1) if match else ""
            if line.tag == "61":
                inside, reason = True, ""
            elif line.tag and line.tag not in ("86", "NS"):
                inside, reason = False, "balance" if line.tag[:2] in _BALANCES else "header"
            elif line.tag == "86" and not inside:
                reason = "text of the whole statement"
            line.reason = _outside_messages(line) or ("pending" if announced and inside else reason)
    return lines


def _messages(lines: list[_Line]) -> Iterator[list[_Line]]:
    """The lines of each message: one begins with :20: or with its envelope."""
    message: list[_Line] = []
    for line in lines:
        if line.text.startswith((":20:", "{1:")) and any(_TAG.match(other.text) for other in message):
            yield message
            message = []
        message.append(line)
    yield message


def _outside_messages(line: _Line) -> str:
    if not line.text.strip():
        return "blank"
    return "envelope" if line.text.startswith(("{", "-}", "-")) and not line.tag else ""


def _with_german_marks(lines: list[_Line]) -> Iterator[str]:
    """The lines with `?20` for the fields that Polish and other banks begin with another sign."""
    mark = ""
    for line in lines:
        text = line.text
        if line.tag:
            match = _FIELD_MARK.match(text)
            mark = match.group(2) if match else ""
        yield re.sub(rf"{re.escape(mark)}(?=\d\d)", "?", text) if mark else text


def _parsed(text: str) -> list[tuple[dict, str]] | None:
    """The data of each transaction, with its account; None where the library cannot read the text."""
    import mt940

    try:
        with _muted("mt940"):
            return [
                (entry.data, str(statement.data.get("account_identification") or ""))
                for statement in mt940.parse_statements(io.StringIO(text), options=mt940.Options.all())
                for entry in statement
                if entry.data.get("amount") is not None
            ]
    except (ValueError, RuntimeError, KeyError, TypeError, ArithmeticError, AttributeError, IndexError):
        return None  # the library's exception quotes the line: it is left behind here


def _description(data: dict) -> str:
    """Counterparty and purpose, or the whole text if it has no fields."""
    details = " ".join(str(data.get("transaction_details") or "").split())
    if not data.get("purpose") and (fields := _slash_fields(details)):
        return fields
    keys = ("applicant_name", "purpose" if data.get("purpose") else "transaction_details", "extra_details")
    return " ".join(" ".join(str(data[key]) for key in keys if data.get(key)).split())


def _slash_fields(text: str) -> str:
    """Name and remittance of a text with fields as `/NAME/.../REMI/.../`; empty where it has none."""
    pieces = _SLASH_FIELD.split(text)
    if len(pieces) < 3:
        return ""
    fields = dict(zip(pieces[1::2], pieces[2::2], strict=False))
    name = fields.get("NAME") or fields.get("BENM") or fields.get("ORDP") or ""
    if not name and "CNTP" in fields:  # account/BIC/name/city
        name = [*fields["CNTP"].split("/"), "", "", ""][2]
    told = re.sub(r"^(?:USTD|STRD)/+(?:CUR/)?", "", fields.get("REMI", "").strip("/"))
    words = [name.strip("/ "), told.strip("/ ")]
    return " ".join(filter(None, words)) or " ".join(piece.strip("/ ") for piece in pieces[2::2] if piece.strip("/ "))


@contextmanager
def _muted(name: str) -> Iterator[None]:
    """Silences a library's loggers: they would write lines of the statement."""
    loggers = [
        logger
        for key, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and (key == name or key.startswith(f"{name}."))
    ]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
