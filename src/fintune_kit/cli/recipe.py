"""`fintune-kit recipe show|check`: prints a recipe as TOML with the reason of each value, or checks a recipe file."""

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

    You can save the output, change it and use it: `fintune-kit recipe show > mine.toml`, `--recipe mine.toml`.
    """
    print(recipe.load().as_toml(), end="")


@recipe.command
def check(file: Path, /) -> None:
    """Check a recipe file and list its differences from p100.

    Args:
        file: A recipe in TOML.
    """
    found = read_recipe(file)
    print(f"{file}: recipe {found.name} is valid")
    for name, (value, usual) in differences(found, named_recipe(DEFAULT)).items():
        if name != "name":
            print(f"  {name} = {value!r} ({DEFAULT}: {usual!r})")
