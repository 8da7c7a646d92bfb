import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.recipes import load_recipe, p100, read_recipe, smoke
from fintune_kit.workspace import (
    Workspace,
    check_files,
    find_workspace,
    open_workspace,
    read_manifest,
    replacing_folder,
    time_budget,
    write_json,
    write_manifest,
    write_text,
)


def finish(folder, text="one", stage="packed"):
    with replacing_folder(folder) as partial:
        (partial / "rows.txt").write_text(text)
        write_manifest(partial, stage=stage, inputs={"a": "0"}, counts={"rows": 1})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    ours = [name for name in os.environ if name.startswith("FINTUNE_")]
    for name in (*ours, "KAGGLE_KERNEL_RUN_TYPE"):
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


def test_a_folder_that_was_killed_between_its_two_renames_is_read_and_then_replaced(tmp_path):
    finish(tmp_path / "packed", "old")
    (tmp_path / "packed").rename(tmp_path / "packed.previous")
    assert (Workspace(tmp_path).existing("packed") / "rows.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["packed.previous"], "a reader renames nothing"
    finish(tmp_path / "packed", "new")
    assert (Workspace(tmp_path).existing("packed") / "rows.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_a_writer_that_fails_after_a_kill_brings_the_old_folder_back(tmp_path):
    finish(tmp_path / "packed", "old")
    (tmp_path / "packed").rename(tmp_path / "packed.previous")
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "packed"):
        raise ZeroDivisionError
    assert (tmp_path / "packed" / "rows.txt").read_text() == "old"


HOLD = """
import sys
from pathlib import Path
from fintune_kit.workspace import replacing_folder
with replacing_folder(Path(sys.argv[1])) as folder:
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_writer(folder):
    """A process that is writing a stage; its file of standard input ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_stage_has_one_writer(tmp_path):
    with another_writer(tmp_path / "packed") as process:
        with (
            pytest.raises(UserError, match=rf"packed is being written by process {process.pid} on \S+; expected one"),
            replacing_folder(tmp_path / "packed"),
        ):
            pytest.fail("two write it")
        assert (tmp_path / "packed.partial").is_dir(), "what the other one has written is still there"
        finish(tmp_path / "conversations", stage="conversations")


def test_the_lock_of_a_killed_writer_is_free(tmp_path):
    with another_writer(tmp_path / "packed") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".packed.lock").exists(), "it had no time to clean up"
        finish(tmp_path / "packed", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    finish(tmp_path / "large-disk" / "packed", "old")
    (tmp_path / "workspace").mkdir()
    link = tmp_path / "workspace" / "packed"
    link.symlink_to(tmp_path / "large-disk" / "packed")
    finish(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "large-disk" / "packed" / "rows.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["", "."])
def test_a_folder_without_a_name_of_its_own_is_not_replaced(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"the folder to write is '\.'; expected one of its own"):
        finish(Path(name))


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
    workspace = find_workspace("p100")
    assert workspace.root == tmp_path / "working"
    assert workspace.existing("packed") == tmp_path / where / "packed"


def test_two_attached_inputs_are_not_guessed_between(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(tmp_path))
    finish(tmp_path / "input/one/packed")
    finish(tmp_path / "input/two/packed")
    with pytest.raises(UserError, match="several attached inputs"):
        find_workspace("p100").existing("packed")


def test_the_workspace_is_named_or_lies_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_workspace("smoke").root == tmp_path / "runs" / "smoke"
    monkeypatch.setenv("FINTUNE_WORKSPACE", str(tmp_path / "mine"))
    assert find_workspace("smoke").root == tmp_path / "mine"


def test_on_kaggle_a_missing_input_is_named_by_the_title_to_look_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(tmp_path / "kaggle"))
    with pytest.raises(MissingInputError) as caught:
        Workspace(tmp_path).existing("packed")
    assert "Add Input" not in str(caught.value), "this is not Kaggle"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    with pytest.raises(
        MissingInputError, match=r"run notebooks/02_pack.* \(Add Input, Your Work, 'fintune-kit 02 pack'\)$"
    ):
        Workspace(tmp_path).existing("packed")


def test_kaggle_has_a_time_budget_unless_told_otherwise(monkeypatch):
    assert time_budget() == []
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert time_budget() == ["--time-budget", "11h30m"]
    monkeypatch.setenv("FINTUNE_TIME_BUDGET", "20m")
    assert time_budget() == ["--time-budget", "20m"]


@pytest.mark.parametrize(("budget", "minutes_ago", "left"), [("11h30m", 7, "40980s"), ("1s", 7, "1s"), ("", 7, None)])
def test_a_budget_on_kaggle_counts_from_the_first_cell_of_the_session(monkeypatch, budget, minutes_ago, left):
    monkeypatch.setattr("time.time", lambda: 10_000.0)
    monkeypatch.setenv("FINTUNE_SESSION_BEGAN", str(10_000.0 - 60 * minutes_ago))
    monkeypatch.setenv("FINTUNE_TIME_BUDGET", budget)
    assert time_budget() == (["--time-budget", left] if left else [])


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "a.json", {"ä": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_text_that_could_not_be_written_leaves_the_old_one_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "new \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A workspace that does not exist yet."""
    monkeypatch.setenv("FINTUNE_WORKSPACE", str(tmp_path / "w"))
    return tmp_path / "w"


def begin_run(root):
    (root / "run").mkdir()
    write_json(root / "run" / "plan.json", {})


def through_stage_2(root):
    """A workspace whose first two stages were made with another learning rate than p100's."""
    made, workspace = open_workspace(load_recipe("p100").with_values(train={"learning_rate": 1e-4}))
    for stage in ("conversations", "packed"):
        finish(root / stage, stage=stage)
        workspace.keep(made, stage=stage)
    return made


def test_a_new_workspace_takes_the_recipe_that_was_asked_for_and_only_a_stage_leaves_it(root, capsys):
    recipe, workspace = open_workspace(load_recipe("smoke"))
    assert recipe == smoke()
    assert not root.exists()
    workspace.keep(recipe, stage="conversations")
    assert read_recipe(root / "recipe.toml") == smoke()
    assert [path.name for path in root.iterdir()] == ["recipe.toml"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [None, "p100"])
def test_the_recipe_of_the_workspace_rules_and_one_line_says_where_it_differs(root, capsys, name):
    made = through_stage_2(root)
    recipe, _ = open_workspace(load_recipe(name), stage="run")
    assert recipe == made
    assert recipe.train.learning_rate == 1e-4
    assert capsys.readouterr().err == f"{root}/recipe.toml: recipe p100: train.learning_rate is 0.0001, not 0.0002\n"


def test_a_run_that_lost_its_plan_keeps_its_recipe(root):
    made = through_stage_2(root)
    (root / "run" / "checkpoints").mkdir(parents=True)
    asked = load_recipe("p100").with_values(lora={"rank": 8})
    with pytest.raises(UserError, match=r"run was made with lora.rank=64 .* 8 is asked for.*--fresh"):
        open_workspace(asked, stage="run")
    assert read_recipe(root / "recipe.toml") == made


def test_a_later_stage_may_change_what_no_stage_depends_on_yet(root, capsys):
    through_stage_2(root)
    asked = load_recipe("p100").with_values(train={"learning_rate": 2e-4}, lora={"rank": 8})
    recipe, workspace = open_workspace(asked, stage="run")
    assert (recipe.train.learning_rate, recipe.lora.rank) == (2e-4, 8)
    assert capsys.readouterr().err == "", "all that was asked for is there"
    workspace.keep(recipe, stage="run")
    assert open_workspace(load_recipe())[0] == recipe, "and stays for the stages after it"


@pytest.mark.parametrize(
    ("values", "stage", "sentence"),
    [
        ({"data": {"examples": 5}}, "run", "conversations was made with data.examples=50000 .* and 5 is asked for: "),
        ({"data": {"examples": 5}}, "packed", "conversations was made with data.examples=50000"),
        ({"seed": 1}, "packed", "conversations was made with seed=20240405"),
        ({"pack": {"max_length": 512}}, "run", "packed was made with pack.max_length=2048"),
        ({"pack": {"max_length": 512}}, None, "packed was made with pack.max_length=2048"),
    ],
)
def test_a_value_that_an_earlier_stage_depends_on_is_refused(root, values, stage, sentence):
    through_stage_2(root)
    with pytest.raises(UserError, match=sentence):
        open_workspace(load_recipe("p100").with_values(**values), stage=stage)


def test_a_stage_that_is_written_again_may_change_its_own_values_and_later_ones(root):
    through_stage_2(root)
    asked = load_recipe("p100").with_values(data={"examples": 5}, pack={"max_length": 512})
    assert open_workspace(asked, stage="conversations")[0].data.examples == 5
    repacked = load_recipe("p100").with_values(pack={"max_length": 512})
    assert open_workspace(repacked, stage="packed")[0].pack.max_length == 512


def test_a_run_that_has_begun_keeps_its_values_unless_it_is_thrown_away(root):
    made = through_stage_2(root)
    begin_run(root)
    asked = load_recipe("p100").with_values(train={"learning_rate": 5e-4})
    with pytest.raises(UserError, match=r"run was made with train.learning_rate=0.0001 .* or start over with --fresh"):
        open_workspace(asked, stage="run")
    with pytest.raises(UserError, match=r"run was made with train.learning_rate=0.0001"):
        open_workspace(asked)
    assert open_workspace(asked, stage="run", fresh=True)[0].train.learning_rate == 5e-4
    with pytest.raises(UserError, match=r"run was made with"):
        Workspace(root).keep(asked, stage="run")
    assert read_recipe(root / "recipe.toml") == made


def test_another_recipe_is_refused_where_a_stage_was_made_with_other_values(root):
    through_stage_2(root)
    for stage in ("conversations", "packed", "run", None):
        with pytest.raises(UserError, match=r"was made with data.sources=.*recipe 'p100'.* by recipe 'smoke'"):
            open_workspace(load_recipe("smoke"), stage=stage)


def test_another_recipe_with_the_same_rows_and_packs_may_train_on_them(root, tmp_path):
    through_stage_2(root)
    (tmp_path / "mine.toml").write_text("[lora]\nrank = 8\n")
    recipe, _ = open_workspace(load_recipe(str(tmp_path / "mine.toml")), stage="run")
    assert (recipe.name, recipe.lora.rank, recipe.train.learning_rate) == ("mine", 8, 2e-4)


def test_a_recipe_that_no_stage_was_made_with_binds_nobody(root):
    Workspace(root).keep(p100(), stage="conversations")
    assert open_workspace(load_recipe("smoke"), stage="conversations")[0] == smoke()


def test_a_workspace_of_its_own_for_a_run_has_its_own_recipe(root, tmp_path):
    through_stage_2(root)
    begin_run(root)
    asked = load_recipe("p100").with_values(train={"learning_rate": 5e-4})
    recipe, workspace = open_workspace(asked, stage="run", out=tmp_path / "second")
    assert (recipe.train.learning_rate, workspace.root) == (5e-4, root), "the first run does not bind the second"
    Workspace(tmp_path / "second").keep(recipe, stage="run")
    assert open_workspace(load_recipe(), stage="run", out=tmp_path / "second")[0].train.learning_rate == 5e-4
    assert open_workspace(load_recipe(), stage="run")[0].train.learning_rate == 1e-4


def test_on_kaggle_the_recipe_of_the_last_attached_stage_rules(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(tmp_path))
    first, second = (load_recipe("p100").with_values(train={"epochs": epochs}) for epochs in (2, 3))
    for kernel, stage, recipe in (("z-data", "conversations", first), ("a-pack", "packed", second)):
        finish(tmp_path / "input" / kernel / stage, stage=stage)
        (tmp_path / "input" / kernel / "recipe.toml").write_text(recipe.as_toml())
    recipe, workspace = open_workspace(load_recipe(), stage="run")
    assert recipe.train.epochs == 3
    assert "train.epochs is 3, not 1" in capsys.readouterr().err
    assert workspace.root == tmp_path / "working"
    with pytest.raises(UserError, match=r"conversations was made with data\.examples=50000"):
        open_workspace(load_recipe().with_values(data={"examples": 5}), stage="run")
    assert workspace.keep(recipe, stage="run") == tmp_path / "working" / "recipe.toml"


def test_a_damaged_recipe_of_a_workspace_is_named(root):
    root.mkdir()
    (root / "recipe.toml").write_text("name = ")
    with pytest.raises(UserError, match=r"w/recipe.toml is not TOML"):
        open_workspace(load_recipe("p100"))
