"""Kernels are pushed from a machine that has requirements-kaggle.txt and this package, and nothing that computes."""

import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

import fintune_kit.kaggle

HEAVY = ("accelerate", "datasets", "matplotlib", "numpy", "peft", "pyarrow", "torch", "transformers", "trl")
BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Missing())
"""


def lines(path):
    return [line.partition("#")[0].strip() for line in path.read_text().splitlines() if line.partition("#")[0].strip()]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def with_dependencies(names):
    """These distributions and all that they ask for."""
    found, waiting = set(), list(names)
    while waiting:
        name = normal(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            asked = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python or system
        waiting += [r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def light(repository):
    """Runs code in a Python that can import only what requirements-kaggle.txt installs."""
    allowed = with_dependencies(Requirement(line).name for line in lines(repository / "requirements-kaggle.txt"))
    owners = importlib.metadata.packages_distributions()
    blocked = {name for name, dists in owners.items() if not allowed & {normal(dist) for dist in dists}}
    blocked -= {"fintune_kit", "_virtualenv", "pip", "pkg_resources", "setuptools"}
    assert blocked.issuperset(HEAVY)

    def run(code, **how):
        command = [sys.executable, "-c", BLOCK.format(blocked=sorted(blocked)) + code]
        return subprocess.run(command, capture_output=True, text=True, check=False, **how)

    return run


def test_the_block_blocks(light):
    for name in HEAVY:
        assert f"{name} is not installed here" in light(f"import {name}").stderr


def test_every_module_of_the_room_can_be_imported(light):
    package = fintune_kit.kaggle
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    assert len(names) > 10
    done = light("\n".join(f"import {name}" for name in [*names, "fintune_kit.cli.kaggle"]))
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["build"], ["push", "01_data"], ["status"], ["push", "--help"]])
def test_the_commands_work(light, checkout, loopback, arguments):
    code = f"from fintune_kit.cli.main import main; sys.exit(main(['kaggle', *{arguments!r}]))"
    done = light(code, cwd=checkout, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert "01_data" in done.stdout


def test_its_pins_are_those_that_the_tests_run_with(repository):
    pins = lines(repository / "requirements-kaggle.txt")
    assert pins
    assert set(pins) <= set(lines(repository / "requirements.txt"))
