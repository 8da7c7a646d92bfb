"""Whether the money of each transaction went in or out. This is decided once for a file, never row by row.

    marks beside the amounts     1,499.00 | 50.90 Cr       only exceptions are marked: the rest went out
    a column of directions       14.51 Debit               whatever the sign
    two columns                  debit 4.20 | credit -     with a sign of their own or without
    the signs as written         -4.20                     unless they are a card's: purchases +, payments -
    the running balance          100.00 -> 95.80           if nothing else tells the direction

A note tells the user of a decision that may be wrong. It holds no value of the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from fintune_kit.bank.statements.columns import flows_of, folded, word_list
from fintune_kit.bank.statements.values import WrittenAmount

TURN = "--charges-positive turns all signs"
KEEP = "--no-charges-positive keeps them as written"
_MOSTLY = 0.9


@dataclass(frozen=True, slots=True)
class Directions:
    """The sign of each amount: 1 in, -1 out, 0 without an amount, None where it cannot be told."""

    signs: list[int | None]
    notes: list[str] = field(default_factory=list)


def two_column_amounts(debit: Sequence[Decimal | None], credit: Sequence[Decimal | None]) -> list[Decimal | None]:
    """Signed amounts from a debit and a credit column; None where both are empty.

    A column whose amounts are mostly negative writes the sign of what it means, in both columns alike: `-4.20` in the
    debit column is money out. A few minus signs among plus signs are reversals: they turn the direction.
    """
    out, into = (_with_majority(column, sign=sign) for column, sign in ((debit, -1), (credit, 1)))
    return [
        None if left is None and right is None else (left or Decimal(0)) + (right or Decimal(0))
        for left, right in zip(out, into, strict=True)
    ]


def resolve(
    written: Sequence[WrittenAmount | None],
    *,
    sizes: Sequence[Decimal | None],
    kinds: Sequence[str] | None,
    texts: Sequence[str],
    balances: Sequence[Decimal | None] | None,
    charges_positive: bool | None,
    trusted: bool = False,
) -> Directions:
    """The direction of each amount of one column.

    Args:
        written: the amounts as they stand; None where a record has none.
        sizes: the same without their signs.
        kinds: a column that may say debit or credit.
        texts: descriptions.
        balances: the running balance after each transaction.
        charges_positive: the user says that money out is written with a plus sign (True) or is not (False); None
            finds out.
        trusted: the format says what a sign means, so the words of the descriptions are not asked.
    """
    signs: list[int | None] = [0 if amount is None else -1 if amount.negative else 1 for amount in written]
    if any(amount and amount.mark for amount in written):
        return Directions(_by_marks(written))
    flows = flows_of(kinds) if kinds is not None else []
    if -1 not in signs and (exceptions := _marked_exceptions(kinds or [], flows)):
        return Directions([sign if not sign else flow or -exceptions for flow, sign in zip(flows, signs, strict=True)])
    if _decides(flows, signs):
        return _by_kinds(flows, signs, charges_positive=charges_positive)
    if charges_positive is not None:
        return Directions([-sign if sign and charges_positive else sign for sign in signs])
    if -1 not in signs and balances is not None and (told := _by_balance(sizes, balances)):
        return Directions(told, ["the direction of each amount was taken from the running balance"])
    return Directions(signs) if trusted else _by_signs(signs, texts)


def balance_note(amounts: Sequence[Decimal | None], balances: Sequence[Decimal | None]) -> str:
    """How far the running balance agrees with the amounts, as a note; empty where it agrees, and without a balance."""
    agree = [_agreeing(pairs, balances) for pairs in _orders(amounts)]
    checked = len([balance for balance in balances if balance is not None]) - 1
    if checked < 2 or max(agree) >= _MOSTLY * checked or max(agree) == 0:
        return ""
    return f"the running balance agrees with {max(agree)} of {checked} amounts only"


def _with_majority(column: Sequence[Decimal | None], *, sign: int) -> list[Decimal | None]:
    negative = sum(value < 0 for value in column if value)
    positive = sum(value > 0 for value in column if value)
    turned = -sign if negative > positive else sign
    return [None if value is None else turned * value for value in column]


def _by_marks(written: Sequence[WrittenAmount | None]) -> list[int | None]:
    """A mark decides; where only exceptions are marked, an amount without mark and sign goes the other way."""
    marks = {amount.mark for amount in written if amount and amount.mark}
    bare_negative = any(amount.negative for amount in written if amount and not amount.mark)
    signs: list[int | None] = []
    for amount in written:
        if amount is None:
            signs.append(0)
        elif amount.mark:
            signs.append(-1 if amount.mark == "out" else 1)
        elif bare_negative or len(marks) > 1:
            signs.append(-1 if amount.negative else 1)
        else:
            signs.append(-1 if marks == {"in"} else 1)
    return signs


def _marked_exceptions(kinds: Sequence[str], flows: Sequence[int]) -> int:
    """The direction that a column marks where it marks only the exceptions and leaves the rest empty; else 0."""
    marked = {flow for kind, flow in zip(kinds, flows, strict=True) if kind.strip()}
    some_empty = any(not kind.strip() for kind in kinds)
    return marked.pop() if some_empty and len(marked) == 1 else 0


def _decides(flows: Sequence[int], signs: Sequence[int | None]) -> bool:
    with_amount = [flow for flow, sign in zip(flows, signs, strict=False) if sign]  # no flows: no such column
    return bool(with_amount) and sum(flow != 0 for flow in with_amount) >= _MOSTLY * len(with_amount)


def _by_kinds(flows: Sequence[int], signs: Sequence[int | None], *, charges_positive: bool | None) -> Directions:
    """A column of directions signs amounts that carry no sign, and tells whether signs that they carry are turned."""
    if -1 not in signs:
        return Directions(
            [None if sign and not flow else flow if sign else 0 for flow, sign in zip(flows, signs, strict=True)]
        )
    if charges_positive is not None:
        return Directions([-sign if sign and charges_positive else sign for sign in signs])
    pairs = [(flow, sign) for flow, sign in zip(flows, signs, strict=True) if flow and sign]
    against = sum(flow != sign for flow, sign in pairs)
    if against >= 0.8 * len(pairs):
        return Directions(
            [-sign if sign else sign for sign in signs],
            [f"the signs were turned: money out is written with a plus sign; {KEEP}"],
        )
    if against > 0.2 * len(pairs):
        return Directions(
            list(signs), [f"{against} of {len(pairs)} signs contradict the column that says debit or credit"]
        )
    return Directions(list(signs))


def _by_signs(signs: Sequence[int | None], texts: Sequence[str]) -> Directions:
    """Signs as written, turned where they are a card's; with a warning where they look wrong."""
    plus = [f" {folded(text)} " for text, sign in zip(texts, signs, strict=True) if sign == 1]
    minus = [f" {folded(text)} " for text, sign in zip(texts, signs, strict=True) if sign == -1]
    paid = sum(_says(text, "text_in") for text in minus)
    earned = sum(_says(text, "text_in") or _says(text, "text_earned") for text in plus)
    spent = sum(_says(text, "text_out") for text in minus)
    if minus and len(plus) > len(minus) and paid >= 0.8 * len(minus) and not earned and not spent:
        return Directions(
            [-sign if sign else sign for sign in signs],
            [f"the signs were turned: payments to the card are written with a minus sign; {KEEP}"],
        )
    notes = []
    wrong = sum(_says(text, "text_out") for text in plus)
    if wrong and wrong > sum(_says(text, "text_out") for text in minus):
        notes.append(f"{wrong} amounts are money in although their text speaks of a payment out; {TURN}")
    elif len(plus) >= _MOSTLY * (len(plus) + len(minus)) and plus:
        notes.append(f"{len(plus)} of {len(plus) + len(minus)} amounts are money in; if these are purchases, {TURN}")
    return Directions(list(signs), notes)


