"""The verbs that need none of the large packages: in a process where these cannot be imported."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import REPOSITORY

OURS = ("cyclopts", "docstring-parser", "tomlkit")
HEAVY = ("torch", "transformers", "datasets", "peft", "trl", "bitsandbytes", "accelerate", "tokenizers", "safetensors")
LARGE = (*HEAVY, "numpy", "pyarrow", "sklearn", "scipy", "matplotlib", "tqdm", "faker", "huggingface_hub", "jinja2")


def run(*arguments, blocked, cwd):
    """A verb in a process of its own, in which some packages cannot be imported."""
    code = (
        f"import sys; sys.modules |= dict.fromkeys({blocked}); from fintune_kit.cli.main import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "Usage: fintune-kit"),
        (["plan", "--device", "t4x2"], "effective batch"),
        (["plan", "--device", "t4", "--recipe", "p100"], "optimizer steps  42"),
        (["plan", "--recipe", "p100"], "cpu, 1 process(es)"),
        (["plan", "--device", "v5e8", "--recipe", "tpu_v5e8", "--json"], '"device": "v5e8"'),
        (["recipe", "show"], 'name = "smoke"'),
        (["recipe", "show", "--help"], "--train.learning-rate"),
        (["doctor"], "PyTorch        not installed"),
        (["train", "--help"], "Usage: fintune-kit train"),
    ],
)
def test_a_light_verb_works_without_the_large_packages(arguments, said, tmp_path):
    done = run(*arguments, blocked=(*LARGE, "packaging", "kaggle"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


def test_a_kernel_is_built_without_the_large_packages(tmp_path):
    out = tmp_path / "build"
    done = run("kaggle", "build", "01_data", "--owner", "alice", "--out", str(out), blocked=LARGE, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "01_data" / "kernel-metadata.json").is_file()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        (["data"], "train,bank"),
        (["pack"], "train"),
        (["transactions", "generate", "--count", "3", "--out", "b"], "bank"),
    ],
)
def test_a_verb_whose_packages_are_missing_says_what_to_install(arguments, extras, tmp_path):
    done = run(*arguments, blocked=("numpy", "datasets", "tokenizers", "faker"), cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: {arguments[0]} needs the package \w+: pip install 'fintune-kit\[{extras}\]'\n", done.stderr
    )


def test_only_small_packages_come_by_themselves():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.match(r"[\w-]+", spec).group() for spec in project["dependencies"]]
    assert names == list(OURS)
    assert project["optional-dependencies"]["all"] == ["fintune-kit[train,evaluate,bank,kaggle,notebooks]"]
