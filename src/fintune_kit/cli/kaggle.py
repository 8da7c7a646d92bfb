"""`fintune-kit kaggle build|push|status|fetch [NOTEBOOK ...]`: the notebooks as a chain of Kaggle kernels."""

import argparse
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.delivery import WAYS, Delivery, deliver
from fintune_kit.kaggle.kernels import build_kernels
from fintune_kit.kaggle.manifest import Chain, Kernel, read_chain

BUILD = Path("build/kaggle")


def add_kaggle(commands: Any) -> None:
    """Adds the command with its own sub-commands."""
    parser = commands.add_parser("kaggle", help="the notebooks as Kaggle kernels: build, push, status, fetch")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    build = _add(actions, "build", run_build, "a folder a kernel, checked, with the library in it")
    _add_building(build)

    push = _add(actions, "push", run_push, "build, check and push; with --wait the whole chain")
    _add_building(push)
    push.add_argument(
        "--all", action="store_true", help="all notebooks of the manifest but the optional ones, in order"
    )
    push.add_argument(
        "--wait", action="store_true", help="wait for each to end, show a failing cell, go on to the next"
    )
    push.add_argument("--resume", action="store_true", help="attach its own previous output, and go on from there")
    push.add_argument("--until-done", action="store_true", help="push what was stopped again until it is done; waits")

    _add(actions, "status", run_status, "each kernel with its times, and the week's quota")

    fetch = _add(actions, "fetch", run_fetch, "outputs home, checked; goes on where it was interrupted")
    fetch.add_argument("--out", type=Path, default=Path("runs/kaggle"), metavar="DIR", help="default: runs/kaggle")


def run_build(arguments: argparse.Namespace) -> None:
    """`fintune-kit kaggle build`"""
    chain, kernels, delivery = _prepare(arguments)
    built = build_kernels(
        chain, kernels, out=arguments.out, delivery=delivery, force_accelerator=arguments.force_accelerator
    )
    for made in built:
        machine = made.kernel.accelerator or "CPU"
        print(f"{made.folder}: {made.kernel.ref}, {machine}, {made.notebook_bytes:,} bytes")


def run_push(arguments: argparse.Namespace) -> None:
    """`fintune-kit kaggle push`"""
    from fintune_kit.kaggle.chain import Pushing, push_chain
    from fintune_kit.kaggle.client import Kaggle

    if arguments.all == bool(arguments.notebook):
        raise UserError("push takes either the notebooks to push or --all, as in `fintune-kit kaggle push 01_data`")
    chain, kernels, delivery = _prepare(arguments)
    how = Pushing(
        out=arguments.out,
        delivery=delivery,
        wait=arguments.wait,
        resume=arguments.resume,
        until_done=arguments.until_done,
        force_accelerator=arguments.force_accelerator,
    )
    push_chain(Kaggle(), chain, kernels, how=how)


def run_status(arguments: argparse.Namespace) -> None:
    """`fintune-kit kaggle status`"""
    from fintune_kit.kaggle.client import Kaggle
    from fintune_kit.kaggle.overview import describe_chain

    chain = read_chain(arguments.manifest, owner=arguments.owner)
    print(describe_chain(Kaggle(), chain.chosen(arguments.notebook)))


def run_fetch(arguments: argparse.Namespace) -> None:
    """`fintune-kit kaggle fetch`"""
    from fintune_kit.kaggle.client import Kaggle
    from fintune_kit.kaggle.fetching import fetch_kernel

    chain = read_chain(arguments.manifest, owner=arguments.owner)
    kaggle = Kaggle()
    for kernel in chain.chosen(arguments.notebook):
        fetch_kernel(kaggle, kernel, out=arguments.out)


def _add(actions: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    parser.add_argument("notebook", nargs="*", metavar="NOTEBOOK", help="as in 01_data")
    parser.add_argument("--manifest", type=Path, default=Path(), metavar="FILE", help="default: kaggle-metadata.json")
    parser.add_argument("--owner", metavar="NAME", help="your Kaggle user name; default: the manifest's")
    return parser


def _add_building(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=BUILD, metavar="DIR", help=f"default: {BUILD}")
    parser.add_argument("--deliver", choices=WAYS, default="embed", help="how the library gets there")
    parser.add_argument(
        "--after",
        metavar="NOTEBOOK",
        help="read its output in place of another's that writes the same, as in: push 04_evaluate --after "
        "03_train_tpu_v5e8",
    )
    parser.add_argument(
        "--force-accelerator", action="store_true", help="ask for a retired or unknown one all the same"
    )


def _prepare(arguments: argparse.Namespace) -> tuple[Chain, tuple[Kernel, ...], Delivery]:
    chain = read_chain(arguments.manifest, owner=arguments.owner)
    return chain, chain.chosen(arguments.notebook, after=arguments.after), deliver(chain, way=arguments.deliver)
