"""The output kept below what Kaggle saves."""

import json

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.session.output import folder_bytes, keep_output_small
from fintune_kit.workspace import sha256_of


def checkpoint(working, step, size=100):
    folder = working / "run" / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter").write_bytes(b"x" * size)
    files = {"adapter": sha256_of(folder / "adapter")}
    (folder / "manifest.json").write_text(json.dumps({"step": step, "files": files}))
    return folder


@pytest.fixture
def working(tmp_path):
    """Two checkpoints, one half written, a half-written stage, and 100 bytes of figures."""
    for step in (9, 10):
        checkpoint(tmp_path, step)
    (tmp_path / "run" / "checkpoints" / "partial").mkdir()
    (tmp_path / "run" / "checkpoints" / "partial" / "x").write_bytes(b"x" * 100)
    (tmp_path / "packed.partial").mkdir()
    (tmp_path / "packed.partial" / "x").write_bytes(b"x" * 100)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "x").write_bytes(b"x" * 100)
    return tmp_path


def left(working):
    return sorted(path.name for path in (working / "run" / "checkpoints").iterdir())


def finish(working):
    for stage in ("run", "adapter"):
        (working / stage).mkdir(exist_ok=True)
        (working / stage / "manifest.json").write_text("{}")


def test_an_output_that_fits_is_left_alone(working):
    before = folder_bytes(working)
    assert "deleted" not in keep_output_small(working)
    assert folder_bytes(working) == before


def test_what_was_never_finished_goes_first(working):
    said = keep_output_small(working, limit=folder_bytes(working) - 101)
    assert said.endswith("deleted to make room: packed.partial, run/checkpoints/partial")
    assert left(working) == ["checkpoint-10", "checkpoint-9"]


def test_then_all_but_the_newest_checkpoint(working):
    keep_output_small(working, limit=folder_bytes(working) - 201)
    assert left(working) == ["checkpoint-10"]


def test_the_newest_one_stays_while_the_run_is_not_done(working):
    with pytest.raises(UserError, match=r"Kaggle saves 0\.00 GB \((run|figures)"):
        keep_output_small(working, limit=150)
    assert left(working) == ["checkpoint-10"]


def test_a_finished_run_needs_no_checkpoint(working):
    finish(working)
    keep_output_small(working, limit=150)
    assert left(working) == []


def test_a_damaged_newest_checkpoint_is_not_the_one_that_stays(working):
    (working / "run" / "checkpoints" / "checkpoint-10" / "adapter").write_bytes(b"y")
    keep_output_small(working, limit=folder_bytes(working) - 201)
    assert left(working) == ["checkpoint-9"]
