"""The extras of pyproject.toml hold what each room imports; the base holds what `plan` and `recipe` import."""

import ast
import importlib.metadata
import re
import sys
import tomllib

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src" / "fintune_kit"
EXTRAS_OF = {
    "chat": "train",
    "pack": "train",
    "train": "train",
    "data": "train",
    "evaluate": "evaluate",
    "publish": "evaluate",
    "bank": "bank",
    "kaggle": "kaggle",
    "plan": None,
    "cli": None,
    "recipes.py": None,
    "recipe_values.py": None,
    "workspace.py": None,
    "errors.py": None,
    "tiny.py": "train",
    "conversations.py": "train",
    "plots.py": "train",
}
COMES_WITH = {
    "kaggle_secrets": "a session on Kaggle",
    "IPython": "a notebook",
    "kagglesdk": "kaggle",
    "packaging": "kaggle",
    "requests": "kaggle",
    "triton": "torch, on a card",
}
"""Imported without being declared, and what brings it."""


def normal(name):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name).group()).lower()


@pytest.fixture(scope="module")
def extras():
    """The packages of the base (None) and of each extra with the base and the extras that it holds."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"]

    def packages(specs):
        inner = [
            name for spec in specs for found in re.findall(r"fintune-kit\[(.*)\]", spec) for name in found.split(",")
        ]
        return {normal(spec) for spec in specs} | {p for name in inner for p in packages(declared[name])}

    base = packages(project["dependencies"])
    return {None: base} | {name: base | packages(specs) for name, specs in declared.items()}


def imported(path):
    """The packages outside this one and the standard library that a module imports, on top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"fintune_kit"}


@pytest.mark.parametrize("room", EXTRAS_OF)
def test_what_a_room_imports_is_in_its_extra(extras, room):
    place = PACKAGE / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    modules = {name for path in files for name in imported(path)} - COMES_WITH.keys()
    distributions = importlib.metadata.packages_distributions()
    missing = {m for m in modules if not {normal(d) for d in distributions.get(m, [m])} & extras[EXTRAS_OF[room]]}
    assert not missing


def test_the_guard_sees_imports():
    assert {"torch", "transformers", "bitsandbytes"} <= imported(PACKAGE / "train" / "model.py")
    assert "tomlkit" in imported(PACKAGE / "recipe_values.py")


def test_all_holds_every_extra_that_a_user_may_want(extras):
    assert extras["all"] == set.union(
        *(extras[name] for name in ("train", "evaluate", "bank", "kaggle", "notebooks"))
    ) | {"fintune-kit"}
