"""Opens the recipe and the workspace of a verb, and makes the flags that change a recipe.

Each value of a recipe has a flag of the same name, such as `--train.learning-rate`. It is made from the dataclasses in
`recipes.py`: its type is the field's type, its help is the docstring under the field.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, get_type_hints

from cyclopts import Group, Parameter

from fintune_kit.cli.flags import whole_number, whole_number_or_none
from fintune_kit.recipe_values import flattened, value_at, values_of
from fintune_kit.recipes import DEFAULT, RECIPES, Change, Recipe, load_recipe, named_recipe, parsed_changes
from fintune_kit.workspace import Workspace, open_workspace

CONVERTERS = {int: whole_number, int | None: whole_number_or_none}
"""Of flags, by the type of the value."""


def _flags_of(kind: type, *, section: str = "") -> Any:
    """A dictionary type with a key for each value. The dictionary holds only the values that the user gave."""
    hints, known = get_type_hints(kind), values_of(Recipe)
    default = named_recipe(DEFAULT)
    group = Group(f"Recipe, {section}" if section else "Recipe", sort_key=1)
    keys = {}
    for field in dataclasses.fields(kind):
        name = f"{section}.{field.name}" if section else field.name
        if dataclasses.is_dataclass(hints[field.name]):
            keys[field.name] = _flags_of(hints[field.name], section=field.name)
        elif name in known and name != "name":  # a recipe is named by --recipe
            hint = hints[field.name]
            keys[field.name] = Annotated[
                hint,
                Parameter(
                    help=f"{known[name].reason} {DEFAULT}: {_written(value_at(default, name))}.",
                    group=group,
                    negative=f"--{section}.no-{field.name.replace('_', '-')}" if hint is bool else (),
                    converter=CONVERTERS.get(hint),
                ),
            ]
    return TypedDict(f"{kind.__name__}Flags", keys, total=False)  # type: ignore[operator]


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


if TYPE_CHECKING:
    ValueFlags = dict[str, Any]
else:
    ValueFlags = _flags_of(Recipe)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeChoice:
    """The flags that choose a recipe: its name, and values with `--set`."""

    recipe: Annotated[
        str | None,
        Parameter(help=f"{', '.join(RECIPES)}, or a TOML file. Default: FINTUNE_RECIPE, else {DEFAULT}."),
    ] = None
    assignments: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    """NAME=VALUE for any value of the recipe, as in train.learning_rate=1e-4; may be repeated."""

    def load(self, also: Sequence[Change] = ()) -> Recipe:
        """The recipe by the flags.

        Args:
            also: changes by other flags of the verb. A change to None is left out.
        """
        flags = [change for change in also if change.value is not None]
        return load_recipe(self.recipe, changes=[*flags, *parsed_changes(self.assignments, origin="--set")])

    def open(
        self,
        *,
        stage: str | None = None,
        fresh: bool = False,
        out: Path | None = None,
        also: Sequence[Change] = (),
    ) -> tuple[Recipe, Workspace]:
        """The recipe for this stage, and its workspace; see `load` and `workspace.open_workspace`."""
        return open_workspace(self.load(also), stage=stage, fresh=fresh, out=out)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeFlags(RecipeChoice):
    """The same flags, and a flag for each value of the recipe."""

    values: Annotated[ValueFlags | None, Parameter(name="*")] = None

    def load(self, also: Sequence[Change] = ()) -> Recipe:
        """The recipe by the flags, with the values of their own flags."""
        given = flattened(self.values or {}, Recipe, origin="the command line")
        flags = [Change(name=name, value=value, origin=f"--{name.replace('_', '-')}") for name, value in given.items()]
        return super().load([*flags, *also])


DEFAULT_CHOICE = RecipeChoice()
UNCHANGED = RecipeFlags()


def folder_of(given: Path | None, workspace: Workspace, stage: str) -> Path:
    """The folder that the user named, else the finished stage in the workspace.

    Raises:
        MissingInputError: no folder was named, and the workspace has none.
    """
    return given or workspace.existing(stage)
