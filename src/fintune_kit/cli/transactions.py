"""`fintune-kit transactions ...`: statements generated, imported, anonymised, labelled, learned from and categorised.

Prints counts and file names only: no row of a person's file appears on the terminal.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from fintune_kit.cli.flags import FLAGS, WholeNumber
from fintune_kit.cli.opening import DEFAULT_CHOICE, RecipeChoice
from fintune_kit.errors import MissingInputError, UserError

if TYPE_CHECKING:
    from fintune_kit.bank.merchants import MerchantLabels
    from fintune_kit.bank.transactions import Transaction
    from fintune_kit.evaluate.categorise import Calibration, Categoriser

transactions = App(
    name="transactions",
    help="Work with bank statements: generate, import, anonymise, label, conversations, categorise.",
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
        """The keyword arguments of the readers."""
        from fintune_kit.bank.statements.load import parse_mapping

        return {
            "mapping": parse_mapping(self.map) or None,
            "date_order": self.date_order,
            "encoding": self.encoding,
            "currency": self.currency,
            "charges_positive": self.charges_positive,
            "decimal": self.decimal,
        }


DEFAULT_READING = Reading()


@transactions.command
def generate(*, count: WholeNumber, out: Path, seed: WholeNumber = 0) -> None:
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
def import_(
    files: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path,
    reading: Reading = DEFAULT_READING,
) -> None:
    """Read a bank's CSV, Excel, OFX, MT940, CAMT or QIF exports into one plain form.

    Args:
        files: The bank's files. A payment that two exports of one account hold is taken once.
        out: The CSV file to write.
    """
    from fintune_kit.bank.statements.load import import_statements
    from fintune_kit.bank.statements.statement import explain

    reports = import_statements(files, out=out, **reading.as_arguments())
    for file, report in zip(files, reports, strict=True):
        _say(file, explain(report))
    kept = sum(report["transactions"] - report["left_out"]["transactions"] for report in reports)
    print(f"{out}: {kept:,} transactions")


@transactions.command
def anonymise(
    file: Path,
    /,
    *,
    out: Path,
    jitter: float = 0.0,
    jitter_days: WholeNumber = 0,
    key_file: Path | None = None,
    name: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    replace_doubtful: bool = False,
    reading: Reading = DEFAULT_READING,
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
        replace_doubtful: Replace words that only look like an identifier too, instead of refusing the file.
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
        **reading.as_arguments(),
    )
    _say(out, explain(report))


@transactions.command
def conversations(
    statement: Path,
    /,
    *,
    out: Path,
    seed: WholeNumber = 0,
    batch_share: float = 0.25,
    evaluation_rows: WholeNumber = 2_000,
    labels: Path | None = None,
) -> None:
    """Turn a labelled statement into rows to train and evaluate on.

    Args:
        statement: A CSV file that `generate`, `import` or `anonymise` wrote.
        out: The folder to write.
        seed: The seed of the wordings and of the split.
        batch_share: Share of the transactions that are asked for several at a time.
        evaluation_rows: How many transactions of unseen merchants are kept for the evaluation.
        labels: A CSV with columns merchant and category, as `label` writes it; these categories win.
    """
    from fintune_kit.bank.conversations import to_conversations
    from fintune_kit.bank.labels import read_labels

    manifest = to_conversations(
        statement,
        out=out,
        seed=seed,
        batch_share=batch_share,
        evaluation_rows=evaluation_rows,
        labels=read_labels(labels) if labels else None,
    )
    counts = manifest["counts"]
    print(f"{out}: {counts['train']:,} conversations, {counts['evaluation']:,} rows of unseen merchants")


@transactions.command
def taxonomy() -> None:
    """List the categories, each with its meaning and with the names that other tools give it."""
    from fintune_kit.bank.taxonomy import load_taxonomy

    for category in load_taxonomy().categories:
        print(f"{category.name}\n  {category.definition}\n  also: {', '.join(category.aliases)}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model gives the categories, and how sure it must be."""

    adapter: Path | None = None
    """The folder that `fintune-kit train` wrote, or any PEFT adapter. Default: the workspace's."""
    base: str | None = None
    """A base model, by hub id or folder; without --adapter it answers alone."""
    corrections: Path | None = None
    """A CSV with columns merchant and category, as `label` writes it: these win at once."""
    threshold: Annotated[float | None, Parameter(validator=Number(gte=0, lte=1))] = None
    """The confidence that is enough, 0 to 1. Default: chosen by --calibrate-on, else 0.9."""
    calibrate_on: Path | None = None
    """A folder that `conversations` wrote: confidence is calibrated on its unseen merchants, for 98 % right labels."""
    name: tuple[str, ...] = ()
    """A person to hide in the descriptions; may be repeated."""


