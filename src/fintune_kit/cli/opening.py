"""The recipe and the workspace that a verb works with."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fintune_kit.recipes import RECIPES, Recipe, load_recipe
from fintune_kit.workspace import Workspace, open_workspace

RecipeName = Annotated[
    str | None, Parameter(name="--recipe", help=f"{', '.join(RECIPES)}; default: FINTUNE_RECIPE, else p100")
]


def open_recipe(name: str | None) -> tuple[Recipe, Workspace]:
    """The recipe that `--recipe` names, and its workspace."""
    recipe = load_recipe(name)
    return recipe, open_workspace(recipe.name)


def folder_of(given: Path | None, workspace: Workspace, stage: str) -> Path:
    """The folder that the user named, else the finished stage in the workspace."""
    return given or workspace.existing(stage)
