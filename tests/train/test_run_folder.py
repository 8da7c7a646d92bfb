"""The folder of a run: whose it is, and what `--fresh` does to it."""

import json
import shutil
from types import SimpleNamespace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.train.checkpoints import partial_folder, seal
from fintune_kit.train.run_folder import base_identity, open_run
from fintune_kit.workspace import MANIFEST, write_json

OURS = {"recipe": {"seed": 0}, "packed": "5a", "base": "Qwen/Qwen2.5-3B-Instruct"}
OTHER = OURS | {"recipe": {"seed": 1}}
PLAN = SimpleNamespace(as_dict=lambda: {"micro_batch": 1})


def begin(run, identity, *, fresh=False):
    open_run(run, identity=identity, plan=PLAN, fresh=fresh)


@pytest.fixture
def run(tmp_path):
    """A run of the identity `OURS` with a checkpoint after step 8."""
    folder = tmp_path / "run"
    begin(folder, OURS)
    written = partial_folder(folder / "checkpoints") / "checkpoint-8"
    written.mkdir(parents=True)
    (written / "weights").write_bytes(b"w")
    seal(written, folder / "checkpoints", step=8, identity=OURS)
    return folder


@pytest.mark.parametrize("lost", [(), ("plan.json",), ("checkpoints",)])
def test_another_run_does_not_go_on_from_what_is_left_of_one(run, lost):
    for name in lost:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    begin(run, OURS)
    with pytest.raises(UserError, match=r"is of a run with another recipe; expected the same .* --fresh$"):
        begin(run, OTHER)


def test_a_finished_run_without_its_plan_is_still_that_run(run):
    shutil.rmtree(run / "checkpoints")
    (run / "plan.json").unlink()
    write_json(run / MANIFEST, {"stage": "run", "identity": OURS})
    with pytest.raises(UserError, match=r"manifest\.json is of a run with another recipe"):
        begin(run, OTHER)


@pytest.mark.parametrize("damage", [b"", b"\0\0\0", b'{"recipe": {"se', b"[]"])
def test_a_damaged_plan_counts_as_lost_and_the_checkpoints_say_whose_run_it_is(run, damage, caplog):
    (run / "plan.json").write_bytes(damage)
    with pytest.raises(UserError, match=r"checkpoint-8.manifest\.json is of a run with another recipe"):
        begin(run, OTHER)
    assert "plan.json is damaged" in caplog.text
    begin(run, OURS)
    assert json.loads((run / "plan.json").read_text())["recipe"] == {"seed": 0}


def test_a_fresh_run_starts_over_with_or_without_the_plan_of_the_old_one(run):
    (run / "plan.json").unlink()
    begin(run, OTHER, fresh=True)
    assert [path.name for path in run.iterdir()] == ["plan.json"]
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_a_run_is_renamed_before_it_is_deleted(run, monkeypatch):
    def killed(path, **options):
        if path.is_dir():
            raise KeyboardInterrupt

    monkeypatch.setattr("fintune_kit.train.run_folder.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(run, OTHER, fresh=True)
    assert [path.name for path in run.parent.iterdir()] == [".run.removed"], "nothing is left under the old name"
    monkeypatch.undo()
    begin(run, OTHER)
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    assert [path.name for path in run.iterdir()] == ["plan.json"]


def test_a_folder_of_someone_else_is_not_deleted(tmp_path):
    (tmp_path / "photos").write_text("mine")
    with pytest.raises(UserError, match="not a run of ours"):
        begin(tmp_path, OURS, fresh=True)
    assert (tmp_path / "photos").read_text() == "mine"


def test_a_run_behind_a_link_starts_over_where_it_lies(run, tmp_path):
    elsewhere = tmp_path / "large-disk"
    run.rename(elsewhere)
    run.symlink_to(elsewhere)
    begin(run, OTHER, fresh=True)
    assert run.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["plan.json"]


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "one" / "small-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 64}))
    (folder / "model.safetensors").write_bytes(b"12345678")
    return folder


def test_the_same_model_under_another_name_is_the_same_base(base):
    before = base_identity(base)
    moved = base.rename(base.parent / "1")
    assert base_identity(moved) == before


def test_another_config_or_other_weights_are_another_base(base):
    before = base_identity(base)
    (base / "model.safetensors").write_bytes(b"123456789")
    longer = base_identity(base)
    (base / "config.json").write_text(json.dumps({"hidden_size": 65}))
    assert len({before, longer, base_identity(base)}) == 3


def test_a_hub_id_stays_as_it_is():
    assert base_identity("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"
