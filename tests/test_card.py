"""The first hour on a card, rehearsed on a CPU: every step is listed, says its purpose, and the quick ones run."""

import ast
import json
import os
import subprocess
import sys

import pytest

from benchmarks.card.__main__ import STEPS
from benchmarks.card.loop import covered
from benchmarks.card.prepare import keep_library
from tests.conftest import REPOSITORY

CARD = REPOSITORY / "benchmarks" / "card"
QUICK = ("environment", "kernels", "exactness")
"""The others take minutes, as `python -m benchmarks.card --rehearse --out OUT`."""


def test_every_step_is_a_module_that_says_which_one_it_is():
    for number, step in enumerate(STEPS, 1):
        purpose = ast.get_docstring(ast.parse((CARD / f"{step}.py").read_text())) or ""
        assert purpose.startswith(f"Step {number}: "), step


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The folder of results of the quick steps."""
    folder = tmp_path_factory.mktemp("card")
    command = [sys.executable, "-m", "benchmarks.card", "--rehearse", "--only", *QUICK]
    done = subprocess.run(
        [*command, "--out", str(folder / "out"), "--work", str(folder / "work")],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return folder / "out"


def test_each_step_leaves_a_file_and_a_line(rehearsed):
    for step in QUICK:
        assert json.loads((rehearsed / f"{step}.json").read_text())["rehearsal"] is True
    lines = (rehearsed / "lines.md").read_text().splitlines()
    assert [line.split()[0] for line in lines] == list(QUICK)


def test_half_precision_is_near_float32_and_outlives_a_large_channel(rehearsed):
    found = json.loads((rehearsed / "exactness.json").read_text())["of_dtype"]["bfloat16"]
    assert 0 < found["loss_relative"] < 1e-2, "equal losses would mean that nothing ran in bfloat16"
    assert found["gradient_cosine"] > 0.99
    assert found["finite_with_1e5_planted"] is True


def test_a_step_that_fails_says_so_in_its_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.card.chain", "--bundle", str(tmp_path), "--out", str(tmp_path / "out")],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "packed.tar.xz" in json.loads((tmp_path / "out" / "chain.json").read_text())["failed"]


def test_busy_time_counts_kernels_that_overlap_once():
    assert covered([(0.0, 4.0), (1.0, 2.0), (3.0, 6.0), (8.0, 9.0)]) == 7.0


def test_only_the_library_for_the_cards_cuda_travels(tmp_path):
    from zipfile import ZipFile

    wheel = tmp_path / "bitsandbytes-1-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for name in ("__init__.py", "lib_cpu.so", "lib_cuda128.so", "lib_cuda130.so"):
            archive.writestr(f"bitsandbytes/{name}", "")
    keep_library(wheel, cuda="130")
    assert ZipFile(wheel).namelist() == [
        f"bitsandbytes/{name}" for name in ("__init__.py", "lib_cpu.so", "lib_cuda130.so")
    ]
    with pytest.raises(AssertionError, match="no library for CUDA 118"):
        keep_library(wheel, cuda="118")
