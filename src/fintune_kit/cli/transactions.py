"""`fintune-kit transactions ...`: statements generated, imported, anonymised and turned into conversations.

Prints counts and file names only: no row of a person's file appears on the terminal.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, Parameter

from fintune_kit.cli.flags import FLAGS
from fintune_kit.errors import MissingInputError, UserError

transactions = App(
    name="transactions",
    help="Work with bank statements: generate, import, anonymise, conversations.",
    help_format="markdown",
    default_parameter=FLAGS,
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a statement is read."""

    map: tuple[str, ...] = ()
    """ROLE=COLUMN: which column is which; may be repeated."""
    date_order: Literal["dmy", "mdy", "ymd"] | None = None
    """The order of day and month, where the file leaves it open."""
    encoding: str | None = None
    """Of the file's text. Default: found out."""
    currency: str = ""
    """Three letters, for amounts that name no currency."""
    charges_positive: bool | None = None
    """The file writes money out with a plus sign, or does not. Default: found out."""
    decimal: Literal[",", "."] | None = None
    """The decimal mark, where the file leaves it open."""

    def as_arguments(self) -> dict[str, Any]:
        """What the readers take."""
        from fintune_kit.bank.statements.load import parse_mapping

        return {
            "mapping": parse_mapping(self.map) or None,
            "date_order": self.date_order,
            "encoding": self.encoding,
            "currency": self.currency,
            "charges_positive": self.charges_positive,
            "decimal": self.decimal,
        }


@transactions.command
def generate(*, count: int, out: Path, seed: int = 0) -> None:
    """Write labelled statements of made-up people.

    Args:
        count: How many transactions.
        out: The folder to write.
        seed: The same seed gives the same statements.
    """
    from fintune_kit.bank.synthetic.generate import generate_statements

    manifest = generate_statements(count=count, seed=seed, out=out)
    counts = manifest["counts"]
    print(f"{out}: {counts['transactions']:,} transactions of {counts['accounts']:,} accounts")


@transactions.command(name="import")
def import_(file: Path, /, *, out: Path, reading: Reading | None = None) -> None:
    """Read a bank's CSV, Excel, OFX, MT940, CAMT or QIF export into one plain form.

    Args:
        file: The bank's file.
        out: The CSV file to write.
    """
    from fintune_kit.bank.statements.load import import_statement
    from fintune_kit.bank.statements.statement import explain

    report = import_statement(file, out=out, **(reading or Reading()).as_arguments())
    print("\n".join([f"{out}:", *(f"  {line}" for line in explain(report))]))


@transactions.command
def anonymise(
    file: Path,
    /,
    *,
    out: Path,
    jitter: float = 0.0,
    jitter_days: int = 0,
    key_file: Path | None = None,
    name: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    replace_doubtful: bool = False,
    reading: Reading | None = None,
) -> None:
    """Replace what identifies people and accounts.

    Args:
        file: The bank's file.
        out: The CSV file to write.
        jitter: Change each amount by up to this share, for example 0.05.
        jitter_days: Move each date by up to this many days; their order is kept.
        key_file: A key of 16 bytes or more: the same key gives the same placeholders.
        name: A person to hide; may be repeated.
        also: Any other text to hide; may be repeated.
        keep: A merchant that must stay; may be repeated.
        replace_doubtful: Replace also what only looks like an identifier, instead of refusing the file.
    """
    from fintune_kit.bank.privacy.anonymise import anonymise as hide
    from fintune_kit.bank.privacy.anonymise import explain

    report = hide(
        file,
        out=out,
        key=read_key(key_file),
        jitter=jitter,
        jitter_days=jitter_days,
        names=name,
        also=also,
        keep=keep,
        replace_doubtful=replace_doubtful,
        **(reading or Reading()).as_arguments(),
    )
    print("\n".join([f"{out}:", *(f"  {line}" for line in explain(report))]))


@transactions.command
def conversations(
    statement: Path,
    /,
    *,
    out: Path,
    seed: int = 0,
    batch_share: float = 0.25,
    evaluation_rows: int = 2_000,
) -> None:
    """Turn a labelled statement into rows to train and evaluate on.

    Args:
        statement: A CSV file that `generate`, `import` or `anonymise` wrote.
        out: The folder to write.
        seed: The seed of the wordings and of the split.
        batch_share: Share of the transactions that are asked for several at a time.
        evaluation_rows: How many transactions of unseen merchants are kept for the evaluation.
    """
    from fintune_kit.bank.conversations import to_conversations

    manifest = to_conversations(statement, out=out, seed=seed, batch_share=batch_share, evaluation_rows=evaluation_rows)
    counts = manifest["counts"]
    print(f"{out}: {counts['train']:,} conversations, {counts['evaluation']:,} rows of unseen merchants")


def read_key(path: Path | None) -> bytes | None:
    """The bytes of the key file; None where none was named.

    Raises:
        UserError: the file is missing, or shorter than 16 bytes.
    """
    if path is None:
        return None
    if not path.is_file():
        raise MissingInputError(f"{path} is missing; expected a file with a key of 16 bytes or more: check --key-file")
    key = path.read_bytes()
    if len(key) < 16:
        raise UserError(f"the key in {path} has {len(key)} bytes, expected 16 or more: make one with `openssl rand 32`")
    return key
