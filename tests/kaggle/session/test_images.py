"""Our packages beside those of the images that Kaggle's sessions may run: pip must find a solution for each.

Kaggle's GPU image is built on Colab's. The versions are those of the base images of 2026: 20260716 (Python 3.12), and
the one that Colab went to on 2026-08-19 (Python 3.13). Python 3.11 stands for a machine with a P100. The kernel of a
notebook has loaded numpy and matplotlib before the first cell, and torch is the image's own, so these must stay.

The test asks the package index, for a few megabytes of metadata, and is skipped where there is none.
"""

import os
import subprocess
import sys

import pytest

from fintune_kit.kaggle.requirements import requirements_of

IMAGES = {
    "3.11": ["numpy==2.0.2", "matplotlib==3.10.0", "torch==2.7.1"],
    "3.12": ["numpy==2.0.2", "matplotlib==3.10.0", "torch==2.11.0"],
    "3.13": ["numpy==2.1.3", "pandas==2.2.3", "protobuf==5.29.5", "torch==2.11.0"],
}
REPLACED = {"pyarrow": 21}
"""datasets needs at least this; the images have 18.1 and 19."""
OFFLINE = ("error sending request", "dns error", "Failed to fetch", "network was disabled")

pytest.importorskip("uv", reason="uv is not installed: pip install -e '.[dev]'")


def resolve(requirements, *, python, constraints, folder):
    """The versions that an installer would choose on Linux, and what it says."""
    (folder / "requirements.txt").write_text("\n".join(requirements))
    (folder / "constraints.txt").write_text("\n".join(constraints))
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--constraint", str(folder / "constraints.txt"), str(folder / "requirements.txt")]
    environment = {**os.environ, "UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "20"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return dict(line.split("==") for line in done.stdout.split() if "==" in line), done.stderr


@pytest.fixture(scope="module", autouse=True)
def index(tmp_path_factory):
    """Skips where no package index answers."""
    _, said = resolve(["six"], python="3.12", constraints=[], folder=tmp_path_factory.mktemp("index"))
    if any(sign in said for sign in OFFLINE):
        pytest.skip("the package index cannot be reached")


@pytest.mark.parametrize("python", IMAGES)
def test_our_packages_fit_beside_those_that_must_stay(repository, tmp_path, python):
    found, said = resolve(requirements_of(repository), python=python, constraints=IMAGES[python], folder=tmp_path)
    assert found, said
    for pin in IMAGES[python]:
        name, version = pin.split("==")
        assert found.get(name, version) == version
    assert {"numpy", "torch", "transformers"} <= set(found), "it resolved something else"
    assert int(found["pyarrow"].split(".")[0]) >= REPLACED["pyarrow"]


def test_the_check_sees_a_conflict(tmp_path):
    found, said = resolve(["scikit-learn==1.9.1"], python="3.12", constraints=["numpy==1.20.0"], folder=tmp_path)
    assert not found
    assert "numpy" in said
