"""What kind of file a statement is, its text, and the record that every reader returns.

%PDF, a zip (xlsx), an old Excel file, a picture, a web page, nothing     refused, each with what to export instead
UTF-8, UTF-16, Windows-1252                                              told apart by their bytes
OFX, CAMT, MT940, CSV                                                    told apart by their first lines
"""

import codecs
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fintune_kit.bank.transactions import Transaction
from fintune_kit.errors import UserError

_BINARY = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "an Excel workbook or a zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"PAR1", "a Parquet file"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXPORT = "export the account's transactions as CSV, OFX, MT940 or CAMT from the bank's website"
_FOREIGN_SHARE = 0.2  # of letters beyond ASCII: more, read as Windows-1252, is another alphabet's encoding

Kind = Literal["csv", "ofx", "mt940", "camt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a file held."""

    rows: list[Transaction]
    lines: list[int]
    """Where each row stands in the file, from 1."""
    format: str
    total: int
    """Lines or entries in the file."""
    unit: Literal["lines", "entries"]
    """What `total` counts: lines (CSV, MT940) or entries (OFX, CAMT)."""
    skipped: list[tuple[int, int, str]]
    """First line, last line and reason of all that is not a transaction."""
    unmapped_categories: int = 0
    """Rows whose own category means none of the taxonomy's: they are left unlabelled."""

    @property
    def accounting(self) -> dict[str, Any]:
        """Counts for the report: the format, the transactions, and every line set aside by reason. No content."""
        reasons: Counter[str] = Counter()
        where: dict[str, list[int]] = {}
        for first, last, reason in self.skipped:
            reasons[reason] += last - first + 1
            where.setdefault(reason, []).append(first)
        return {
            "format": self.format,
            f"{self.unit}_in_file": self.total,
            f"{self.unit}_of_transactions": self.total - sum(reasons.values()),
            "transactions": len(self.rows),
            "money_in": sum(row.amount > 0 for row in self.rows),
            "money_out": sum(row.amount < 0 for row in self.rows),
            "labelled": sum(bool(row.category) for row in self.rows),
            "unmapped_categories": self.unmapped_categories,
            "set_aside": {
                reason: {self.unit: count, "first": where[reason][:20]} for reason, count in sorted(reasons.items())
            },
        }


def decoded(raw: bytes, *, path: Path, encoding: str | None = None) -> str:
    """The text of a statement.

    Raises:
        UserError: the file is empty, is no text, or its encoding cannot be told or is not the one named.
    """
    if not raw.strip():
        raise UserError(f"{path} is empty; expected a bank's export: {_EXPORT}")
    for start, what in _BINARY:
        if raw.startswith(start):
            raise UserError(f"{path} is {what}, expected a statement as text: {_EXPORT}")
    if encoding is None:
        encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), None) or _without_mark(raw, path=path)
    try:
        text = raw.decode(encoding)
    except LookupError:
        raise UserError(f"--encoding {encoding!r} is no encoding that Python knows; try utf-8 or cp1252") from None
    except UnicodeError:  # `from None`: the exception would carry the file's bytes
        raise UserError(
            f"{path} is not text in {encoding}; name its encoding with --encoding (cp1252, utf-8, utf-16, cp1250 ...)"
        ) from None
    if "\0" in text:
        raise UserError(f"{path} holds binary data, expected a statement as text: {_EXPORT}")
    return text.removeprefix("\ufeff")


def statement_kind(text: str, *, path: Path) -> Kind:
    """The format of a statement's text; CSV is what is left.

    Raises:
        UserError: it is a web page, JSON or QIF.
    """
    start = text[:8000].lstrip().casefold()
    if start.startswith(("<!doctype html", "<html")):
        raise UserError(f"{path} is a web page, expected a statement: {_EXPORT}")
    if start.startswith(("{", "[")) and '"' in start and not start.startswith("{1:"):
        raise UserError(f"{path} is JSON, expected a statement: {_EXPORT}")
    if start.startswith("!type:"):
        raise UserError(f"{path} is QIF, which says neither currency nor date order, expected CSV or OFX: {_EXPORT}")
    if "ofxheader" in start or "<ofx>" in start:
        return "ofx"
    if "camt.05" in start or "<bktocstmr" in start:
        return "camt"
    if re.search(r"^:20:", text[:8000], re.MULTILINE) and re.search(r"^:6[01]", text, re.MULTILINE):
        return "mt940"
    return "csv"


def _without_mark(raw: bytes, *, path: Path) -> str:
    sample = raw[:4000]
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
        if zeros.count(0) > 0.3 * max(1, len(zeros)):
            return encoding
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8"
    letters = [character for character in raw.decode("cp1252", errors="replace") if character.isalpha()]
    beyond = sum(not character.isascii() for character in letters)
    unread = raw.decode("cp1252", errors="replace").count("\ufffd")
    if unread or beyond > _FOREIGN_SHARE * max(1, len(letters)):
        raise UserError(
            f"the encoding of {path} cannot be told: it is neither UTF-8 nor plausible Windows-1252; name it with "
            "--encoding (cp1251, cp1250, shift_jis, gb18030 ...)"
        )
    return "cp1252"
