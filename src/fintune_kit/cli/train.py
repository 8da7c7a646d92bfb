"""`fintune-kit train`: trains an adapter on packs."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fintune_kit.cli.flags import Count
from fintune_kit.cli.opening import UNCHANGED, RecipeFlags, folder_of
from fintune_kit.errors import UserError
from fintune_kit.hardware import find_machine, use_expandable_segments
from fintune_kit.recipes import Recipe, read_recipe
from fintune_kit.tiny import base_of
from fintune_kit.workspace import Workspace, find_workspace, parse_duration, writing


def train(
    *,
    packed: Path | None = None,
    out: Path | None = None,
    time_budget: str | None = None,
    steps: Count | None = None,
    fresh: bool = False,
    processes: Count | None = None,
    device: str | None = None,
    tpu: bool = False,
    worker: Annotated[bool, Parameter(show=False)] = False,
    report_to: Literal["none", "tensorboard", "wandb"] = "none",
    recipe: RecipeFlags = UNCHANGED,
) -> None:
    """Train on packed/ and write run/ and adapter/.

    A stopped run continues from its newest checkpoint.

    Args:
        packed: The folder that `fintune-kit pack` wrote. Default: the workspace's.
        out: The folder in which run/ and adapter/ are written. Default: the workspace.
        time_budget: The time for this command, such as 11h30m. It stops early enough to save a checkpoint.
        steps: Stop after this many optimizer steps, with a checkpoint.
        fresh: Delete the earlier run and start again.
        processes: The number of processes. Default: one for each card.
        device: Train as this card would, such as t4 on an H100: its plan, precision, memory and kernels.
        tpu: Train on a TPU. Default: if this machine has one.
        worker: Be one of the processes that a launcher has started.
        report_to: A service that also gets the numbers of the log.
    """
    use_expandable_segments()
    chosen, workspace = _open(recipe, worker=worker, fresh=fresh, out=out)
    seconds = None if time_budget is None else parse_duration(time_budget)
    on_tpu = _uses_tpu(asked=tpu, processes=processes, device=device)
    home = Workspace(out) if out else workspace
    packs, base = folder_of(packed, workspace, "packed"), base_of(chosen, workspace)
    cards = len(find_machine().cards)
    if not (worker or on_tpu) and max(processes or 1, cards) > 1:
        flags = {"packed": packs, "time-budget": time_budget, "steps": steps, "fresh": fresh, "report-to": report_to,
                 "device": device}  # fmt: skip
        launch(chosen, workspace, flags, base=base, home=home, processes=processes, cards=cards)
        return
    with _only_writer(home, worker=worker):
        if not worker:
            home.keep(chosen, stage="run", fresh=fresh)
        outcome = _train_function(tpu=on_tpu, device=device)(
            chosen,
            home,
            packed=packs,
            base=base,
            budget_seconds=seconds,
            stop_after=steps,
            fresh=fresh,
            report_to=report_to,
        )
    print(outcome.describe())


def _open(recipe: RecipeFlags, *, worker: bool, fresh: bool, out: Path | None) -> tuple[Recipe, Workspace]:
    """The recipe and the workspace. A worker reads the recipe from the file that its launcher has written."""
    if not worker:
        return recipe.open(stage="run", fresh=fresh, out=out)
    chosen = read_recipe(Path(str(recipe.recipe)))
    return chosen, find_workspace(chosen.name)


def _uses_tpu(*, asked: bool, processes: int | None, device: str | None) -> bool:
    """Whether this run trains on a TPU.

    Raises:
        UserError: it does, but a number of processes or a card was given.
    """
    from fintune_kit.tpu.devices import is_tpu_machine

    on_tpu = asked or is_tpu_machine()
    if on_tpu and device:
        raise UserError(f"--device {device} is for cards; expected none on a TPU: leave it out")
    if on_tpu and processes:
        raise UserError(
            f"--processes {processes} was given; expected none on a TPU, because one process drives all devices: leave "
            f"it out"
        )
    return on_tpu


def _only_writer(home: Workspace, *, worker: bool) -> AbstractContextManager[None]:
    """Locks the run. Of several workers, the first one holds the lock for all. A worker ends with its launcher."""
    from fintune_kit.train.launch import end_with_parent, is_first_worker

    if worker:
        end_with_parent()
    return writing(home.folder("run")) if is_first_worker() else nullcontext()


def _train_function(*, tpu: bool, device: str | None) -> Any:
    """`train` as on a device, or `train_on_tpu`, which takes the same arguments and writes the same files."""
    if tpu:
        from fintune_kit.tpu.stage import train_on_tpu

        return train_on_tpu
    from fintune_kit.train.stage import train

    return partial(train, device_name=device)


def launch(
    recipe: Recipe,
    workspace: Workspace,
    flags: Mapping[str, Any],
    *,
    base: str | Path,
    home: Workspace,
    processes: int | None,
    cards: int,
) -> None:
    """Trains in several processes with these flags, and prints the progress from their common log."""
    from fintune_kit.pack.store import open_packed
    from fintune_kit.train.estimate import describe_progress
    from fintune_kit.train.launch import run_training
    from fintune_kit.train.stage import plan_here

    packs = open_packed(flags["packed"])
    plan = plan_here(recipe, packed=packs, base=base, processes=processes, device_name=flags["device"])

    def _say(log: Sequence[dict[str, Any]]) -> None:
        print(describe_progress(log, plan=plan), flush=True)

    given: list[str] = []
    for name, value in flags.items():
        given += [f"--{name}"] if value is True else [f"--{name}", str(value)] if value else []
    run_training(recipe, workspace, given, out=home, processes=plan.processes, cards=cards, watch=_say)
