"""Reads CAMT.052, CAMT.053 and CAMT.054, the XML statements of ISO 20022.

    Ntry  -429.56  BOOK
      TxDtls  329.56  Cdtr Drukkerij Vos      two payments of one entry: two transactions,
      TxDtls  100.00  Cdtr Bloemen Lente      and a third for the missing rest

The counterparty is the creditor of money out and the debtor of money in, and never the account itself. The tree is read
by `defusedxml`, which refuses entity bombs.
"""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from fintune_kit.bank.statements.entries import Entry, add_entries
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.statements.tables import Reading
from fintune_kit.errors import UserError

_AMOUNTS = ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/CntrValAmt/Amt", "AmtDtls/InstdAmt/Amt")
_NOT_MOVED = {"PDNG": "pending", "FUTR": "pending", "INFO": "for information only"}


def read_camt(texts: list[str], *, path: Path, reading: Reading) -> Statement:
    """Transactions of one or more CAMT documents; a batch becomes one transaction for each of its payments.

    Raises:
        UserError: a document is not sound XML.
    """
    statement = Statement(format="CAMT", unit="entries")
    entries: list[Entry] = []
    for text in texts:
        root = _root(text, path=path)
        for part in [element for element in root.iter() if element.tag in ("Stmt", "Rpt", "Ntfctn")]:
            account = _text(part, "Acct/Id/IBAN") or _text(part, "Acct/Id/Othr/Id")
            for entry in part.iter("Ntry"):
                statement.total += 1
                status = _text(entry, "Sts/Cd") or _text(entry, "Sts/Prtry") or _text(entry, "Sts")
                if status not in ("", "BOOK"):
                    statement.skip(statement.total, _NOT_MOVED.get(status, "not booked"))
                else:
                    entries += _entries(entry, account=account, number=statement.total)
    add_entries(statement, entries, path=path, reading=reading, iso_dates=True, trusted=True)
    return statement


def _entries(entry: Element, *, account: str, number: int) -> Iterator[Entry]:
    """One entry as its payments, where these have amounts of the entry's currency; else as a whole."""
    details = entry.findall("NtryDtls/TxDtls")
    whole, currency = _amount(entry, paths=("Amt",), currency="")
    parts = [(part, *_amount(part, paths=_AMOUNTS, currency=currency)) for part in details]
    known = [(part, amount) for part, amount, code in parts if amount is not None and code == currency]
    if len(details) < 2 or not known or whole is None:
        only = details[0] if len(details) == 1 else None
        yield _entry(entry, only, amount=_signed_text(entry, entry, whole), account=account, number=number)
        return
    sums = Decimal(0)
    for part, amount in known:
        text = _signed_text(entry, part, amount)
        sums += Decimal(text)
        yield _entry(entry, part, amount=text, account=account, number=number)
    if rest := Decimal(_signed_text(entry, entry, whole)) - sums:
        left = [part for part, _, _ in parts if part not in [other for other, _ in known]]
        only = left[0] if len(left) == 1 else None
        yield _entry(entry, only, amount=str(rest), account=account, number=number)


def _entry(entry: Element, part: Element | None, *, amount: str, account: str, number: int) -> Entry:
    element = entry.find("Amt")
    return Entry(
        number=number,
        date=_first(entry, "BookgDt/Dt", "BookgDt/DtTm", "ValDt/Dt", "ValDt/DtTm")[:10],
        amount=amount,
        description=_description(entry, part, account=account, money_in=not amount.startswith("-")),
        currency=element.get("Ccy", "") if element is not None else "",
        account=account,
        reference=_first(part, "Refs/AcctSvcrRef", "Refs/TxId") or _first(entry, "AcctSvcrRef", "NtryRef"),
    )


def _description(entry: Element, part: Element | None, *, account: str, money_in: bool) -> str:
    """Counterparty, its account and the remittance text; without these, the text of the bank."""
    words: list[str] = []
    if part is not None:
        words += _counterparty(part, account=account, money_in=money_in)
        words += [element.text or "" for element in part.findall("RmtInf/Ustrd")]
        words += [_text(part, "RmtInf/Strd/CdtrRefInf/Ref")]
        words += [element.text or "" for element in part.findall("RmtInf/Strd/AddtlRmtInf")]
    told = [" ".join(word.split()) for word in words if word.strip()]
    if not told:
        told = [_first(part, "AddtlTxInf"), _text(entry, "AddtlNtryInf")]
        told = [word for index, word in enumerate(told) if word and word not in told[:index]]
    return " ".join(told)


def _counterparty(part: Element, *, account: str, money_in: bool) -> list[str]:
    """Name and account of the other side. A return names the sides of the first payment: they are told by account."""
    sides = ("Dbtr", "Cdtr") if money_in else ("Cdtr", "Dbtr")
    accounts = {side: _text(part, f"RltdPties/{side}Acct/Id/IBAN") for side in sides}
    side = sides[1] if account and accounts[sides[0]] == account else sides[0]
    name = _first(
        part,
        f"RltdPties/{side}/Nm",
        f"RltdPties/{side}/Pty/Nm",
        f"RltdPties/Ultmt{side}/Nm",
        f"RltdPties/Ultmt{side}/Pty/Nm",
    )
    return [name, accounts[side] if accounts[side] != account else ""]


def _amount(element: Element, *, paths: tuple[str, ...], currency: str) -> tuple[Decimal | None, str]:
    """The first amount of the wanted currency at these paths, else the first that there is, with its currency."""
    found = [amount for path in paths if (amount := element.find(path)) is not None and (amount.text or "").strip()]
    chosen = next((amount for amount in found if amount.get("Ccy", currency) == currency), found[0] if found else None)
    if chosen is None:
        return None, currency
    try:
        return Decimal((chosen.text or "").strip().replace(",", ".")), chosen.get("Ccy", currency)
    except InvalidOperation:
        return None, chosen.get("Ccy", currency)


def _signed_text(entry: Element, part: Element, amount: Decimal | None) -> str:
    if amount is None or not amount.is_finite():
        return ""
    direction = _text(part, "CdtDbtInd") or _text(entry, "CdtDbtInd")
    return f"{-amount if direction == 'DBIT' else amount:f}"


def _root(text: str, *, path: Path) -> Element:
    """The document's tree, with tags free of their namespace."""
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

    try:
        root: Element = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):  # the parser's message may quote the file
        raise UserError(f"{path} is not sound CAMT; export it again, or as CSV") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    return root


def _first(element: Element | None, *paths: str) -> str:
    return next((text for path in paths if (text := _text(element, path))), "")


def _text(element: Element | None, path: str) -> str:
    found = element.find(path) if element is not None else None
    return (found.text or "").strip() if found is not None else ""
