"""`fintune-kit data`: turns rows of any dataset into conversations."""

from collections.abc import Mapping, Sequence
from typing import Any

from fintune_kit.cli.flags import Count, Folder, WholeNumber
from fintune_kit.cli.opening import UNCHANGED, RecipeFlags
from fintune_kit.errors import UserError
from fintune_kit.hardware import count_cores
from fintune_kit.recipes import Change


def data(
    *,
    source: tuple[str, ...] = (),
    out: Folder | None = None,
    examples: WholeNumber | None = None,
    hold_out: tuple[str, ...] = (),
    map: tuple[str, ...] = (),  # noqa: A002 - the flag's name
    processes: Count = 1,
    recipe: RecipeFlags = UNCHANGED,
) -> None:
    """Turn rows of any dataset into conversations/.

    Args:
        source: Hub id, file or folder; may be repeated. SRC=COUNT takes this number of conversations from it,
            SRC*WEIGHT a share in proportion to the weights. With this flag, no generated transactions are added.
        out: The folder to write. Default: conversations/ in the workspace.
        examples: The same as --data.examples.
        hold_out: A file whose texts are excluded from training; may be repeated.
        map: ROLE=COLUMN, for columns that are not recognised; may be repeated. The roles are user and assistant, with
            context and system; or messages; or text and label. Each of these may be combined with task_type,
            conversation_id and origin.
        processes: The number of processes that convert rows. The result is the same.
    """
    from fintune_kit.data.stage import prepare

    mapping = parse_mapping(map)
    check_processes(processes)
    also = [
        Change(name="data.sources", value=source or None, origin="--source"),
        Change(name="data.examples", value=examples, origin="--examples"),
    ]
    if source and "data.transactions" not in recipe.load().asked:  # only the user's rows
        also.append(Change(name="data.transactions", value=0, origin="--source"))
    chosen, workspace = recipe.open(stage="conversations", also=also)
    report = prepare(chosen, workspace, out=out, excluded=hold_out, mapping=mapping, processes=processes)
    print_funnel(report["funnel"])
    folder = out or workspace.folder("conversations")
    print(f"{folder}: {report['train']:,} conversations for training, {report['validation']:,} for validation")


def check_processes(processes: int) -> None:
    """Raises UserError for more processes than cores. They would only wait for each other, and each takes memory."""
    cores = count_cores()
    if processes > cores:
        raise UserError(f"--processes {processes} was given; expected at most {cores}, the cores here: give fewer")


def print_funnel(funnel: Sequence[Mapping[str, Any]]) -> None:
    """Prints the rows read, then a line for each rule that refused a row.

    Args:
        funnel: the report's steps; the first is the rows read, each of the others a rule.
    """
    first, *rules = funnel
    print(f"{first['left']:>9,} rows read")
    for step in (step for step in rules if step["refused"]):
        print(f"{step['left']:>9,} left  {-step['refused']:>9,}  {step['says']}")
    idle = sum(not step["refused"] for step in rules)
    print(f"          {idle} other rules refused no row; report.json names all of them")


def parse_mapping(pairs: Sequence[str]) -> dict[str, str] | None:
    """`["user=question", "assistant=answer"]` as a dictionary; None for an empty list.

    Raises:
        UserError: a pair has no `=`, or a role is named twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not (role and equals and column) or role in mapping:
            raise UserError(f"--map {pair!r} is not understood; expected ROLE=COLUMN, each role once: user=question")
        mapping[role] = column
    return mapping or None
