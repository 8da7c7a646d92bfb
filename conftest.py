"""Notebooks as tests: the kernels that nbmake starts inherit this environment, and share one fresh workspace."""

import os
import shutil
import tempfile

os.environ["FINTUNE_RECIPE"] = "smoke"
os.environ["FINTUNE_WORKSPACE"] = tempfile.mkdtemp(prefix="fintune-notebooks-")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test never downloads
for name in ("FINTUNE_SOURCE", "FINTUNE_MODEL", "FINTUNE_TOKENIZER", "FINTUNE_TIME_BUDGET"):
    os.environ.pop(name, None)


def pytest_unconfigure() -> None:
    """Takes the workspace away again."""
    shutil.rmtree(os.environ["FINTUNE_WORKSPACE"], ignore_errors=True)