DEFAULT_MODEL = Model()


@transactions.command
def label(
    files: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path,
    model: Model = DEFAULT_MODEL,
    reading: Reading = DEFAULT_READING,
    recipe: RecipeChoice = DEFAULT_CHOICE,
) -> None:
    """Suggest a category for each merchant, in a CSV to be corrected.

    Args:
        files: Statements of a bank, of any format. A payment that two exports of one account hold is taken once.
        out: The CSV file to write; `conversations --labels` and `categorise --corrections` read it.
    """
    from fintune_kit.bank.labels import check_is_new, write_suggestions

    check_is_new(out)
    rows, corrections = _private_rows(files, model, reading)
    categoriser, calibration = _open(model, recipe)
    suggestions = categoriser.suggest(rows, corrections=corrections, calibration=calibration)
    write_suggestions(out, suggestions)
    open_ones = sum(not suggestion.category for suggestion in suggestions)
    print(f"{out}: {len(suggestions):,} merchants, {open_ones:,} left open: fill or correct the column category")


@transactions.command
def categorise(
    files: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path,
    model: Model = DEFAULT_MODEL,
    reading: Reading = DEFAULT_READING,
    recipe: RecipeChoice = DEFAULT_CHOICE,
) -> None:
    """Give each transaction a category, or none where the model is not sure, and add up the categories.

    Args:
        files: Statements of a bank, of any format. A payment that two exports of one account hold is taken once.
        out: The CSV file to write: anonymised transactions, each with its category, confidence and who decided.
    """
    from fintune_kit.bank.transactions import check_replaceable
    from fintune_kit.evaluate.categorise import explain_categories, save_categorised

    for file in files:
        check_replaceable(out, source=file)
    rows, corrections = _private_rows(files, model, reading)
    categoriser, calibration = _open(model, recipe)
    decisions = categoriser.decide(rows, corrections=corrections, calibration=calibration)
    report = save_categorised(out, rows, decisions, calibration=calibration, sources=files)
    _say(out, explain_categories(report))


def _private_rows(
    files: tuple[Path, ...], model: Model, reading: Reading
) -> tuple[list["Transaction"], "MerchantLabels | None"]:
    """The anonymised transactions of all files, and the person's corrections. Both are read before a model is."""
    from fintune_kit.bank.labels import read_labels
    from fintune_kit.bank.privacy.anonymise import private_transactions
    from fintune_kit.bank.statements.statement import explain

    corrections = read_labels(model.corrections) if model.corrections else None
    rows, reports = private_transactions(files, names=model.name, **reading.as_arguments())
    for file, report in zip(files, reports, strict=True):
        _say(file, explain(report))
    return rows, corrections


def _say(file: Path, lines: list[str]) -> None:
    print("\n".join([f"{file}:", *(f"  {line}" for line in lines)]))


def _open(model: Model, recipe: RecipeChoice) -> tuple["Categoriser", "Calibration"]:
    from fintune_kit.evaluate.categorise import Calibration, calibration_rows, open_categoriser

    rows = calibration_rows(model.calibrate_on) if model.calibrate_on else []
    chosen, workspace = recipe.open()
    categoriser = open_categoriser(chosen, workspace, adapter=model.adapter, base=model.base)
    calibration = categoriser.calibrated_on(rows) if rows else Calibration()
    return categoriser, calibration if model.threshold is None else replace(calibration, threshold=model.threshold)


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
