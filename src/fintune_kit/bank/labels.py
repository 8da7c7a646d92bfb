"""A person's categories for merchants: a CSV that `label` suggests, the person corrects, and other commands read.

    merchant,category,suggestion,confidence,lines,example
    blue bottle,Food & Dining,Food & Dining,0.97,14,SQ *BLUE BOTTLE [REF-90aa3f] OAKLAND CA
    huber,,Groceries,0.41,2,KARTENZAHLUNG HUBER KOELN

An empty category says nothing. Only the first two columns are read, so a file of two columns, written by hand, will do.
Categories are read through the taxonomy's aliases: `Coffee Shops` means `Food & Dining`.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fintune_kit.bank.merchants import MerchantLabels
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import write_text

COLUMNS = ("merchant", "category", "suggestion", "confidence", "lines", "example")
_LINES_NAMED = 5


class Suggestion(NamedTuple):
    """One merchant of a statement, with the model's suggestion."""

    merchant: str
    category: str
    """The category that counts: the suggestion where it is sure enough, else empty."""
    suggestion: str
    confidence: float
    lines: int
    """How many transactions are the merchant's."""
    example: str
    """One of their descriptions, anonymised."""


def check_is_new(path: Path) -> None:
    """Checks, before a model is loaded, that nothing of a person's is replaced.

    Raises:
        UserError: there is such a file already: it may hold corrections.
    """
    if parent := next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None):
        raise UserError(f"--out {path} lies in {parent}, which is a file; name a file in a folder")
    if path.exists():
        raise UserError(
            f"{path} exists and may hold somebody's corrections; name another file with --out, and give this one with "
            "--corrections if its categories should be kept"
        )


def write_suggestions(path: Path, suggestions: Sequence[Suggestion]) -> None:
    """Writes the file that a person corrects.

    Raises:
        UserError: as `check_is_new`.
    """
    check_is_new(path)
    lines = [",".join(COLUMNS)]
    for entry in suggestions:
        values = (*entry[:3], f"{entry.confidence:.3f}", str(entry.lines), entry.example)
        lines.append(",".join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in values))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


def read_labels(path: Path) -> MerchantLabels:
    """Reads the file that a person corrected; lines without a category are skipped.

    Raises:
        MissingInputError: the file is missing.
        UserError: the column `merchant` or `category` is missing, a category is not in the taxonomy, or a merchant has
            two categories. The error names the lines, and never quotes them.
    """
    if not path.is_file():
        raise MissingInputError(
            f"{path} is missing; expected a CSV with the columns merchant and category: `fintune-kit transactions "
            "label` writes one"
        )
    categories: dict[str, str] = {}
    unknown: list[int] = []
    twice: list[int] = []
    for line, merchant, label in _rows(path):
        category = load_taxonomy().category_of(label)
        if category is None:
            unknown.append(line)
        elif categories.setdefault(merchant, category) != category:
            twice.append(line)
    if unknown:
        raise UserError(
            f"{_named(unknown)} of {path}: a category is none of ours; expected one that `fintune-kit "
            "transactions taxonomy` lists, or one of its aliases"
        )
    if twice:
        raise UserError(f"{_named(twice)} of {path}: a merchant has a second category; expected one: keep one of them")
    return MerchantLabels(categories)


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """(line, merchant, label) of the lines that have both."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            delimiter = Counter(character for character in head if character in ",;\t").most_common(1)
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=delimiter[0][0] if delimiter else ",", restval="")
            if not {"merchant", "category"} <= set(reader.fieldnames or ()):
                raise UserError(f"{path} lacks the columns merchant and category; expected both in its first line")
            rows = [(reader.line_num, row["merchant"].strip(), row["category"].strip()) for row in reader]
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{path} is not CSV in UTF-8; expected the columns merchant and category: save it so") from None
    return [row for row in rows if row[1] and row[2]]


def _named(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - _LINES_NAMED} others" if len(lines) > _LINES_NAMED else ""
    return f"line {', '.join(map(str, lines[:_LINES_NAMED]))}{more}"
