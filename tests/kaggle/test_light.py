"""Kernels are built and pushed from a machine that has Kaggle's client and this package, and nothing that computes."""

import os
import pkgutil
import subprocess
import sys

import pytest

import fintune_kit.kaggle

HEAVY = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "jax",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)
BLOCK = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Missing())
"""


def run_without_heavy_packages(code, **how):
    """Runs code in a Python that cannot import them."""
    return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False, **how)


def modules_of_the_room():
    package = fintune_kit.kaggle
    return [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def test_the_block_blocks():
    for name in HEAVY:
        done = run_without_heavy_packages(f"import {name}")
        assert f"{name} is not installed here" in done.stderr


def test_every_module_of_the_room_can_be_imported():
    names = [*modules_of_the_room(), "fintune_kit.cli.kaggle"]
    assert len(names) > 10
    done = run_without_heavy_packages("\n".join(f"import {name}" for name in names))
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["build"], ["push", "01_data"], ["status"]])
def test_the_commands_work(checkout, loopback, arguments):
    code = f"from fintune_kit.cli.main import main; sys.exit(main(['kaggle', *{arguments!r}]))"
    done = run_without_heavy_packages(code, cwd=checkout, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert "01_data" in done.stdout
