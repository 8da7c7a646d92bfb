"""The command line: each command reads its flags, calls what the notebooks call, and says what came out.

Exit code 0 is success, 2 a user's mistake (one sentence on stderr), 1 anything else.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fintune_kit.cli.kaggle import add_kaggle
from fintune_kit.cli.train import add_training
from fintune_kit.cli.transactions import add_transactions
from fintune_kit.errors import UserError
from fintune_kit.recipes import RECIPES, Recipe, load_recipe
from fintune_kit.workspace import Workspace, open_workspace

SOURCE_HELP = (
    "hub id, file or folder; may be repeated; SRC=COUNT takes so many of the chosen conversations from it, SRC*WEIGHT "
    "a share in proportion to the weights"
)
MAP_HELP = (
    "which column plays which role, where the columns are not recognised: user and assistant (with context, system), "
    "or messages, or text and label; and task_type, conversation_id, origin beside any of these"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser().parse_args(given, argparse.Namespace(given=given))
    try:
        parsed.command(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their flags."""
    parser = argparse.ArgumentParser(prog="fintune-kit", description="Fine-tune a Qwen chat model for finance.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = _add(commands, "data", run_data, "rows of any dataset into conversations/")
    data.add_argument("--source", action="append", metavar="SRC", help=SOURCE_HELP)
    data.add_argument("--out", type=Path, metavar="DIR", help="default: conversations/ in the workspace")
    data.add_argument("--examples", type=int, metavar="N", help="conversations to choose")
    data.add_argument("--seed", type=int, metavar="N")
    data.add_argument("--hold-out", action="append", default=[], metavar="FILE", help="its texts are kept out")
    data.add_argument("--map", action="append", default=[], metavar="ROLE=COLUMN", help=MAP_HELP)

    pack = _add(commands, "pack", run_pack, "conversations/ into packed/")
    pack.add_argument("--conversations", type=Path, metavar="DIR")
    pack.add_argument("--tokenizer", metavar="ID_OR_DIR", help="default: the recipe's")
    pack.add_argument("--out", type=Path, metavar="DIR")
    pack.add_argument("--max-length", type=int, metavar="N")
    pack.add_argument("--no-share-prefixes", action="store_true", help="ordinary best-fit packing")

    add_training(commands)

    evaluate = _add(commands, "evaluate", run_evaluate, "scores of the base and of the adapter into evaluation/")
    evaluate.add_argument("--adapter", type=Path, metavar="DIR")
    evaluate.add_argument("--conversations", type=Path, metavar="DIR")
    evaluate.add_argument("--packed", type=Path, metavar="DIR")
    evaluate.add_argument("--out", type=Path, metavar="DIR")
    evaluate.add_argument("--run", type=Path, metavar="DIR", help="its log goes into the model card")
    evaluate.add_argument("--most-generated", type=int, default=100, metavar="N", help="free-text rows a task")
    evaluate.add_argument("--task", action="append", default=[], metavar="NAME_OR_FILE")

    export = _add(
        commands, "export", run_export, "the adapter merged into its base, for transformers, llama.cpp, Ollama"
    )
    export.add_argument("--adapter", type=Path, metavar="DIR")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--form", default="safetensors", metavar="FORM", help="safetensors, f16 or q8_0 (GGUF)")

    push = _add(commands, "push", run_push, "upload the adapter or an export to the Hub, with the token from HF_TOKEN")
    push.add_argument("--folder", type=Path, metavar="DIR", help="default: the adapter")
    push.add_argument("--repo", required=True, metavar="OWNER/NAME")
    push.add_argument("--public", action="store_true", help="a repository that is made is public")

    add_transactions(commands)
    add_kaggle(commands)
    _add(commands, "doctor", run_doctor, "what this machine can run, and what to do about the rest", recipe=False)
    return parser


def run_data(arguments: argparse.Namespace) -> None:
    """`fintune-kit data`"""
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.data.recipe_sources import sources_of
    from fintune_kit.data.stage import prepare_conversations
    from fintune_kit.tiny import tokenizer_of

    recipe, workspace = _open(arguments)
    mapping = parse_mapping(arguments.map)
    out = arguments.out or workspace.folder("conversations")
    report = prepare_conversations(
        sources=tuple(arguments.source) if arguments.source else sources_of(recipe, workspace),
        out=out,
        examples=_given(arguments.examples, recipe.data.examples),
        validation_share=recipe.data.validation_share,
        seed=_given(arguments.seed, recipe.seed),
        encoder=ChatEncoder.load(tokenizer_of(recipe, workspace)),
        max_length=recipe.pack.max_length,
        hold_out=tuple(arguments.hold_out),
        mapping=mapping,
        system_prompt=recipe.data.system_prompt,
        finance_only=recipe.data.finance_only,
    )
    for step in report["funnel"]:
        print(f"{step['left']:>9,} left  {-step['refused']:>9,}  {step['says']}")
    print(f"{out}: {report['train']:,} conversations to train on, {report['validation']:,} held out")


def run_pack(arguments: argparse.Namespace) -> None:
    """`fintune-kit pack`"""
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.pack.stage import pack_conversations
    from fintune_kit.tiny import tokenizer_of

    recipe, workspace = _open(arguments)
    out = arguments.out or workspace.folder("packed")
    manifest = pack_conversations(
        arguments.conversations or workspace.existing("conversations"),
        encoder=ChatEncoder.load(arguments.tokenizer or tokenizer_of(recipe, workspace)),
        out=out,
        max_length=_given(arguments.max_length, recipe.pack.max_length),
        share_prefixes=recipe.pack.share_prefixes and not arguments.no_share_prefixes,
        seed=recipe.seed,
    )
    print(f"{out}: {json.dumps(manifest['counts'])}")


def run_evaluate(arguments: argparse.Namespace) -> None:
    """`fintune-kit evaluate`"""
    from fintune_kit.evaluate.results import format_table
    from fintune_kit.evaluate.stage import evaluate
    from fintune_kit.tiny import base_of

    recipe, workspace = _open(arguments)
    out = arguments.out or workspace.folder("evaluation")
    scores = evaluate(
        recipe,
        base=base_of(recipe, workspace),
        adapter=arguments.adapter or workspace.existing("adapter"),
        conversations=arguments.conversations or workspace.existing("conversations"),
        packed=arguments.packed or workspace.existing("packed"),
        out=out,
        run=arguments.run or workspace.existing("run"),
        tasks=tuple(arguments.task),
        transactions=workspace.existing("transactions") if "transactions" in arguments.task else None,
        most_generated=arguments.most_generated,
    )
    print(f"{format_table(scores)}\n{out}")


def run_export(arguments: argparse.Namespace) -> None:
    """`fintune-kit export`"""
    from fintune_kit.publish.export import export
    from fintune_kit.tiny import base_of

    recipe, workspace = _open(arguments)
    adapter = arguments.adapter or workspace.existing("adapter")
    made = export(recipe, base=base_of(recipe, workspace), adapter=adapter, out=arguments.out, form=arguments.form)
    print(f"{arguments.out}: {', '.join(made['files'])}")


def run_push(arguments: argparse.Namespace) -> None:
    """`fintune-kit push`"""
    from fintune_kit.publish.push import find_token, push

    _, workspace = _open(arguments)
    folder = arguments.folder or workspace.existing("adapter")
    print(push(folder, repository=arguments.repo, token=find_token(), private=not arguments.public))


def run_doctor(_arguments: argparse.Namespace) -> None:
    """`fintune-kit doctor`"""
    from fintune_kit.hardware import doctor
    from fintune_kit.tpu import devices

    for finding in (*doctor(), *devices.doctor()):
        print(f"{'ok ' if finding.fine else 'NO '} {finding.what:<14} {finding.detail}")
        if finding.remedy:
            print(f"     {'':<14} {finding.remedy}")


def parse_mapping(pairs: Sequence[str]) -> dict[str, str] | None:
    """`["user=question", "assistant=answer"]` as a dictionary, None where there is none.

    Raises:
        UserError: a pair has no `=`, or a role twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not (role and equals and column) or role in mapping:
            raise UserError(f"--map {pair!r} is not understood; expected ROLE=COLUMN, each role once: user=question")
        mapping[role] = column
    return mapping or None


def _add(commands: Any, name: str, function: Any, text: str, *, recipe: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    if recipe:
        known = ", ".join(RECIPES)
        parser.add_argument("--recipe", metavar="NAME", help=f"{known}; default: FINTUNE_RECIPE, else p100")
    return parser


def _open(arguments: argparse.Namespace) -> tuple[Recipe, Workspace]:
    recipe = load_recipe(arguments.recipe)
    return recipe, open_workspace(recipe.name)


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
