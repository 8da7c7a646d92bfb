"""One workspace that nothing happened to, as it was before and after each stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import VERBS, contents, copy, run


@dataclass(frozen=True)
class Undisturbed:
    """A stage that nothing happened to."""

    before: Path
    """The workspace before the stage."""
    after: dict[str, Any]
    """Its contents after the stage, from `contents`."""
    moments: int
    """Operations on the disk."""
    workspace: Path
    """The workspace after the stage."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> dict[str, Undisturbed]:
    """All stages, each on a copy of the workspace that the one before it left."""
    root, found = tmp_path_factory.mktemp("undisturbed"), {}
    before = root / "empty"
    before.mkdir()
    for stage, verb in VERBS.items():
        workspace = copy(before, root / stage)
        done = run(workspace, verb)
        assert done.code == 0, done.said[-3000:]
        found[stage] = Undisturbed(before, contents(workspace), done.moments, workspace)
        before = workspace
    assert len(found["adapter"].after["run/log.jsonl"]) >= 4, "there are steps to be killed in"
    assert all(stage.moments >= 5 for stage in found.values()), "there are moments to be killed at"
    return found
