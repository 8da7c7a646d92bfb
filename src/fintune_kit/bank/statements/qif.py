"""Reads QIF, the format of Quicken: a letter and a value a line, `^` after each transaction.

!Type:Bank
D16/12'24          day or month first: the whole file decides, else we ask
T-21.62
PCoach Line
LAuto:Fuel         a category, or [another account]
^
"""

import re
from pathlib import Path

from fintune_kit.bank.statements.entries import Entry, add_entries
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.statements.tables import Reading
from fintune_kit.errors import UserError

_MONEY = ("bank", "cash", "ccard", "oth a", "oth l")
_NOT_TRANSACTIONS = {
    "invst": "a trade of securities",
    "cat": "list of categories",
    "class": "list of classes",
    "memorized": "memorized transaction",
}


def read_qif(text: str, *, path: Path, reading: Reading) -> Statement:
    """Transactions of the bank, cash and card sections of a QIF file; other sections are set aside by name.

    Raises:
        UserError: the file leaves open whether the day or the month comes first.
    """
    lines = text.splitlines()
    statement = Statement(format="QIF", unit="lines", total=len(lines))
    entries: list[Entry] = []
    section, account, first = "", "", 0
    fields: dict[str, str] = {}
    for number, line in enumerate([*lines, "^"], start=1):
        if line.startswith("!"):
            section = line[1:].strip().lower().removeprefix("type:").strip()
            statement.skip(number, "header")
        elif line.strip() == "^":
            if section == "account":
                account = fields.get("N", account)
                statement.skip(first, "header", last=min(number, len(lines)))
            elif fields and section in _MONEY:
                entries.append(_entry(fields, number=first, account=account))
            elif fields:
                statement.skip(first, _NOT_TRANSACTIONS.get(section, f"section {section[:20]}"), last=number)
            fields, first = {}, 0
        elif line.strip():
            first = first or number
            if line[0] not in "SE$%":  # the parts of a split: their sum is the transaction
                fields.setdefault(line[0], line[1:].strip())
        elif not fields:
            statement.skip(number, "blank")
    if not any(line.strip() == "^" for line in lines):
        raise UserError(f"{path} is not sound QIF: no transaction in it ends with ^; export it again, or as CSV")
    add_entries(statement, entries, path=path, reading=reading, iso_dates=False)
    return statement


def _entry(fields: dict[str, str], *, number: int, account: str) -> Entry:
    category = fields.get("L", "")
    return Entry(
        number=number,
        date=re.sub(r"\s+", "", fields.get("D", "")).replace("'", "/"),
        amount=fields.get("T", "") or fields.get("U", ""),
        description=" ".join(filter(None, (fields.get("P", ""), fields.get("M", "")))),
        account=account,
        category="" if category.startswith("[") else category.partition("/")[0],
    )
