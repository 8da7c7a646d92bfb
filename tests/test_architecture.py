"""The house: imports point one way, between sub-folders too; a room says its purpose; functions stay short."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src" / "fintune_kit"
MODULES = sorted(PACKAGE.rglob("*.py"))

KNOWS = {
    "chat": (),
    "pack": ("chat",),
    "plan": ("pack",),
    "train": ("chat", "pack", "plan"),
    "bank": ("chat",),
    "data": ("chat", "bank"),
    "evaluate": ("chat", "pack", "plan", "train", "bank", "data"),
    "publish": ("chat", "pack", "plan", "train", "bank", "data", "evaluate"),
    "tpu": ("chat", "pack", "plan", "train"),
    "kaggle": (),
}
"""Which rooms a room may import. Every room may import the root files, and these import no room."""
FLOORS_OF_DATA = ("read", "convert", "rules", "choose")
"""Each may import those before it; the files beside them tie them together."""
KNOWS_THE_ORDER = ("cli", "__main__")
"""With the notebooks, all that may import every room."""
MAX_FILES = 20
"""On one floor, with its `__init__.py`."""
MAX_FUNCTION_LINES = 40
"""Without the docstring."""
CORE = (
    "chat",
    "pack/tree.py",
    "train/model.py",
    "train/loss.py",
    "train/attention.py",
    "train/trainer.py",
)
MAX_CORE_LINES = 1700
ENVIRONMENT_READ_BY = (
    "recipes.py",
    "workspace.py",
    "hardware.py",
    "launch.py",
    "variables.py",
    "cells.py",
    "devices.py",
)


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports, as `data.read.lines`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: say the whole path"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.removeprefix("fintune_kit.") for name in names if name.startswith("fintune_kit.")}
    return found


def rooms(path: Path) -> set[str]:
    """The first name of each, where it is a room."""
    return {name.split(".")[0] for name in imported(path)} & {*KNOWS, "cli"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    place = _place(path)
    if place not in KNOWS_THE_ORDER:
        allowed = {place, *KNOWS.get(place, ())}
        assert rooms(path) <= allowed, f"{place} must not know {sorted(rooms(path) - allowed)}"


@pytest.mark.parametrize("number", range(len(FLOORS_OF_DATA)))
def test_the_floors_of_data_know_those_before_them(number):
    floor = FLOORS_OF_DATA[number]
    allowed = set(FLOORS_OF_DATA[: number + 1])
    modules = sorted((PACKAGE / "data" / floor).glob("*.py"))
    assert len(modules) > 1, "an empty floor could not break the rule"
    for path in modules:
        above = {n.split(".")[1] for n in imported(path) if n.startswith("data.") and n.split(".")[1] in FLOORS_OF_DATA}
        assert above <= allowed, f"{path.name} must not know {sorted(above - allowed)}"


def test_no_two_modules_import_each_other():
    edges = {path: imported(path) for path in MODULES}
    names = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}
    modules = {name: path for path, name in names.items()}
    knows = {
        path: {m for name in edges[path] for m in (name, name.rpartition(".")[0]) if m in modules} for path in MODULES
    }

    def reaches(start: Path) -> set[Path]:
        seen: set[Path] = set()
        waiting = [modules[m] for m in knows[start]]
        while waiting:
            path = waiting.pop()
            if path not in seen:
                seen.add(path)
                waiting += [modules[m] for m in knows[path]]
        return seen

    circles = [names[path] for path in MODULES if path in reaches(path)]
    assert not circles, circles


def test_who_imports_a_library_that_may_fetch_code_forbids_it_first():
    """`forbid_hub_kernels` is called by the room itself, or by a room that it imports."""
    libraries = re.compile(r"^ *(?:from|import) (?:transformers|bitsandbytes|peft|trl)\b", re.MULTILINE)
    texts = {path: path.read_text(encoding="utf-8") for path in MODULES}
    doors = {
        _place(path) for path, text in texts.items() if re.search(r"^ *forbid_hub_kernels\(\)", text, re.MULTILINE)
    }
    users = {_place(path) for path, text in texts.items() if libraries.search(text)}
    assert doors == {"chat", "train", "tiny", "hardware"}
    assert {"evaluate", "tpu", "publish"} <= users, "the pattern would not see an import"
    assert [user for user in users if not doors & {user, *KNOWS.get(user, ())}] == []


def _place(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_guard_sees_imports():
    assert {"pack", "plan"} <= rooms(PACKAGE / "train" / "stage.py")
    assert "data.read.lines.Row" in imported(PACKAGE / "data" / "read" / "files.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_a_room_with_its_purpose_said_on_top(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    purpose = ast.get_docstring(tree)
    assert purpose, "no paragraph on top says what this module is for"
    assert len(purpose) > 20, f"{purpose!r} says nothing"
    assert path.name not in ("utils.py", "helpers.py", "common.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_short(path):
    longer = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
            if lines > MAX_FUNCTION_LINES:
                longer[node.name] = lines
    assert not longer, f"{longer} are too long; cut them"


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def test_a_floor_has_few_files():
    floors = {path.parent for path in MODULES}
    counts = {str(floor.relative_to(PACKAGE)): len(list(floor.glob("*.py"))) for floor in floors}
    assert max(counts.values()) <= MAX_FILES, counts


def core_lines() -> dict[str, int]:
    """The lines of each file of the core."""
    files = [file for place in CORE for file in sorted((PACKAGE / place).rglob("*.py"))] + [
        PACKAGE / place for place in CORE if place.endswith(".py")
    ]
    assert len(files) > len(CORE), "chat/ holds more than one file"
    return {file.relative_to(PACKAGE).as_posix(): len(file.read_text(encoding="utf-8").splitlines()) for file in files}


def test_the_core_can_be_read_in_an_hour():
    assert sum(core_lines().values()) <= MAX_CORE_LINES, core_lines()


def test_the_readme_lists_the_core_and_its_length():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    _, _, reading_path = readme.partition("## Read the core in an hour")
    said = re.search(r"([\d,]+) lines, in this order", reading_path)
    assert said, "the README does not say how long the core is"
    lines = {name: count for name, count in core_lines().items() if not name.endswith("__init__.py")}
    assert [name for name in lines if f"`{name}`" not in reading_path] == []
    assert int(said[1].replace(",", "")) == pytest.approx(sum(lines.values()), rel=0.02), lines


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_recipes_and_workspace_read_the_environment(path):
    if path.name in ENVIRONMENT_READ_BY:  # hardware asks for cores; launch and session hand the environment on
        return
    text = path.read_text(encoding="utf-8")
    assert "os.environ" not in text
    assert "getenv" not in text
    assert "trust_remote_code=True" not in text
    assert "pickle.load" not in text
