"""Reads the formats that name their fields: OFX and QFX, MT940, CAMT.052 and CAMT.053.

MT940 goes through `mt-940` (its loggers muted: they quote lines). OFX and CAMT are trees of XML and are read with
`defusedxml`, which refuses entity bombs; OFX 1 is SGML whose leaves are never closed, and is closed first. No library
would do: ofxtools is GPL and puts the whole file in its errors, ofxparse has not changed since 2021.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from html import escape, unescape
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from fintune_kit.bank.statements.text import Statement
from fintune_kit.bank.statements.values import read_amounts, read_dates
from fintune_kit.bank.transactions import Transaction
from fintune_kit.errors import UserError

_SGML_TAG = re.compile(r"<(/?)([A-Z0-9._]+)>([^<]*)", re.IGNORECASE)


def read_ofx(text: str, *, path: Path, currency: str) -> Statement:
    """Transactions of an OFX or QFX file: bank and card statements.

    Raises:
        UserError: the file is not sound OFX.
    """
    root = _xml(_closed_leaves(text[_start_of(text, "<OFX>", path=path) :]), path=path, what="OFX")
    rows: list[Transaction] = []
    lines: list[int] = []
    skipped: list[tuple[int, int, str]] = []
    number = 0
    for statement in [element for element in root.iter() if element.tag in ("STMTRS", "CCSTMTRS")]:
        account = _text(statement, ".//ACCTID")
        own_currency = _text(statement, "CURDEF") or currency
        for entry in statement.iter("STMTTRN"):
            number += 1
            words = " ".join(filter(None, (_text(entry, ".//NAME"), _text(entry, "MEMO"))))
            row = _row(
                date=_text(entry, "DTPOSTED")[:8],
                amount=_text(entry, "TRNAMT"),
                description=words,
                currency=_text(entry, "CURRENCY/CURSYM") or own_currency,
                account=account,
            )
            _keep(row, number, rows=rows, lines=lines, skipped=skipped)
    return Statement(rows=rows, lines=lines, format="OFX", total=number, unit="entries", skipped=skipped)


def read_camt(text: str, *, path: Path, currency: str) -> Statement:
    """Entries of a CAMT.052 or CAMT.053 file (ISO 20022); a batch entry becomes one row for each of its payments.

    Raises:
        UserError: the file is not sound XML.
    """
    root = _xml(text, path=path, what="CAMT")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    rows: list[Transaction] = []
    lines: list[int] = []
    skipped: list[tuple[int, int, str]] = []
    number = 0
    for statement in [element for element in root.iter() if element.tag in ("Stmt", "Rpt", "Ntfctn")]:
        account = _text(statement, "Acct/Id/IBAN") or _text(statement, "Acct/Id/Othr/Id")
        for entry in statement.iter("Ntry"):
            number += 1
            status = _text(entry, "Sts/Cd") or _text(entry, "Sts")
            if status not in ("", "BOOK"):
                skipped.append((number, number, "not booked yet"))
                continue
            details = entry.findall("NtryDtls/TxDtls")
            batch = (
                details
                if len(details) > 1 and all(_text(d, "Amt") or _text(d, "AmtDtls/TxAmt/Amt") for d in details)
                else []
            )
            for part in batch or [entry]:
                _keep(
                    _camt_row(entry, part, account=account, currency=currency),
                    number,
                    rows=rows,
                    lines=lines,
                    skipped=skipped,
                )
    return Statement(rows=rows, lines=lines, format="CAMT", total=number, unit="entries", skipped=skipped)


def read_mt940(text: str, *, path: Path, currency: str) -> Statement:
    """Transactions of an MT940 file, with every line of it accounted for.

    Raises:
        UserError: the file is not sound MT940.
    """
    import mt940

    rows: list[Transaction] = []
    lines: list[int] = []
    owners = _mt940_owners(text)
    starts = [number for number, (tag, _) in enumerate(owners, start=1) if tag == "61"]
    failed = False
    try:
        with _muted("mt940"):
            entries = [
                (entry.data, statement.data.get("account_identification"))
                for statement in mt940.parse_statements(io.StringIO(text), options=mt940.Options.all())
                for entry in statement
                if entry.data.get("amount") is not None
            ]
    except (ValueError, RuntimeError, KeyError, TypeError, ArithmeticError, AttributeError, IndexError):
        failed = True  # the library's exception quotes the line: it is left behind here
    if failed or len(entries) != len(starts):
        raise UserError(f"{path} is not sound MT940 (its :61: lines do not read); export it again, or as CSV or CAMT")
    skipped = [(number, number, reason) for number, (_, reason) in enumerate(owners, start=1) if reason]
    for line, (data, account) in zip(starts, entries, strict=True):
        words = " ".join(
            str(data[key])
            for key in ("applicant_name", "purpose", "transaction_details", "extra_details")
            if data.get(key) and (key != "transaction_details" or not data.get("purpose"))
        )
        rows.append(
            Transaction(
                account=str(account or ""),
                date=str(data["date"])[:10],
                description=" ".join(words.split()),
                amount=Decimal(str(data["amount"].amount)),
                currency=str(data["amount"].currency or currency or "")[:3],
            )
        )
        lines.append(line)
    return Statement(rows=rows, lines=lines, format="MT940", total=len(owners), unit="lines", skipped=skipped)


def _mt940_owners(text: str) -> list[tuple[str, str]]:
    """For each line the tag of its own (empty in a continuation) and why it is no transaction (empty: it is one)."""
    owners: list[tuple[str, str]] = []
    reason = "header"
    for line in text.splitlines():
        match = re.match(r":(\d\d[A-Z]?|NS):", line)
        tag = match.group(1) if match else ""
        if tag == "61":
            reason = ""
        elif tag and tag not in ("86", "NS"):
            reason = "balance" if tag[:2] in ("60", "62", "64", "65", "90") else "header"
        elif not line.strip():
            owners.append(("", "blank"))
            continue
        elif line.startswith(("{", "-}", "-")) and not tag:
            owners.append(("", "envelope"))
            continue
        owners.append((tag, reason))
    return owners


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


def _camt_row(entry: Element, part: Element, *, account: str, currency: str) -> Transaction | None:
    amount = next((e for path in ("Amt", "AmtDtls/TxAmt/Amt") if (e := part.find(path)) is not None), None)
    is_debit = (_text(part, "CdtDbtInd") or _text(entry, "CdtDbtInd")) == "DBIT"
    details = part if part.tag == "TxDtls" else entry.find("NtryDtls/TxDtls")
    other = "Cdtr" if is_debit else "Dbtr"
    words: list[str] = []
    if details is not None:
        words += [_text(details, f"RltdPties/{other}/Nm") or _text(details, f"RltdPties/{other}/Pty/Nm")]
        words += [_text(details, f"RltdPties/{other}Acct/Id/IBAN")]
        words += [e.text or "" for e in details.findall("RmtInf/Ustrd")]
        words += [_text(details, "RmtInf/Strd/CdtrRefInf/Ref")]
    words += [] if any(words) else [_text(entry, "AddtlNtryInf") or _text(details, "AddtlTxInf")]
    return _row(
        date=(_text(entry, "BookgDt/Dt") or _text(entry, "BookgDt/DtTm") or _text(entry, "ValDt/Dt"))[:10],
        amount=("-" if is_debit else "") + ((amount.text or "") if amount is not None else ""),
        description=" ".join(filter(None, words)),
        currency=(amount.get("Ccy", "") if amount is not None else "") or currency,
        account=account,
    )


def _row(*, date: str, amount: str, description: str, currency: str, account: str) -> Transaction | None:
    day = read_dates([date], order="ymd")[0]
    try:  # OFX and CAMT write a decimal point; some banks write a comma all the same
        value: Decimal | None = Decimal(amount)
    except InvalidOperation:
        value = read_amounts([amount])[0]
    if day is None or value is None or not value.is_finite():
        return None
    return Transaction(
        account=account,
        date=day,
        description=" ".join(description.split()),
        amount=value,
        currency=currency[:3].upper(),
    )


def _keep(
    row: Transaction | None,
    number: int,
    *,
    rows: list[Transaction],
    lines: list[int],
    skipped: list[tuple[int, int, str]],
) -> None:
    if row is None:
        skipped.append((number, number, "no readable date or amount"))
    else:
        rows.append(row)
        lines.append(number)


def _start_of(text: str, tag: str, *, path: Path) -> int:
    position = text.upper().find(tag)
    if position < 0:
        raise UserError(f"{path} has an OFX header and no {tag} element; export it again")
    return position


def _closed_leaves(body: str) -> str:
    """OFX 1 as XML: a tag with text after it is a leaf, closed or not; text is escaped anew."""
    out: list[str] = []
    for closing, tag, rest in _SGML_TAG.findall(body):
        value = rest.strip()
        if closing and out and out[-1].endswith(f"</{tag.upper()}>") and out[-1].startswith(f"<{tag.upper()}>"):
            continue  # the leaf was closed with its text
        out.append(
            f"<{tag.upper()}>{escape(unescape(value))}</{tag.upper()}>" if value else f"<{closing}{tag.upper()}>"
        )
    return "".join(out)


def _xml(text: str, *, path: Path, what: str) -> Element:
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

    try:
        root: Element = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):  # the parser's message may quote the file
        raise UserError(f"{path} is not sound {what}; export it again, or as CSV") from None
    return root


def _text(element: Element | None, path: str) -> str:
    found = element.find(path) if element is not None else None
    return (found.text or "").strip() if found is not None else ""
