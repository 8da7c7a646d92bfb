"""Anonymises a statement: identifiers and names become typed placeholders, merchants stay.

    ZELLE TO IRMA OYELARAN CONF# A7K2P9Q     ->   ZELLE TO [NAME-5be01c] CONF# [REF-90aa3f]
    SQ *BLUE BOTTLE 0423 OAKLAND CA          ->   SQ *BLUE BOTTLE [REF-1c44d0] OAKLAND CA

A placeholder is a keyed hash (HMAC-SHA256) of its kind and value: the same person is the same placeholder throughout a
run. Without the key, which is never written, nobody can try all card numbers against it. The lines to be written are
scanned once more by cruder rules; where these find something, nothing is written. No error and no report quotes a line.

Merchants, their towns, amounts and dates stay (the last two unless they are jittered). Who knows somebody may still
recognise them by these.
"""

import hashlib
import hmac
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fintune_kit.bank.privacy.identifiers import Span, dates_and_amounts, find_identifiers, plain_characters
from fintune_kit.bank.privacy.jitter import jitter_amounts, jitter_dates
from fintune_kit.bank.privacy.name_words import fold
from fintune_kit.bank.privacy.names import find_names, repeated_names
from fintune_kit.bank.privacy.scan import SEARCHED, Doubt, find_doubts
from fintune_kit.bank.statements.load import load_statement
from fintune_kit.bank.statements.overlap import joined
from fintune_kit.bank.statements.statement import explain as explain_statement
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction, save_statement
from fintune_kit.errors import UserError
from fintune_kit.workspace import write_json

_DIGITS = 6  # hexadecimal digits of a placeholder; more where two values of a run would share it
_MIN_KEY = 16
_SCANS = 3  # of a line whose doubts are replaced: a placeholder can bring two halves of another doubt apart
_LINES_NAMED = 5
_LONGEST = 2_000  # characters of a description: no bank writes more, and the patterns need not be tried on it


