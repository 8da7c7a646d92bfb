"""Joins several exports: a payment of the days that two exports of one account share is counted once.

    January-March.csv            March-April.csv
    03-30  BOOKS   -31.75        03-30  BOOKS   -31.75      the same payment: left out of the later file
    03-31  COFFEE   -3.00        03-31  COFFEE   -3.00      the same
    03-31  COFFEE   -3.00                                   kept: equal lines of one file are two payments
                                 04-02  RENT   -800.00      kept

The bank's own number of a payment decides where both files have one. Else day, amount and text must agree. Files that
do not name their account are of one account only if most transactions of their common days agree.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple

from fintune_kit.bank.statements.statement import Statement
from fintune_kit.bank.transactions import Transaction

_SAME_ACCOUNT = 0.5
"""Share of the transactions of common days that must agree in files that do not name their account."""
_NUMBERED_ANEW = 3
"""This many transactions agree in all but the bank's number, and no number agrees: the numbers belong to the export."""
_MAX_DAYS_APART = 7  # of one payment in two exports: banks move the day of booking, and some use a number again later
_LINES_REPORTED = 20


class _Line(NamedTuple):
    """A transaction with what tells it from others."""

    number: int
    """Among the transactions of its file, from 0."""
    transaction: Transaction
    reference: str


class _Found(NamedTuple):
    """Which lines of a later file an earlier one holds too."""

    numbers: set[int]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Lines of an earlier and of a later file that are compared."""

    earlier: Sequence[_Line]
    later: Sequence[_Line]
    by_account: bool
    """Whether all lines name their account."""

    def account(self, line: _Line) -> str:
        return line.transaction.account.casefold() if self.by_account else ""


def joined(statements: Sequence[Statement], *, names: Sequence[str]) -> tuple[list[Transaction], list[dict[str, Any]]]:
    """The transactions of several files, each payment once.

    Args:
        statements: in the order of the files.
        names: of the files, for the reports.

    Returns:
        The transactions in the order of the files, and `Statement.report` of each file with `left_out`: how many of
        its transactions earlier files hold too, in which lines, and the names of these files.
    """
    files = [
        [_Line(*parts) for parts in zip(range(len(s.lines)), s.transactions, _references(s), strict=True)]
        for s in statements
    ]
    transactions: list[Transaction] = []
    reports: list[dict[str, Any]] = []
    kept: list[list[_Line]] = []
    for statement, lines in zip(statements, files, strict=True):
        rest, holders, notes = lines, [], []
        for earlier in range(len(kept)):
            found = _also_in(rest, kept[earlier], whole=(files[earlier], lines), name=names[earlier])
            rest = [line for line in rest if line.number not in found.numbers]
            holders += [names[earlier]] if found.numbers else []
            notes += found.notes
        kept.append(rest)
        transactions += [line.transaction for line in rest]
        reports.append(_report(statement, rest, holders=holders, notes=notes))
    return transactions, reports


def _report(statement: Statement, rest: Sequence[_Line], *, holders: list[str], notes: list[str]) -> dict[str, Any]:
    kept = {line.number for line in rest}
    where = [line for index, line in enumerate(statement.lines) if index not in kept]
    report = statement.report
    left_out = {"transactions": len(where), "first": where[:_LINES_REPORTED], "files": holders}
    return {**report, "notes": [*report["notes"], *notes], "left_out": left_out}


def _references(statement: Statement) -> list[str]:
    """The bank's number of each payment; empty where it has none. `NONREF` and the like are no numbers."""
    return [text if any(map(str.isdigit, text)) else "" for text in statement.references]


