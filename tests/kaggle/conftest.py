"""A checkout small enough to read, and the real client before a Kaggle on loopback."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fintune_kit.kaggle.manifest import Chain, read_chain
from tests.kaggle.fake_server import World, running

NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "execution_count": 3, "id": "one", "metadata": {}, "outputs": ["x"], "source": "1"}
    ],
    "metadata": {"kernelspec": {"name": "python3"}, "kaggle": {"dockerImageVersionId": 1}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "fintune-kit"
version = "9.9"
requires-python = ">=3.11"
dependencies = ["numpy>=1.26", "trl>=1.9", "torch>=2.7.1"]
[tool.hatch.build.targets.wheel]
packages = ["src/fintune_kit"]
"""
KERNELS = [
    {
        "notebook": "01_data.ipynb",
        "title": "Kit 01 data",
        "accelerator": None,
        "internet": True,
        "writes": ["conversations"],
    },
    {
        "notebook": "02_pack.ipynb",
        "title": "Kit 02 pack",
        "accelerator": None,
        "internet": True,
        "after": ["01_data.ipynb"],
        "writes": ["packed"],
    },
    {
        "notebook": "03_train.ipynb",
        "title": "Kit 03 train",
        "accelerator": "NvidiaTeslaT4",
        "internet": True,
        "after": ["02_pack.ipynb"],
        "writes": ["run", "adapter"],
    },
]
TPU_AND_EVALUATION = [
    {
        "notebook": "03_train_tpu.ipynb",
        "title": "Kit 03 train tpu",
        "accelerator": "TpuV5E8",
        "internet": True,
        "after": ["02_pack.ipynb"],
        "writes": ["run", "adapter"],
        "environment": {"FINTUNE_RECIPE": "tpu_v5e8"},
        "optional": True,
    },
    {
        "notebook": "04_evaluate.ipynb",
        "title": "Kit 04 evaluate",
        "accelerator": "NvidiaTeslaT4",
        "internet": True,
        "after": ["01_data.ipynb", "03_train.ipynb"],
        "writes": ["evaluation"],
    },
]


def pretend_installed(folder: Path, name: str, version: str, **files: str) -> Path:
    """The files that pip leaves beside a package's code, in a folder that is on the path."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, content in files.items():
        (info / f"{file}.json").write_text(content)
    return info


@dataclass
class FakePip:
    """Stands in for pip: keeps each command and its constraints, and answers."""

    commands: list[Sequence[str]] = field(default_factory=list)
    dry_runs: list[Sequence[str]] = field(default_factory=list)
    constraints: str = ""
    changes: dict[str, str] = field(default_factory=dict)
    """The changes that a dry run announces."""
    code: int = 0
    said: str = ""
    removes: Path | None = None
    """The folder that an uninstallation removes."""

    @property
    def command(self) -> Sequence[str]:
        return self.commands[-1] if self.commands else ()

    def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        if "--constraint" in command:
            self.constraints = Path(command[command.index("--constraint") + 1]).read_text()
        if "--dry-run" in command:
            self.dry_runs.append(command)
            planned = [{"metadata": {"name": n, "version": v}} for n, v in self.changes.items()]
            Path(command[command.index("--report") + 1]).write_text(json.dumps({"install": planned}))
            return subprocess.CompletedProcess(command, self.code, "", self.said)
        self.commands.append(command)
        if "uninstall" in command and self.removes:
            shutil.rmtree(self.removes)
        return subprocess.CompletedProcess(command, self.code, "", self.said)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    """Takes the place of pip wherever one is started."""
    fake = FakePip()
    monkeypatch.setattr("fintune_kit.kaggle.session.packages.Pip.run", fake)
    return fake


@pytest.fixture
def manifest() -> dict[str, Any]:
    """The content of a manifest of three kernels."""
    return {
        "owner": "alice",
        "private": True,
        "repository": None,
        "environment": {},
        "dataset_sources": [],
        "model_sources": [],
        "kernels": json.loads(json.dumps(KERNELS)),
    }


@pytest.fixture
def checkout(tmp_path: Path, manifest: dict[str, Any]) -> Path:
    """A project of one module with three notebooks."""
    root = tmp_path / "checkout"
    (root / "src" / "fintune_kit").mkdir(parents=True)
    (root / "src" / "fintune_kit" / "__init__.py").write_text('"""A stand-in."""\n')
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "requirements.txt").write_text("# pins\nnumpy==2.4.6\ntrl==1.16.0\ntorch>=2.7.1,<2.14\nnbmake==1.5.5\n")
    for kernel in manifest["kernels"]:
        (root / kernel["notebook"]).write_text(json.dumps(NOTEBOOK))
    (root / "kaggle-metadata.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def chain(checkout: Path) -> Chain:
    return read_chain(checkout)


@pytest.fixture
def tpu_chain(checkout: Path, manifest: dict[str, Any]) -> Chain:
    """The three kernels, another way to train, and one that reads what training wrote."""
    (checkout / "requirements-tpu.txt").write_text("# why\njax==0.10.2\nlibtpu==0.0.42.1\n# of the image\nnumpy>=2.1\n")
    for kernel in TPU_AND_EVALUATION:
        (checkout / kernel["notebook"]).write_text(json.dumps(NOTEBOOK))
    manifest["kernels"] += json.loads(json.dumps(TPU_AND_EVALUATION))
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    return read_chain(checkout)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def loopback(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The real client talks to `world` and to nothing else, with credentials of its own."""
    home = tmp_path / "home"
    home.mkdir()
    with running(world) as port:
        for name in ("NO_PROXY", "no_proxy", "KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "HTTP_PROXY": f"http://127.0.0.1:{port}",
            "http_proxy": f"http://127.0.0.1:{port}",
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "HOME": str(home),
            "KAGGLE_USERNAME": "alice",
            "KAGGLE_KEY": "0123456789abcdef0123456789abcdef",
        }.items():
            monkeypatch.setenv(name, value)
        yield world


@pytest.fixture
def kaggle_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty `/kaggle` of a session that has begun."""
    root = tmp_path / "kaggle"
    (root / "input").mkdir(parents=True)
    (root / "working").mkdir()
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(root))
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    yield root
    shutil.rmtree(root)
