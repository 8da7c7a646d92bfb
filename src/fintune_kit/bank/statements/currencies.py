"""Which currency a mark means that several countries write: ¥, $, kr, Rs, £ and others.

    金额(元)  ¥25.00            the name of the column names yuan: CNY
    Amount | Currency           the column of currencies names Hong Kong dollars: HKD
    $3.00  | HKD
    Amount  ¥25.50              a yen has no decimals: CNY
    Amount  $3.00               nothing says it: USD, the most frequent one, and a note tells so

`values.toml` lists the currencies of each such mark.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fintune_kit.bank.statements.values import WrittenAmount, currencies_of_mark, decimals_of, named_currencies

_KANA = ("\u3040", "\u30ff")
_HAN = ("\u4e00", "\u9fff")


class Meaning(NamedTuple):
    """What a mark stands for in one file."""

    code: str
    """ISO code; empty where nothing decides it and no currency is the usual one."""
    is_told: bool
    """Whether the file, or the user, decides it."""


def marks_in(told: Iterable[str]) -> dict[str, str]:
    """The meaning of each shared mark that can be only one of the currencies that a file tells.

    `{"$": "CAD", ...}` for a file that tells CAD and EUR.
    """
    codes = set(told)
    narrowed = {mark: codes & set(currencies) for mark, currencies in currencies_of_mark().items()}
    return {mark: left.pop() for mark, left in narrowed.items() if len(left) == 1}


def meaning_of_mark(
    mark: str, *, amounts: Iterable[WrittenAmount], named: Sequence[Iterable[str]], texts: Iterable[str]
) -> Meaning:
    """The currency that a shared mark stands for in one file.

    Args:
        mark: as it stands beside the amounts.
        amounts: those that carry it.
        named: groups of cells that may name the currency, the most telling group first.
        texts: any text of the file: its letters tell Japanese from Chinese.
    """
    usual, *others = currencies_of_mark()[mark]
    possible = {usual, *others} - {""}
    for cells in named:
        told = possible & {code for cell in cells for code in named_currencies(cell)}
        if len(told) == 1:
            return Meaning(told.pop(), True)
        possible = told or possible
    if any(_has_decimals(amount) for amount in amounts):
        possible = {code for code in possible if decimals_of(code) != 0}
    if {"JPY", "CNY"} <= possible:
        possible -= _ruled_out_by_letters(texts)
    if len(possible) == 1:
        return Meaning(possible.pop(), True)
    return Meaning(usual if usual in possible else "", False)


def _has_decimals(amount: WrittenAmount) -> bool:
    """Whether one or two digits stand after the last comma or point, and not only zeros."""
    last = max(amount.digits.rfind(","), amount.digits.rfind("."))
    decimals = amount.digits[last + 1 :] if last >= 0 else ""
    return len(decimals) in (1, 2) and bool(decimals.strip("0"))


def _ruled_out_by_letters(texts: Iterable[str]) -> set[str]:
    """Kana are Japanese; Chinese characters without any kana are Chinese."""
    letters = "".join(texts)
    if any(_KANA[0] <= letter <= _KANA[1] for letter in letters):
        return {"CNY"}
    return {"JPY"} if any(_HAN[0] <= letter <= _HAN[1] for letter in letters) else set()
