"""`fintune-kit evaluate`: scores of the base and of the adapter."""

import os
from pathlib import Path

from fintune_kit.cli.flags import Count
from fintune_kit.cli.opening import RecipeName, folder_of, open_recipe


def evaluate(
    *,
    adapter: Path | None = None,
    conversations: Path | None = None,
    packed: Path | None = None,
    out: Path | None = None,
    run: Path | None = None,
    most_generated: Count = 100,
    task: tuple[str, ...] = (),
    recipe: RecipeName = None,
) -> None:
    """Score the base and the adapter and write evaluation/.

    Args:
        adapter: The folder that `fintune-kit train` wrote. Default: the workspace's.
        conversations: The folder that `fintune-kit data` wrote. Default: the workspace's.
        packed: The folder that `fintune-kit pack` wrote. Default: the workspace's.
        out: The folder to write. Default: evaluation/ in the workspace.
        run: The run whose log goes into the model card. Default: the workspace's.
        most_generated: How many questions of a task are answered in free text.
        task: A task's name or a file of questions; may be repeated.
    """
    from fintune_kit.evaluate.stage import evaluate as score
    from fintune_kit.evaluate.tables import format_table
    from fintune_kit.publish.model_card import write_model_card

    chosen, workspace = open_recipe(recipe)
    folder = out or workspace.folder("evaluation")
    stages = {
        "adapter": folder_of(adapter, workspace, "adapter"),
        "conversations": folder_of(conversations, workspace, "conversations"),
        "packed": folder_of(packed, workspace, "packed"),
    }
    scores = score(chosen, workspace, **stages, out=folder, tasks=task, max_generated=most_generated)
    card = write_model_card(
        **stages,
        run=folder_of(run, workspace, "run"),
        evaluation=folder,
        out=None if os.access(stages["adapter"], os.W_OK) else folder / "README.md",  # Kaggle's inputs are read-only
    )
    print(f"{format_table(scores)}\n{folder}\n{card}")
