"""A notebook opened alone: its first code cell, and the packages that it gets."""

import json
import os
import subprocess
import sys

import pytest

import fintune_kit
from fintune_kit.kaggle.cells import alone_cell
from fintune_kit.kaggle.manifest import read_chain
from fintune_kit.kaggle.session.alone import prepare
from tests.kaggle.conftest import pretend_installed

RUN = """
import importlib.util, sys
from IPython.core.interactiveshell import InteractiveShell

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "fintune_kit" and {hidden} else find_spec(name)
InteractiveShell.instance().run_cell({cell!r}).raise_error()
"""
STAND_IN_FOR_PIP = """
import os, sys
from pathlib import Path

print("pip", *sys.argv[1:], flush=True)
floor = Path(os.environ["INSTALLED"], "fintune_kit", "kaggle", "session")
floor.mkdir(parents=True)
for folder in (floor, floor.parent, floor.parent.parent):
    (folder / "__init__.py").write_text("")
(floor / "alone.py").write_text("def prepare(**named): print('prepared', named)")
"""


@pytest.fixture
def run(tmp_path):
    """Runs a cell in IPython, where fintune_kit is not installed and pip is a stand-in."""
    (tmp_path / "stand-ins" / "pip").mkdir(parents=True)
    (tmp_path / "stand-ins" / "pip" / "__init__.py").write_text("")
    (tmp_path / "stand-ins" / "pip" / "__main__.py").write_text(STAND_IN_FOR_PIP)
    (tmp_path / "installed").mkdir()

    def go(cell, *, hidden=True):
        paths = os.pathsep.join(map(str, (tmp_path / "stand-ins", tmp_path / "installed")))
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": paths}
        command = [sys.executable, "-c", RUN.format(cell=cell, hidden=hidden)]
        environment["INSTALLED"] = str(tmp_path / "installed")
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    return go


REPOSITORY = "https://github.com/alice/fintune-kit"


def test_where_the_library_is_the_cell_does_nothing(run):
    done = run(alone_cell(REPOSITORY, version="0.1.0", accelerator=None), hidden=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("accelerator", "named"), [(None, "{}"), ("TpuV5E8", "{'accelerator': 'TpuV5E8'}")])
def test_where_it_is_missing_the_release_comes_by_one_line_of_pip_and_then_its_packages(run, accelerator, named):
    done = run(alone_cell(REPOSITORY, version="0.1.0", accelerator=accelerator))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("pip", "prepared"))]
    assert lines == [
        "pip install --quiet --no-deps git+https://github.com/alice/fintune-kit@v0.1.0",
        f"prepared {named}",
    ]


def test_where_there_is_no_release_one_sentence_says_what_to_do(run):
    done = run(alone_cell(None, version="0.1.0", accelerator=None))
    assert done.returncode == 1
    assert "no fintune-kit here and no public release yet: pip install -e . in a checkout of it" in done.stderr
    assert "pip install --quiet" not in done.stdout


def test_each_notebook_begins_with_the_cell_of_our_manifest(repository):
    chain = read_chain(repository, owner="alice")
    assert len(chain.kernels) >= 5
    for kernel in chain.kernels:
        cells = [cell for cell in json.loads(kernel.notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        expected = alone_cell(chain.repository, version=fintune_kit.__version__, accelerator=kernel.accelerator)
        assert "".join(cells[0]["source"]) == expected, "run python notebooks/write_first_cells.py"


# The packages


@pytest.fixture
def image(tmp_path, monkeypatch, pip):
    """An image with an old torchao, neither on Kaggle nor on Colab; pip is a stand-in."""
    pip.removes = pretend_installed(tmp_path / "image", "torchao", "0.10.0")
    monkeypatch.syspath_prepend(tmp_path / "image")
    monkeypatch.setattr("fintune_kit.kaggle.session.alone.requirements_of_this_release", lambda: ["no-such-kit==1"])
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    return tmp_path


def verbs(pip):
    return [command[3] for command in pip.commands]


def test_in_a_users_own_environment_packages_are_added_and_none_is_removed(image, pip):
    prepare()
    assert verbs(pip) == ["install"]
    assert pip.command[-1] == "no-such-kit==1"


def test_on_kaggle_it_does_what_a_built_kernel_does(image, pip, environment, kaggle_root, capsys):
    prepare()
    assert verbs(pip) == ["uninstall", "install"]
    assert environment["HF_HOME"].startswith(str(kaggle_root / "temp"))
    assert float(environment["FINTUNE_SESSION_BEGAN"]) > 0
    assert "this takes one to three minutes" in capsys.readouterr().out


def test_on_colab_what_conflicts_goes(image, pip):
    (image / "image" / "google" / "colab").mkdir(parents=True)
    (image / "image" / "google" / "colab" / "__init__.py").write_text("")
    prepare()
    assert verbs(pip) == ["uninstall", "install"]


def test_a_notebook_for_a_tpu_gets_its_own_packages(image, pip, monkeypatch):
    packages = {"requirements": ["no-such-jax==2"], "constraints": []}
    monkeypatch.setattr("fintune_kit.kaggle.session.alone.tpu_packages_of", lambda _: packages)
    prepare(accelerator="TpuV5E8")
    assert [command[-1] for command in pip.commands] == ["no-such-kit==1", "no-such-jax==2"]
