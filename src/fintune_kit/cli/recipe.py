"""`fintune-kit recipe show|check`: a recipe with every value and its reason, as TOML, and a file looked through."""

from pathlib import Path

from cyclopts import App

from fintune_kit.cli.flags import FLAGS
from fintune_kit.cli.opening import UNCHANGED, RecipeFlags
from fintune_kit.recipe_values import differences
from fintune_kit.recipes import DEFAULT, named_recipe, read_recipe

recipe = App(
    name="recipe",
    help="Show a recipe with the reason of each value, or check a recipe file.",
    default_parameter=FLAGS,
)


@recipe.command
def show(*, recipe: RecipeFlags = UNCHANGED) -> None:
    """Print the whole recipe as TOML, each value under its reason.

    What is printed can be saved, changed and used: `fintune-kit recipe show > mine.toml`, `--recipe mine.toml`.
    """
    print(recipe.load().as_toml(), end="")


@recipe.command
def check(file: Path, /) -> None:
    """Read a recipe file and list where it differs from p100.

    Args:
        file: A recipe in TOML.
    """
    found = read_recipe(file)
    print(f"{file}: recipe {found.name} is whole")
    for name, (value, usual) in differences(found, named_recipe(DEFAULT)).items():
        if name != "name":
            print(f"  {name} = {value!r} ({DEFAULT}: {usual!r})")
