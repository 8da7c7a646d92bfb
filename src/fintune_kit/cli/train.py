"""`fintune-kit plan` and `fintune-kit train`: what a run will take, and the run."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.recipes import RECIPES, load_recipe
from fintune_kit.workspace import Workspace, open_workspace


def add_training(commands: Any) -> None:
    """Adds both commands."""
    plan = _add(commands, "plan", run_plan, "memory, steps and hours of a recipe on a card")
    plan.add_argument(
        "--device", metavar="NAME", help="p100, t4, t4x2, l4, a100, h100, h200, v5e8, cpu; default: this one"
    )
    plan.add_argument("--packed", type=Path, metavar="DIR", help="the real packs; else typical ones are assumed")
    plan.add_argument("--json", action="store_true", help="the plan as JSON")

    train = _add(commands, "train", run_train, "packed/ into run/ and adapter/; goes on where it stopped")
    train.add_argument("--packed", type=Path, metavar="DIR")
    train.add_argument("--out", type=Path, metavar="DIR", help="run/ and adapter/ are written in it")
    train.add_argument("--time-budget", type=parse_duration, metavar="11h30m", help="stop while there is time to save")
    train.add_argument("--steps", type=int, metavar="N", help="stop after N optimizer steps, with a checkpoint")
    train.add_argument("--fresh", action="store_true", help="start over")
    train.add_argument("--processes", type=int, metavar="N", help="default: one a card")
    train.add_argument("--tpu", action="store_true", help="on a TPU, as the recipe tpu_v5e8 is by itself")
    train.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # one of several processes
    train.add_argument("--report-to", choices=("none", "tensorboard", "wandb"), default="none")


def run_plan(arguments: argparse.Namespace) -> None:
    """`fintune-kit plan`"""
    from fintune_kit.hardware import find_machine
    from fintune_kit.pack.store import open_packed
    from fintune_kit.plan.cost import ModelShape
    from fintune_kit.plan.plan import device_of, find_device, make_plan, stock_hours, typical_counts
    from fintune_kit.tiny import base_of
    from fintune_kit.train.model import load_config
    from fintune_kit.train.stage import pack_counts

    recipe = load_recipe(arguments.recipe)
    workspace = open_workspace(recipe.name)
    length = recipe.pack.max_length
    counts = (
        pack_counts(open_packed(arguments.packed).train, max_length=length)
        if arguments.packed
        else typical_counts(recipe)
    )
    shape = ModelShape.of(load_config(base_of(recipe, workspace)))
    device = find_device(arguments.device) if arguments.device else device_of(find_machine())
    plan = make_plan(recipe, shape=shape, counts=counts, device=device)
    low, high = stock_hours(recipe, shape=shape, device=device)
    if arguments.json:
        print(json.dumps(plan.as_dict() | {"stock_hours": (low, high)}, indent=2))
        return
    print(
        f"{plan.describe()}\nstock trainer    {low:.2f} to {high:.2f} h, estimated: ordinary packs, dense attention, "
        "every block checkpointed"
    )


def run_train(arguments: argparse.Namespace) -> None:
    """`fintune-kit train`"""
    from fintune_kit.hardware import find_machine
    from fintune_kit.pack.store import open_packed
    from fintune_kit.tiny import base_of
    from fintune_kit.train.engine import train_function, wants_tpu
    from fintune_kit.train.estimate import describe_progress
    from fintune_kit.train.launch import run_training
    from fintune_kit.train.stage import plan_here

    recipe = load_recipe(arguments.recipe)
    workspace = open_workspace(recipe.name)
    on_tpu = arguments.tpu or wants_tpu(recipe)
    if on_tpu and arguments.processes:
        raise UserError(
            f"--processes {arguments.processes} is for cards; expected none on a TPU, where one process drives all "
            f"devices: leave it out"
        )
    train = train_function(recipe, tpu=on_tpu)
    home = Workspace(arguments.out) if arguments.out else workspace
    packed = arguments.packed or workspace.existing("packed")
    base = base_of(recipe, workspace)
    cards = len(find_machine().cards)
    if not (arguments.worker or on_tpu) and max(arguments.processes or 1, cards) > 1:
        plan = plan_here(recipe, packed=open_packed(packed), base=base, processes=arguments.processes)

        def say(log: Sequence[dict[str, Any]]) -> None:
            print(describe_progress(log, plan=plan), flush=True)

        run_training(arguments.given[1:], run=home.folder("run"), processes=plan.processes, cards=cards, watch=say)
        return
    outcome = train(
        recipe,
        packed=packed,
        base=base,
        run=home.folder("run"),
        adapter=home.folder("adapter"),
        budget_seconds=arguments.time_budget,
        stop_after=arguments.steps,
        fresh=arguments.fresh,
        report_to=arguments.report_to,
    )
    print(outcome.describe())


def parse_duration(text: str) -> float:
    """Seconds of `11h30m`, `45m`, `90s` or any of these together.

    Raises:
        argparse.ArgumentTypeError: it is none of these.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; expected hours, minutes and seconds, as in 11h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _add(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    parser.add_argument("--recipe", metavar="NAME", help=f"{', '.join(RECIPES)}; default: FINTUNE_RECIPE, else p100")
    return parser
