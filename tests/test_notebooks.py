"""How the notebooks are written; that they run is shown by nbmake."""

import ast
import importlib
import json

import pytest

from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def load(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook, [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebooks_are_there():
    assert {"01_data", "02_pack", "03_train_p100", "04_evaluate", "05_statements"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs_and_with_a_kernel(path):
    notebook, code = load(path)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3", "Kaggle runs papermill, which needs a kernelspec"
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    tags = [tag for cell in notebook["cells"] for tag in cell["metadata"].get("tags", [])]
    assert "raises-exception" not in tags, "papermill ignores the tag and fails"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_sentence_cell_look(path):
    notebook, code = load(path)
    assert 8 <= len(code) <= 14
    assert notebook["cells"][0]["cell_type"] == "markdown"
    first = "".join(notebook["cells"][0]["source"])
    assert "**Reads**" in first
    assert "**Writes**" in first
    for cell in code:
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 15
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert sum("assert " in "".join(cell["source"]) for cell in code) >= 2, "claims are followed by cells that can fail"


def imported_names(path):
    """The imports of a notebook from our package, as (module, name)."""
    _, code = load(path)
    trees = [ast.parse("".join(cell["source"])) for cell in code]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, alias.name) for node in nodes if node.module.startswith("fintune_kit") for alias in node.names
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_is_there(path):
    names = imported_names(path)
    assert len(names) > 3, "a notebook without imports could not miss one"
    missing = [f"{module}.{name}" for module, name in names if not hasattr(importlib.import_module(module), name)]
    assert not missing
