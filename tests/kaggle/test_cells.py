"""The generated first cell, run as Kaggle would: in a bare Python, with nothing of ours on its path."""

import base64
import json
import lzma
import os
import re
import subprocess
import sys
from typing import get_args

import pytest

from fintune_kit.kaggle.cells import first_cell, last_cell
from fintune_kit.kaggle.delivery import Delivery, Method, deliver
from fintune_kit.kaggle.kernels import build_kernels

SESSION_STAND_IN = '''
"""A stand-in that prints the arguments of its call."""
def begin(session, *, library, sha256):
    print(session["kernel"], session["accelerator"], library, sha256[:6])
def end():
    print("ended")
'''


@pytest.fixture
def run(checkout, chain, tmp_path):
    """Builds 03_train and runs its first and last cell below a fake `/kaggle`."""
    floor = checkout / "src" / "fintune_kit" / "kaggle" / "session"
    floor.mkdir(parents=True)
    for folder in (floor.parent, floor):
        (folder / "__init__.py").write_text("")
    (floor / "begin.py").write_text(SESSION_STAND_IN)
    root = tmp_path / "kaggle"

    def go(*, method="embed", change=lambda source: source):
        delivery = deliver(chain, method=method)
        (built, *_) = build_kernels(chain, [chain.kernel("03_train")], out=tmp_path / "build", delivery=delivery)
        cells = json.loads((built.folder / "03_train.ipynb").read_text())["cells"]
        script = (
            change(cells[0]["source"]) + "\nimport fintune_kit\nprint(fintune_kit.__file__)\n" + cells[-1]["source"]
        )
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FINTUNE_KAGGLE_ROOT": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
        )
        return done, delivery

    return go


def test_the_embedded_library_is_installed_outside_the_output_and_begins_the_session(run, tmp_path):
    done, delivery = run()
    assert done.stderr == ""
    said, where, ended = done.stdout.splitlines()
    assert said == f"03_train NvidiaTeslaT4 fintune_kit-9.9-py3-none-any.whl {delivery.sha256[:6]}"
    assert where.startswith(str(tmp_path / "kaggle" / "temp" / f"fintune-kit-{delivery.sha256[:12]}"))
    assert ended == "ended"
    assert not (tmp_path / "kaggle" / "working").exists()


def test_a_changed_wheel_is_not_installed(run, tmp_path):
    another = base64.b64encode(lzma.compress(b"another wheel")).decode()
    done, _ = run(change=lambda source: re.sub(r'b64decode\("[^"]+"\)', f'b64decode("{another}")', source))
    assert done.returncode == 1
    assert "the wheel in this cell has SHA-256" in done.stderr
    assert not (tmp_path / "kaggle" / "temp").exists()


@pytest.mark.parametrize("layout", ["datasets/alice/fintune-kit-wheel", "fintune-kit-wheel"])
def test_the_dataset_is_found_in_both_layouts(run, tmp_path, chain, layout):
    delivery = deliver(chain, method="dataset")
    folder = tmp_path / "kaggle" / "input" / layout
    folder.mkdir(parents=True)
    (folder / delivery.name).write_bytes(deliver(chain, method="embed").wheel)
    done, _ = run(method="dataset")
    assert done.stderr == ""
    assert done.stdout.endswith("ended\n")


def test_a_missing_dataset_says_what_to_do(run):
    done, _ = run(method="dataset")
    assert "is not in the dataset alice/fintune-kit-wheel: push again with --deliver dataset" in done.stderr


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_gives_valid_python_that_a_reader_can_follow(method):
    delivery = Delivery(
        method=method, name="git+https://x/y@1", sha256="ab" * 32, wheel=b"wheel" * 100, dataset="alice/d"
    )
    source = first_cell({"kernel": "01_data", "accelerator": None}, delivery)
    compile(source, "cell", "exec")
    compile(last_cell(), "cell", "exec")
    assert [line for line in source.splitlines() if len(line) > 130 and delivery.payload not in line] == []
