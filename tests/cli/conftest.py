"""A workspace of its own for each test of the command line, and nothing of the caller's settings."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that does not exist yet; the recipe is smoke."""
    for name in [name for name in os.environ if name.startswith("FINTUNE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.setenv("FINTUNE_RECIPE", "smoke")
    monkeypatch.setenv("FINTUNE_WORKSPACE", str(tmp_path / "workspace"))
    return tmp_path / "workspace"