class Anonymiser:
    """Replaces what identifies somebody by placeholders that are the same for the same value; holds one run's key."""

    def __init__(
        self, *, key: bytes | None = None, names: Sequence[str] = (), also: Sequence[str] = (), keep: Sequence[str] = ()
    ) -> None:
        """Prepares a run.

        Args:
            key: secret of the placeholders, 16 bytes or more; None draws one that is forgotten with this object.
            names: people whose name is replaced wherever and however it is written: the account holder's, above all.
            also: further texts to replace.
            keep: words of merchants that must stay.

        Raises:
            UserError: the key is too short to keep card numbers from being tried against it.
        """
        if key is not None and len(key) < _MIN_KEY:
            raise UserError(
                f"the key has {len(key)} bytes, expected {_MIN_KEY} or more: a short one can be guessed; write "
                "`openssl rand -hex 32` to a file and name that, or leave the key out"
            )
        self.key = key or secrets.token_bytes(32)
        self.replaced: Counter[str] = Counter()
        self._keep = tuple(keep)
        self._always = [("OTHER", re.compile(re.escape(text), re.IGNORECASE)) for text in also if text.strip()]
        self._always += [("NAME", _name_pattern(name)) for name in names if name.strip()]
        self._always += [("NAME", pattern) for name in names for pattern in _word_patterns(name)]
        self._issued: dict[str, tuple[str, str]] = {}

    def placeholder(self, kind: str, value: str) -> str:
        """`[KIND-hash]` for a value, the same for the same value however it is spaced or capitalised."""
        plain = fold(plain_characters(value))
        if kind == "NAME":
            canonical = " ".join(sorted(re.findall(r"[^\W\d_]{2,}", plain)))
        else:
            canonical = "".join(character for character in plain if character.isalnum()) or plain
        digest = hmac.new(self.key, f"{kind}\0{canonical}".encode(), hashlib.sha256).hexdigest()
        for length in range(_DIGITS, len(digest) + 1):
            issued = f"[{kind}-{digest[:length]}]"
            if self._issued.setdefault(issued, (kind, canonical)) == (kind, canonical):
                return issued
        raise AssertionError("two values with one SHA-256")

    def lines(self, texts: Sequence[str], *, hide_dates: bool = False, hide_amounts: bool = False) -> list[str]:
        """The texts with placeholders. Names that one line gives away are replaced in all.

        Args:
            texts: descriptions of one statement, in order.
            hide_dates: replace dates and times in the text too (the statement's own are jittered).
            hide_amounts: replace amounts in the text too.
        """
        spans = [self.spans(text) for text in texts]
        people = [
            text[span.start : span.end]
            for text, line in zip(texts, spans, strict=True)
            for span in line
            if span.kind == "NAME"
        ]
        repeats = repeated_names(texts, people=people)
        out: list[str] = []
        for text, found, again in zip(texts, spans, repeats, strict=True):
            found = _joined(found, [Span(start, end, "NAME") for start, end in again])
            kinds = [kind for kind, hidden in (("DATE", hide_dates), ("AMOUNT", hide_amounts)) if hidden]
            found = _joined(found, [span for span in dates_and_amounts(text) if span.kind in kinds])
            out.append(self._replaced(text, found))
        return out

    def field(self, kind: str, value: str) -> str:
        """A whole field, as an account's name, as one placeholder; empty stays empty."""
        if not value:
            return ""
        self.replaced[kind] += 1
        return self.placeholder(kind, value)

    def residue(self, text: str) -> str | None:
        """The kind of identifier that a line still seems to hold; None where it seems to hold none."""
        doubt = next(self._doubts(text), None)
        return doubt.what if doubt else None

    def without_doubts(self, text: str) -> str:
        """The line with a placeholder for each doubt of the scan."""
        for _ in range(_SCANS):
            spans: list[Span] = []
            for doubt in self._doubts(text):
                spans = _joined(spans, [Span(doubt.start, doubt.end, "OTHER")])
            if not spans:
                return text
            text = self._replaced(text, spans)
        return text if self.residue(text) is None else self.field("OTHER", text)

    def _doubts(self, text: str) -> Iterator[Doubt]:
        wanted = [pattern for _, pattern in self._always]
        return find_doubts(text, is_ours=self._issued.__contains__, wanted=wanted, keep=self._keep)

    def spans(self, text: str) -> list[Span]:
        """The parts of a line that identify somebody, by this line alone."""
        if len(text) > _LONGEST:
            return [Span(0, len(text), "OTHER")]
        spans: list[Span] = []
        for kind, pattern in self._always:
            spans = _joined(spans, [Span(*match.span(), kind) for match in pattern.finditer(text)])
        found, blanked = find_identifiers(text, keep=self._keep)
        spans = _joined(spans, found)
        has_account = any(span.kind in ("IBAN", "UPI") for span in spans)
        names = find_names(blanked, keep=self._keep, has_account=has_account)
        return _joined(spans, [Span(start, end, "NAME") for start, end in names])

    def _replaced(self, text: str, spans: Iterable[Span]) -> str:
        pieces, position = [], 0
        for span in sorted(spans):
            self.replaced[span.kind] += 1
            pieces += [text[position : span.start], self.placeholder(span.kind, text[span.start : span.end])]
            position = span.end
        return "".join([*pieces, text[position:]])


