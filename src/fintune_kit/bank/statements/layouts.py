"""Which column of a bank's CSV is which: by the names in `layouts.toml`, or by the `--map` of the user.

A layout that nobody knows ends in an error that shows the header, if the header holds no data, else the shape of its
columns (9 for a digit, a for a letter): a statement without a header starts with somebody's transaction.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fintune_kit.bank.statements.values import read_dates
from fintune_kit.errors import UserError

ROLES = ("date", "description", "payee", "memo", "amount", "debit", "credit", "type", "currency", "category", "account")
"""What a column can be."""

_HEADER_WITHIN = 60  # records before the header at most

Record = tuple[int, int, list[str]]
"""First line, last line and cells."""


def recognised_columns(records: Sequence[Record]) -> tuple[int, dict[str, int]] | None:
    """Where the header stands and the column of each role, if the names are known."""
    for number, (_, _, cells) in enumerate(records[:_HEADER_WITHIN]):
        columns = _columns_of(cells)
        has_amount = "amount" in columns or ("debit" in columns and "credit" in columns)
        if "date" in columns and has_amount and {"description", "payee", "memo"} & set(columns):
            return number, columns
    return None


def _columns_of(cells: Sequence[str]) -> dict[str, int]:
    """The column of each role whose name is known."""
    names = [folded(cell) for cell in cells]
    known = layouts()
    taken: set[int] = {index for index, name in enumerate(names) if name in known["ignored"]["names"]}
    columns: dict[str, int] = {}
    for loose in (False, True):
        for role in ROLES:
            if role in columns:
                continue
            for alias in known["columns"][role]:
                index = next((i for i, n in enumerate(names) if i not in taken and _is_called(n, alias, loose)), None)
                if index is not None:
                    columns[role] = index
                    taken.add(index)
                    break
    if "amount" in columns and "debit" in columns and "credit" in columns:
        del columns["amount"]
    return columns


def _is_called(name: str, alias: str, loose: bool) -> bool:
    return name == alias or (loose and re.fullmatch(rf"{alias} (?:in )?[a-z]{{3}}", name) is not None)


def mapped_columns(records: Sequence[Record], mapping: Mapping[str, str]) -> tuple[int, dict[str, int]] | None:
    """Where the header stands (-1: nowhere) and the columns that the user names, if the file has them."""
    if "date" not in mapping or not {"amount", "debit", "credit"} & set(mapping):
        raise UserError("--map needs at least date= and amount= (or debit= and credit=); name their columns too")
    by_number = {role: int(column) - 1 for role, column in mapping.items() if column.isdigit()}
    by_name = {role: folded(column) for role, column in mapping.items() if not column.isdigit()}
    for number, (_, _, cells) in enumerate(records[:_HEADER_WITHIN]):
        names = [folded(cell) for cell in cells]
        if by_name and all(name in names for name in by_name.values()):
            return number, by_number | {role: names.index(name) for role, name in by_name.items()}
    if by_name or not records:
        return None
    for number, (_, _, cells) in enumerate(records[:_HEADER_WITHIN]):
        value = cell_at(cells, by_number["date"])
        if read_dates([value], order="dmy")[0] or read_dates([value], order="mdy")[0]:
            return number - 1, by_number
    return None


def unknown_layout(records: Sequence[Record], *, path: Path, mapping: Mapping[str, str]) -> str:
    """The sentence for a file whose columns nobody knows."""
    width = usual_width(records)
    usual = [cells for _, _, cells in records[:_HEADER_WITHIN] if len(cells) == width]
    if width < 2 or not any(_is_data(cell) for cells in usual for cell in cells):
        return (
            f"{path} has no columns that can be told apart; expected a CSV with a date, a description and an amount: "
            "check the file"
        )
    names = usual[0]
    if any(_is_data(cell) for cell in names):
        shapes = " | ".join(f"{number}: {_shape(cell)}" for number, cell in enumerate(usual[0][:20], start=1))
        return (
            f"{path} has no header; its columns look like: {shapes} (9 a digit, a a letter); say what they are by "
            "number, as --map date=1 --map description=2 --map amount=3"
        )
    shown = ", ".join(cell.strip()[:40] for cell in names[:20] if cell.strip())
    problem = "does not have the columns that --map names" if mapping else "has columns of an unknown layout"
    return (
        f"{path} {problem}: found {shown}; expected a date, a description and an amount: say which they are, as "
        '--map date="..." --map description="..." --map amount="..."'
    )


def usual_width(records: Sequence[Record]) -> int:
    """Columns of most records."""
    widths = Counter(len(cells) for _, _, cells in records[:500] if any(cells))
    return max(widths, key=lambda width: (widths[width], width)) if widths else 0


def _is_data(cell: str) -> bool:
    return len(re.findall(r"\d", cell)) >= 3 or len(cell) > 60 or "@" in cell


def _shape(cell: str) -> str:
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", cell.strip()))[:24]


def folded(text: str) -> str:
    """A column's name in lower case, without accents and punctuation."""
    plain = text.casefold().replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ß", "ss")
    plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def cell_at(cells: Sequence[str], index: int) -> str:
    """A record's cell, empty where the record is too short."""
    return cells[index] if 0 <= index < len(cells) else ""


@cache
def layouts() -> dict[str, Any]:
    """The names and words of layouts.toml, folded."""
    raw = tomllib.loads(resources.files(__package__).joinpath("layouts.toml").read_text(encoding="utf-8"))
    return {
        "columns": {role: [folded(name) for name in raw["columns"][role]] for role in ROLES},
        "ignored": {"names": _all_folded(raw["ignored"]["names"])},
        "words": {name: _all_folded(words) for name, words in raw["words"].items()},
    }


def _all_folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(folded(name) for name in names)
