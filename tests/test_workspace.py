import json

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import (
    Workspace,
    check_files,
    open_workspace,
    read_manifest,
    replacing_folder,
    time_budget,
    write_json,
    write_manifest,
)


def finish(folder, text="one"):
    with replacing_folder(folder) as partial:
        (partial / "rows.txt").write_text(text)
        write_manifest(partial, stage="packed", inputs={"a": "0"}, counts={"rows": 1})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("FINTUNE_WORKSPACE", "FINTUNE_TIME_BUDGET", "KAGGLE_KERNEL_RUN_TYPE", "FINTUNE_KAGGLE_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_a_finished_folder_says_what_made_it_and_from_what(tmp_path):
    finish(tmp_path / "packed")
    manifest = read_manifest(tmp_path / "packed", stage="packed")
    assert manifest["inputs"] == {"a": "0"}
    assert manifest["counts"] == {"rows": 1}
    assert list(manifest["files"]) == ["rows.txt"]
    assert manifest["files"]["rows.txt"].startswith("7692c3ad3540bb803c020b3aee66cd88")


def test_the_same_work_gives_the_same_bytes(tmp_path):
    finish(tmp_path / "a" / "packed")
    finish(tmp_path / "b" / "packed")
    one, two = ((tmp_path / name / "packed" / "manifest.json").read_bytes() for name in "ab")
    assert one == two


def test_a_folder_that_failed_leaves_the_old_one_whole(tmp_path):
    finish(tmp_path / "packed", "old")
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "packed") as partial:
        (partial / "rows.txt").write_text(str(1 / 0))
    assert (tmp_path / "packed" / "rows.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_a_run_killed_between_the_two_renames_finds_its_old_folder_again(tmp_path):
    finish(tmp_path / "packed", "old")
    (tmp_path / "packed").rename(tmp_path / "packed.previous")
    assert Workspace(tmp_path).existing("packed") == tmp_path / "packed"
    assert (tmp_path / "packed" / "rows.txt").read_text() == "old"


def test_what_is_not_ours_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(UserError, match="not ours"), replacing_folder(tmp_path / "photos"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"), replacing_folder(tmp_path / "file"):
        pass


def test_a_missing_or_unfinished_stage_names_the_notebook_that_writes_it(tmp_path):
    with pytest.raises(MissingInputError, match=r"is missing.*02_pack"):
        Workspace(tmp_path).existing("packed")
    (tmp_path / "packed").mkdir()
    with pytest.raises(MissingInputError, match=r"unfinished.*02_pack"):
        Workspace(tmp_path).existing("packed")
    write_json(tmp_path / "packed" / "manifest.json", {"stage": "conversations"})
    with pytest.raises(MissingInputError, match="holds stage 'conversations', expected 'packed'"):
        Workspace(tmp_path).existing("packed")
    (tmp_path / "packed" / "manifest.json").write_text("{")
    with pytest.raises(MissingInputError, match=r"damaged.*02_pack"):
        Workspace(tmp_path).existing("packed")


def test_a_changed_or_missing_file_is_named(tmp_path):
    finish(tmp_path / "packed")
    manifest = read_manifest(tmp_path / "packed", stage="packed")
    check_files(tmp_path / "packed", manifest, stage="packed")
    (tmp_path / "packed" / "rows.txt").write_text("two")
    with pytest.raises(UserError, match=r"rows.txt has changed"):
        check_files(tmp_path / "packed", manifest, stage="packed")
    (tmp_path / "packed" / "rows.txt").unlink()
    with pytest.raises(UserError, match=r"rows.txt is missing"):
        check_files(tmp_path / "packed", manifest, stage="packed")


@pytest.mark.parametrize("where", ["input/my-kernel", "input/notebooks/me/my-kernel", "input/datasets/me/my-data"])
def test_on_kaggle_an_attached_input_is_found_in_both_layouts(tmp_path, monkeypatch, where):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(tmp_path))
    finish(tmp_path / where / "packed")
    workspace = open_workspace("p100")
    assert workspace.root == tmp_path / "working"
    assert workspace.existing("packed") == tmp_path / where / "packed"


def test_two_attached_inputs_are_not_guessed_between(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(tmp_path))
    finish(tmp_path / "input/one/packed")
    finish(tmp_path / "input/two/packed")
    with pytest.raises(UserError, match="several attached inputs"):
        open_workspace("p100").existing("packed")


def test_the_workspace_is_named_or_lies_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_workspace("smoke").root == tmp_path / "runs" / "smoke"
    monkeypatch.setenv("FINTUNE_WORKSPACE", str(tmp_path / "mine"))
    assert open_workspace("smoke").root == tmp_path / "mine"


def test_kaggle_has_a_time_budget_unless_told_otherwise(monkeypatch):
    assert time_budget() == []
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert time_budget() == ["--time-budget", "11h30m"]
    monkeypatch.setenv("FINTUNE_TIME_BUDGET", "20m")
    assert time_budget() == ["--time-budget", "20m"]


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "a.json", {"ä": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": 1}
    assert not (tmp_path / "a.json.partial").exists()