def anonymise(
    path: Path,
    *,
    out: Path,
    key: bytes | None = None,
    jitter: float = 0.0,
    jitter_days: int = 0,
    names: Sequence[str] = (),
    also: Sequence[str] = (),
    keep: Sequence[str] = (),
    replace_doubtful: bool = False,
    **reading: Any,
) -> dict[str, Any]:
    """Reads a statement of any format, replaces what identifies people and accounts, and writes CSV and a report.

    Args:
        path: a bank's export (anything `statements.load_statement` reads) or a statement of ours.
        out: the CSV to write; the report goes beside it as `<name>.report.json`.
        key: see `Anonymiser`.
        jitter: share by which amounts move, 0 to 0.5; 0 leaves them.
        jitter_days: days by which dates move, 0 to 60; 0 leaves them.
        names: see `Anonymiser`.
        also: see `Anonymiser`.
        keep: see `Anonymiser`.
        replace_doubtful: replace the doubts of the scan too, instead of refusing the file; the report names the lines.
        **reading: as of `statements.load_statement` (mapping, date_order, encoding, currency ...).

    Returns:
        The report: counts only, never a value.

    Raises:
        UserError: the file cannot be read, or something that looks like an identifier would be left; nothing is
            written then.
    """
    _check_jitter(jitter, jitter_days)
    statement = load_statement(Path(path), **reading)
    worker = Anonymiser(key=key, names=names, also=also, keep=keep)
    rows = anonymous_rows(statement.transactions, worker=worker, jitter=jitter, jitter_days=jitter_days)
    doubtful = _doubtful_lines(rows, worker=worker, lines=statement.lines)
    if doubtful and not replace_doubtful:
        raise UserError(_refusal(doubtful, unit="line" if statement.unit == "lines" else "entry"))
    if doubtful:
        rows = [_without_doubts(row, worker=worker) for row in rows]
        assert not _doubtful_lines(rows, worker=worker, lines=statement.lines), "a doubt was left in a line"
    changed = sum(new.description != old.description for new, old in zip(rows, statement.transactions, strict=True))
    report: dict[str, Any] = {
        "transactions": len(rows),
        "lines": statement.report,
        "descriptions_changed": changed,
        "replaced": dict(sorted(worker.replaced.items())),
        "jitter": {"amounts": jitter, "days": jitter_days},
        "key": "given by the caller, not written" if key else "drawn for this run and forgotten",
        "scan": f"the written lines were searched for {', '.join(SEARCHED)}; other secrets may be left: read the lines",
        "doubtful_lines": {what: {"count": len(where), "lines": where} for what, where in doubtful.items()},
        "left_in": _left_in(jitter=jitter, jitter_days=jitter_days),
    }
    save_statement(Path(out), rows, source=Path(path))
    write_json(Path(out).with_suffix(".report.json"), report)
    return report


def private_transactions(
    files: Sequence[Path], *, names: Sequence[str] = (), **reading: Any
) -> tuple[list[Transaction], list[dict[str, Any]]]:
    """The transactions of one person's files, anonymised; doubtful words are replaced too.

    A payment that two of the files hold is taken once: see `overlap.joined`.

    The key of the placeholders comes from the files, so the same files give the same text and so the same categories.
    It is not secret: who has the files can make the key. The transactions are for use on this machine; `anonymise`
    draws a secret key for a file that leaves it.

    Args:
        files: statements of any format.
        names: people whose name is replaced wherever it is written.
        **reading: as of `statements.load_statement`.

    Returns:
        The transactions in the order of the files, and the report of each file as of `overlap.joined`.

    Raises:
        MissingInputError: a file is missing.
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256()
    statements = []
    for file in files:
        statements.append(load_statement(file, **reading))
        digest.update(file.read_bytes())
    rows, reports = joined(statements, names=[file.name for file in files])
    worker = Anonymiser(key=digest.digest(), names=names)
    return anonymous_rows(rows, worker=worker, replace_doubtful=True), reports


def explain(report: Mapping[str, Any]) -> list[str]:
    """The report of `anonymise` in sentences for the terminal: counts and line numbers only."""
    replaced = ", ".join(f"{count:,} {kind.lower()}" for kind, count in report["replaced"].items()) or "nothing"
    said = [*explain_statement(report["lines"]), f"replaced: {replaced}"]
    unit, units = ("line", "lines") if "lines_in_file" in report["lines"] else ("entry", "entries")
    for what, entry in report["doubtful_lines"].items():
        shown = ", ".join(map(str, entry["lines"][:_LINES_NAMED]))
        more = " ..." if entry["count"] > _LINES_NAMED else ""
        said.append(f"replaced in doubt: {what} in {entry['count']:,} {units} ({unit} {shown}{more})")
    return [*said, f"left in: {report['left_in']}", report["scan"]]


def anonymous_rows(
    rows: Sequence[Transaction],
    *,
    worker: Anonymiser,
    jitter: float = 0.0,
    jitter_days: int = 0,
    replace_doubtful: bool = False,
) -> list[Transaction]:
    """Transactions with placeholders, and with jittered amounts and dates where asked for.

    Args:
        rows: transactions of one statement, or of several of one person.
        worker: whose key makes the placeholders.
        jitter: see `anonymise`.
        jitter_days: see `anonymise`.
        replace_doubtful: replace the doubts of the scan too.
    """
    texts = worker.lines([row.description for row in rows], hide_dates=jitter_days > 0, hide_amounts=jitter > 0)
    merchants = worker.lines([row.merchant for row in rows])
    # drawn from the key: a caller who keeps it gets the same statement again, nobody else can undo it
    seed = hmac.new(worker.key, b"jitter", hashlib.sha256).digest()
    rng = np.random.default_rng(list(seed))
    dates = jitter_dates([row.date for row in rows], days=jitter_days, rng=rng) if jitter_days else []
    amounts = [row.amount for row in rows]
    if jitter:
        by_currency: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            by_currency[row.currency].append(number)
        for numbers in by_currency.values():
            moved = jitter_amounts([amounts[i] for i in numbers], share=jitter, rng=rng)
            for number, amount in zip(numbers, moved, strict=True):
                amounts[number] = amount
    known = load_taxonomy().names
    anonymous = [
        replace(
            row,
            account=worker.field("ACCOUNT", row.account),
            description=texts[number],
            merchant=merchants[number],
            date=dates[number] if dates else row.date,
            amount=amounts[number],
            category=row.category if row.category in known else "",
        )
        for number, row in enumerate(rows)
    ]
    return [_without_doubts(row, worker=worker) for row in anonymous] if replace_doubtful else anonymous


def _doubtful_lines(rows: Sequence[Transaction], *, worker: Anonymiser, lines: Sequence[int]) -> dict[str, list[int]]:
    """Lines of the file that the scan doubts, by reason."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, line in zip(rows, lines, strict=True):
        for text in (row.account, row.description, row.merchant, row.currency, row.split):
            if what := worker.residue(text):
                found[what].append(line)
                break
    return dict(found)


