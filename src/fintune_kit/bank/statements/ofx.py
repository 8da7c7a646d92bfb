"""Reads OFX and QFX, version 1 (SGML) and 2 (XML): bank, card, loan and the cash of investment accounts.

    <STMTTRN><TRNTYPE>DEBIT<DTPOSTED>20240304<TRNAMT>-12.80<NAME>CAFE<MEMO></STMTTRN>

In SGML an element that holds text is never closed, and neither is one that holds nothing, so the end of an element is
where its parent ends. One parser reads both versions. It knows no entities but those of HTML and never reads a
document type, so that nothing in a file can expand. No library would do: ofxtools is GPL and puts the whole file in its
errors, ofxparse has not changed since 2021.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

from fintune_kit.bank.statements.entries import Entry, add_entries
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.statements.tables import Reading
from fintune_kit.errors import UserError

_TOKEN = re.compile(r"<!\[CDATA\[(.*?)\]\]>|<!--.*?-->|<\?.*?\?>|<(/?)([A-Za-z0-9._:]+)([^<>]*?)(/?)>", re.DOTALL)
_BREAK = re.compile(r"<br\s*/?>|&lt;br\s*/?&gt;", re.IGNORECASE)
_PENDING = ("STMTTRNP", "CCSTMTTRNP")
_TRADES = re.compile(r"^(?:BUY|SELL|REINVEST|INCOME|INVEXPENSE|TRANSFER|JRNL|MARGIN|RETOFCAP|SPLIT|CLOSURE)")


@dataclass(slots=True)
class _Element:
    tag: str
    text: str = ""
    children: list["_Element"] = field(default_factory=list)

    def all(self) -> Iterator["_Element"]:
        for child in self.children:
            yield child
            yield from child.all()

    def value(self, *path: str) -> str:
        """Text of the first element at a path of tags below this one, at any depth for its first tag."""
        for element in self.all():
            if element.tag == path[0]:
                return element.text if len(path) == 1 else element.value(*path[1:])
        return ""


def read_ofx(text: str, *, path: Path, reading: Reading) -> Statement:
    """Transactions of an OFX or QFX file.

    Raises:
        UserError: the file is not sound OFX, or is cut short.
    """
    start = text.upper().find("<OFX")
    if start < 0:
        raise UserError(f"{path} has an OFX header and no <OFX> element; export it again")
    root = _tree(_BREAK.sub(" ", text[start:]), path=path)
    statement = Statement(format="OFX", unit="entries")
    entries: list[Entry] = []
    for account in [element for element in root.all() if re.fullmatch(r"\w*STMTRS", element.tag)]:
        for element in account.all():
            if element.tag == "STMTTRN":
                statement.total += 1
                entries.append(_entry(element, account, number=statement.total))
            elif element.tag in _PENDING:
                statement.total += 1
                statement.skip(statement.total, "pending")
            elif _TRADES.match(element.tag) and element.children:
                statement.total += 1
                statement.skip(statement.total, "a trade of securities")
    add_entries(statement, entries, path=path, reading=reading, iso_dates=True, trusted=True)
    return statement


def _entry(element: _Element, account: _Element, *, number: int) -> Entry:
    words = [element.value("PAYEE", "NAME") or element.value("NAME"), element.value("EXTDNAME"), element.value("MEMO")]
    parts = [word for index, word in enumerate(words) if word and word not in words[:index]]
    return Entry(
        number=number,
        date=element.value("DTPOSTED")[:8] or element.value("DTUSER")[:8],
        amount=element.value("TRNAMT"),
        description=" ".join(parts),
        currency=element.value("CURRENCY", "CURSYM") or account.value("CURDEF"),
        account=account.value("ACCTID"),
        reference=element.value("FITID"),
        kind=kind if (kind := element.value("TRNTYPE").upper()) in ("DEBIT", "CREDIT") else "",
    )


def _tree(body: str, *, path: Path) -> _Element:
    """The elements of a body. An element still open where its parent closes held nothing, or only text."""
    root = _Element("")
    open_elements = [root]
    end = 0
    for token in _TOKEN.finditer(body):
        _add_text(open_elements[-1], body[end : token.start()])
        end = token.end()
        closes, tag, empty = token.group(2), (token.group(3) or "").upper(), token.group(5)
        if token.group(1) is not None:
            open_elements[-1].text += token.group(1)
        elif not tag:
            continue
        elif closes:
            _close(open_elements, tag)
        else:
            if open_elements[-1].text:  # a leaf with text is over where the next element begins
                open_elements.pop()
            element = _Element(tag)
            open_elements[-1].children.append(element)
            open_elements += [] if empty else [element]
    still_open = [element.tag for element in open_elements[1:] if element.children]
    if still_open or not root.children:
        raise UserError(
            f"{path} is not sound OFX: it ends before <{still_open[-1] if still_open else 'OFX'}> is closed; "
            "export it again, or as CSV"
        )
    return root


def _add_text(element: _Element, text: str) -> None:
    if text.strip() and element.tag:
        element.text = (element.text + unescape(text)).strip()


def _close(open_elements: list[_Element], tag: str) -> None:
    """Closes an element and all that is open in it. Children of a leaf that was never closed are its siblings."""
    if tag not in [element.tag for element in open_elements]:
        return
    while open_elements[-1].tag != tag:
        leaf = open_elements.pop()
        open_elements[-1].children += leaf.children
        leaf.children = []
    open_elements.pop()
