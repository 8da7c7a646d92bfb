"""A process in which a session may set variables."""

import os

import pytest


@pytest.fixture
def environment(monkeypatch, kaggle_root):
    """The process's environment, put back afterwards."""
    for name in [name for name in os.environ if name.startswith("FINTUNE_") and name != "FINTUNE_KAGGLE_ROOT"]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    monkeypatch.setattr(os, "environ", os.environ)
    yield os.environ
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
