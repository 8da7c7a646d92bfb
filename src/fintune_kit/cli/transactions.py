"""`fintune-kit transactions ...`: statements generated, imported, anonymised and turned into conversations.

Prints counts and file names only: no row of a person's file appears on the terminal.
"""

import argparse
from pathlib import Path
from typing import Any

from fintune_kit.errors import MissingInputError, UserError


def add_transactions(commands: Any) -> None:
    """Adds the command with its own sub-commands."""
    parser = commands.add_parser("transactions", help="bank statements: generate, import, anonymise, conversations")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    generate = _add(actions, "generate", run_generate, "labelled statements of made-up people")
    generate.add_argument("--count", type=int, required=True, metavar="N")
    generate.add_argument("--seed", type=int, default=0, metavar="S")
    generate.add_argument("--out", type=Path, required=True, metavar="DIR")

    read = _add(actions, "import", run_import, "a bank's CSV, OFX, MT940 or CAMT export into one plain form")
    _add_reading(read)

    hide = _add(actions, "anonymise", run_anonymise, "replace what identifies people and accounts")
    _add_reading(hide)
    hide.add_argument("--jitter", type=float, default=0.0, metavar="SHARE", help="of each amount, for example 0.05")
    hide.add_argument("--jitter-days", type=int, default=0, metavar="DAYS", help="of each date; their order is kept")
    hide.add_argument("--key-file", type=Path, metavar="FILE", help="16 bytes or more; the same key, the same names")
    hide.add_argument("--name", action="append", default=[], metavar="TEXT", help="a person to hide; may be repeated")
    hide.add_argument("--also", action="append", default=[], metavar="TEXT", help="any other text to hide")
    hide.add_argument("--keep", action="append", default=[], metavar="TEXT", help="a merchant that must stay")

    talk = _add(actions, "conversations", run_conversations, "a labelled statement into rows to train and evaluate on")
    talk.add_argument("statement", type=Path)
    talk.add_argument("--out", type=Path, required=True, metavar="DIR")
    talk.add_argument("--seed", type=int, default=0, metavar="S")
    talk.add_argument("--batch-share", type=float, default=0.25, metavar="SHARE", help="asked for several at a time")
    talk.add_argument("--evaluation-rows", type=int, default=2_000, metavar="N")


def run_generate(arguments: argparse.Namespace) -> None:
    """`fintune-kit transactions generate`"""
    from fintune_kit.bank.transactions import generate_statements

    manifest = generate_statements(count=arguments.count, seed=arguments.seed, out=arguments.out)
    counts = manifest["counts"]
    print(f"{arguments.out}: {counts['transactions']:,} transactions of {counts['accounts']:,} accounts")


def run_import(arguments: argparse.Namespace) -> None:
    """`fintune-kit transactions import`"""
    from fintune_kit.bank.statements.load import import_statement

    _say(arguments.out, import_statement(arguments.file, out=arguments.out, **_reading(arguments)))


def run_anonymise(arguments: argparse.Namespace) -> None:
    """`fintune-kit transactions anonymise`"""
    from fintune_kit.bank.privacy.anonymise import anonymise

    report = anonymise(
        arguments.file,
        out=arguments.out,
        key=_key(arguments.key_file),
        jitter=arguments.jitter,
        jitter_days=arguments.jitter_days,
        names=arguments.name,
        also=arguments.also,
        keep=arguments.keep,
        **_reading(arguments),
    )
    _say(arguments.out, report)


def run_conversations(arguments: argparse.Namespace) -> None:
    """`fintune-kit transactions conversations`"""
    from fintune_kit.bank.conversations import to_conversations

    manifest = to_conversations(
        arguments.statement,
        out=arguments.out,
        seed=arguments.seed,
        batch_share=arguments.batch_share,
        evaluation_rows=arguments.evaluation_rows,
    )
    counts = manifest["counts"]
    print(f"{arguments.out}: {counts['train']:,} conversations, {counts['evaluation']:,} rows of unseen merchants")


def _add(actions: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--map", action="append", default=[], metavar="ROLE=COLUMN", help="which column is which")
    parser.add_argument("--date-order", choices=("dmy", "mdy", "ymd"), help="where the file leaves it open")
    parser.add_argument("--encoding", metavar="NAME")
    parser.add_argument("--currency", default="", metavar="XXX", help="of amounts that name none")
    parser.add_argument("--charges-positive", action="store_true", help="the file writes money out with a plus sign")


def _reading(arguments: argparse.Namespace) -> dict[str, Any]:
    from fintune_kit.bank.statements.load import parse_mapping

    return {
        "mapping": parse_mapping(arguments.map) or None,
        "date_order": arguments.date_order,
        "encoding": arguments.encoding,
        "currency": arguments.currency,
        "charges_positive": arguments.charges_positive,
    }


def _key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    if not path.is_file():
        raise MissingInputError(f"{path} is missing; expected a file with a key of 16 bytes or more: check --key-file")
    key = path.read_bytes()
    if len(key) < 16:
        raise UserError(f"the key in {path} has {len(key)} bytes, expected 16 or more: make one with `openssl rand 32`")
    return key


def _say(out: Path, report: dict[str, Any]) -> None:
    counts = {name: value for name, value in report.items() if isinstance(value, int)}
    words = [f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items()]
    print(f"{out}: {', '.join(words)}")
