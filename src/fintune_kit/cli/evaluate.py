"""`fintune-kit evaluate`: scores the base and the adapter."""

import os
from pathlib import Path

from fintune_kit.cli.flags import Count, Folder, WholeNumber
from fintune_kit.cli.opening import DEFAULT_CHOICE, RecipeChoice, folder_of
from fintune_kit.workspace import MANIFEST, Workspace


def evaluate(
    *,
    base: str | None = None,
    adapter: Path | None = None,
    conversations: Path | None = None,
    packed: Path | None = None,
    out: Folder | None = None,
    run: Path | None = None,
    runs: tuple[Path, ...] = (),
    most_generated: Count = 100,
    shots: WholeNumber = 0,
    task: tuple[str, ...] = (),
    recipe: RecipeChoice = DEFAULT_CHOICE,
) -> None:
    """Score the base and the adapter and write evaluation/.

    Args:
        base: A base model, by hub id or folder. Without --adapter it is scored alone. Default: the recipe's.
        adapter: The folder that `fintune-kit train` wrote, or any PEFT adapter. Default: the workspace's.
        conversations: The folder that `fintune-kit data` wrote. Default: the workspace's.
        packed: The folder that `fintune-kit pack` wrote. Default: the workspace's.
        out: The folder to write. Default: evaluation/ in the workspace.
        run: The run whose log goes into the model card. Default: the workspace's.
        runs: Score nothing. Show the mean and spread of these finished evaluations, one for each seed.
        most_generated: How many questions of a task are answered in free text, at most.
        shots: Solved examples before each question of the named tasks.
        task: A task's name or a file of questions; may be repeated.
    """
    from fintune_kit.evaluate.stage import evaluate as score
    from fintune_kit.evaluate.tables import format_over_seeds, format_table, over_seeds, read_scores

    if runs:
        print(format_over_seeds(over_seeds([read_scores(folder) for folder in runs])))
        return
    chosen, workspace = recipe.open()
    folder = out or workspace.folder("evaluation")
    scores = score(
        chosen,
        workspace,
        tasks=task,
        base=base,
        adapter=adapter,
        conversations=conversations,
        packed=packed,
        out=folder,
        max_generated=most_generated,
        shots=shots,
    )
    print(f"{format_table(scores)}\n{folder}")
    if base is None and (adapter is None or (adapter / MANIFEST).is_file()):
        print(_write_card(workspace, adapter, run, packed, conversations, folder))


def _write_card(
    workspace: Workspace,
    adapter: Path | None,
    run: Path | None,
    packed: Path | None,
    conversations: Path | None,
    evaluation: Path,
) -> Path:
    """Writes the model card into the adapter's folder, or beside the scores if that folder is read-only."""
    from fintune_kit.publish.model_card import write_model_card

    trained = folder_of(adapter, workspace, "adapter")
    return write_model_card(
        trained,
        run=folder_of(run, workspace, "run"),
        packed=folder_of(packed, workspace, "packed"),
        conversations=folder_of(conversations, workspace, "conversations"),
        evaluation=evaluation,
        out=None if os.access(trained, os.W_OK) else evaluation / "README.md",  # Kaggle's inputs are read-only
    )