def _also_in(
    later: Sequence[_Line], earlier: Sequence[_Line], *, whole: tuple[Sequence[_Line], Sequence[_Line]], name: str
) -> _Found:
    """Which of some lines of a later file an earlier file holds too.

    Args:
        later: the lines that no other file holds.
        earlier: the lines that the earlier file was the first to hold.
        whole: all lines of the earlier and of the later file, which tell whether the two are of one account.
        name: the earlier file's.
    """
    by_account = all(line.transaction.account for lines in whole for line in lines)
    both = _Pair(earlier=whole[0], later=whole[1], by_account=by_account)
    alike = _same_by(_text_key, both)
    numbered = _same_by(_reference_key, both)
    anew = not numbered and len(alike) >= _NUMBERED_ANEW and all(both.later[i].reference for i in alike)
    decide = not anew and any(line.reference for line in whole[0]) and any(line.reference for line in whole[1])
    found = _same(both, references_decide=decide)
    common = min(_lines_of_common_days(whole[0], whole[1]), _lines_of_common_days(whole[1], whole[0]))
    if not by_account and found and len(found) < _SAME_ACCOUNT * common:
        return _Found(set(), [_two_accounts(len(found), name=name)])
    notes = [_kept_by_number(len(alike - found), name=name)] if decide and alike - found else []
    notes += [_numbered_anew(len(alike), name=name)] if anew else []
    differing = len(_same_by(_amount_key, both)) - len(alike | found) if found else 0
    notes += [_other_texts(differing, name=name)] if differing > 0 else []
    rest = _Pair(earlier=earlier, later=later, by_account=by_account)
    return _Found(_same(rest, references_decide=decide), notes)


def _same(pair: _Pair, *, references_decide: bool) -> set[int]:
    """Numbers of the later lines that are payments of the earlier file, each of which is used once."""
    if not references_decide:
        return _same_by(_text_key, pair)
    unnumbered = replace(
        pair,
        earlier=[line for line in pair.earlier if not line.reference],
        later=[line for line in pair.later if not line.reference],
    )
    return _same_by(_reference_key, pair) | _same_by(_text_key, unnumbered)


def _same_by(key_of: Callable[[_Line], Hashable | None], pair: _Pair) -> set[int]:
    """Numbers of the later lines whose key an earlier line has too, with a day close to its own."""
    waiting: dict[Hashable, list[_Line]] = defaultdict(list)
    for line in pair.earlier:
        if (key := key_of(line)) is not None:
            waiting[pair.account(line), key].append(line)
    found: set[int] = set()
    for line in pair.later:
        candidates = waiting.get((pair.account(line), key_of(line)), [])
        partner = next((other for other in candidates if _days_apart(line, other) <= _MAX_DAYS_APART), None)
        if partner is not None:
            candidates.remove(partner)
            found.add(line.number)
    return found


def _text_key(line: _Line) -> Hashable:
    transaction = line.transaction
    text = " ".join(transaction.description.casefold().split())
    return transaction.date, transaction.amount, transaction.currency, text


def _amount_key(line: _Line) -> Hashable:
    return line.transaction.date, line.transaction.amount, line.transaction.currency


def _reference_key(line: _Line) -> Hashable | None:
    return (line.reference, line.transaction.amount, line.transaction.currency) if line.reference else None


def _days_apart(line: _Line, other: _Line) -> int:
    days = (date.fromisoformat(line.transaction.date) - date.fromisoformat(other.transaction.date)).days
    return abs(days)


def _lines_of_common_days(lines: Iterable[_Line], others: Sequence[_Line]) -> int:
    """How many lines stand within the first and the last day of the others."""
    days = [line.transaction.date for line in others]
    return sum(min(days) <= line.transaction.date <= max(days) for line in lines) if days else 0


def _agreeing(count: int, *, name: str, points: str = "day, amount and text") -> str:
    whole = "transaction agrees" if count == 1 else "transactions agree"
    return f"{count:,} {whole} with {'one' if count == 1 else 'some'} of {name} in {points}"


def _other_texts(count: int, *, name: str) -> str:
    told = _agreeing(count, name=name, points="day and amount")
    return f"{told}, and not in text: both are kept, so look whether they are one payment"


def _two_accounts(count: int, *, name: str) -> str:
    return (
        f"{_agreeing(count, name=name)}, and most of their common days do not: the files were taken as two accounts, "
        "and all transactions are kept"
    )


def _kept_by_number(count: int, *, name: str) -> str:
    have = "has" if count == 1 else "have"
    return f"{_agreeing(count, name=name)}, and {have} another reference of the bank: both are kept"


def _numbered_anew(count: int, *, name: str) -> str:
    return (
        f"{_agreeing(count, name=name)}, and no reference of the bank does: the bank numbers each export anew, so "
        "references decided nothing"
    )
