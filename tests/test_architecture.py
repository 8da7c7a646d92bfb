"""Imports point one way: the root knows no stage, a stage knows the root and the stages before it."""

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src" / "fintune_kit"
STAGES = ("data", "pack", "train", "evaluate")
ORDER_KNOWN_BY = (
    "cli",
    "cli_kaggle",
    "cli_train",
    "cli_transactions",
    "kaggle",
    "__main__",
)  # with the notebooks, all that may know the order of the stages
SEES = {stage: {*STAGES[: number + 1]} for number, stage in enumerate(STAGES)} | {
    "pack": {"pack"},
    "train": {"pack", "train"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))
ENVIRONMENT_READ_BY = (
    "recipes.py",
    "workspace.py",
    "hardware.py",
    "launch.py",
    "session.py",
    "cells.py",
    "devices.py",
)


def rooms(path: Path) -> set[str]:
    """The first name below `fintune_kit` of everything that a module imports from the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: say the whole path"
            if node.module == "fintune_kit":
                names = [f"fintune_kit.{alias.name}" for alias in node.names]
            else:
                names = [node.module or ""]
        found |= {name.split(".")[1] for name in names if name.startswith("fintune_kit.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if place in ORDER_KNOWN_BY:
        return
    stages = {*STAGES, "kaggle"} & rooms(path)
    assert stages <= SEES.get(place, set()), f"{place} must not know {sorted(stages - SEES.get(place, set()))}"


def test_the_guard_sees_imports():
    assert {"pack", "train", "recipes"} <= rooms(PACKAGE / "train" / "stage.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_a_room_with_its_purpose_said_on_top(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "no paragraph on top says what this module is for"
    assert path.name not in ("utils.py", "helpers.py", "common.py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, "over 300 lines: two purposes?"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_recipes_and_workspace_read_the_environment(path):
    if path.name in ENVIRONMENT_READ_BY:  # hardware asks for cores; launch and session hand the environment on
        return
    text = path.read_text(encoding="utf-8")
    assert "os.environ" not in text
    assert "getenv" not in text
    assert "trust_remote_code=True" not in text
    assert "pickle.load" not in text