def _without_doubts(row: Transaction, *, worker: Anonymiser) -> Transaction:
    return replace(
        row,
        account=worker.without_doubts(row.account),
        description=worker.without_doubts(row.description),
        merchant=worker.without_doubts(row.merchant),
        currency=worker.without_doubts(row.currency),
        split=worker.without_doubts(row.split),
    )


def _check_jitter(jitter: float, jitter_days: int) -> None:
    if not 0 <= jitter <= 0.5:
        raise UserError(f"--jitter is {jitter}, expected 0 to 0.5: 0.05 moves amounts by up to five percent")
    if not 0 <= jitter_days <= 60:
        raise UserError(f"--jitter-days is {jitter_days}, expected 0 to 60: say by how many days dates may move")


def _left_in(*, jitter: float, jitter_days: int) -> str:
    moved = ("" if jitter else ", amounts") + ("" if jitter_days else ", dates")
    return f"merchants and their towns{moved}: who knows the person may still recognise them"


def _refusal(doubtful: dict[str, list[int]], *, unit: str) -> str:
    named = {what: ", ".join(map(str, lines[:_LINES_NAMED])) for what, lines in doubtful.items()}
    where = "; ".join(
        f"{what} ({unit} {named[what]}{' and others' if len(lines) > _LINES_NAMED else ''})"
        for what, lines in doubtful.items()
    )
    return (
        f"after anonymising, something that looks like an identifier was left: {where}; nothing was written: look at "
        "these lines of your file; name the text with --also to replace it, with --keep if it is a merchant, or let "
        "--replace-doubtful replace whatever is doubted"
    )


def _joined(spans: list[Span], more: Iterable[Span]) -> list[Span]:
    """The spans and those of `more` that touch none of them."""
    joined = list(spans)
    for span in more:
        if all(span.end <= other.start or other.end <= span.start for other in joined):
            joined.append(span)
    return joined


def _word_patterns(name: str) -> list[re.Pattern[str]]:
    """Each word of a name, alone and in upper or lower case. Words of one or two letters may be anything."""
    return [re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE) for word in name.split() if len(word) > 2]


def _name_pattern(name: str) -> re.Pattern[str]:
    """A person's name in either order, in full or with an initial."""
    words = [re.escape(word) for word in name.split()]
    if len(words) == 1:
        return re.compile(rf"\b{words[0]}\b", re.IGNORECASE)
    first, last = words[0], words[-1]
    middle = r"(?:[\s.,_-]+\w+\.?)?[\s.,_-]*"
    initial = rf"(?:{first}|{first[0]}\.?)"
    return re.compile(rf"\b(?:{initial}{middle}{last}|{last}{middle}{initial})(?!\w)", re.IGNORECASE)