def _says(text: str, words: str) -> bool:
    return any(f" {phrase} " in text for phrase in word_list("flow_words", words))


def _by_balance(sizes: Sequence[Decimal | None], balances: Sequence[Decimal | None]) -> list[int | None] | None:
    """Signs for amounts without sign, where the balance moves by exactly the amount; None where it does not."""
    count = sum(size is not None for size in sizes)
    for newest_first in (False, True):
        signs: list[int | None] = [0 if size is None else None for size in sizes]
        steps = list(enumerate(pairwise(balances)))
        for index, (left, right) in steps:
            at = index if newest_first else index + 1
            size = sizes[at]
            moved = None if left is None or right is None else (left - right if newest_first else right - left)
            if size and moved is not None and abs(moved) == size:
                signs[at] = 1 if moved > 0 else -1
        told = sum(sign in (1, -1) for sign in signs)
        if count >= 4 and told >= count - 1:  # the first record's own step is not in the file
            return signs
    return None


def _orders(amounts: Sequence[Decimal | None]) -> list[list[tuple[int, Decimal]]]:
    """Index of a balance's step and its amount, for files that run forwards and backwards."""
    present = [(index, amount) for index, amount in enumerate(amounts) if amount is not None]
    return [[(index - 1, amount) for index, amount in present], list(present)]


def _agreeing(steps: Sequence[tuple[int, Decimal]], balances: Sequence[Decimal | None]) -> int:
    agree = 0
    for index, amount in steps:
        if 0 <= index < len(balances) - 1:
            left, right = balances[index], balances[index + 1]
            agree += left is not None and right is not None and amount in (right - left, left - right)
    return agree
