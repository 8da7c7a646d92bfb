"""Training from the command line: durations, and the recipe's way into the processes that train."""

import json
import os
import select
import signal
import subprocess
import sys

import pytest

from fintune_kit.cli.main import main
from fintune_kit.errors import UserError
from fintune_kit.recipes import load_recipe, read_recipe
from fintune_kit.train.launch import run_training
from fintune_kit.train.record.log import read_log
from fintune_kit.workspace import open_workspace, parse_duration, writing


@pytest.mark.parametrize(
    ("text", "seconds"), [("11h30m", 41_400), ("45m", 2_700), ("90s", 90), ("1h", 3_600), ("1h1m1s", 3_661)]
)
def test_a_duration_is_hours_minutes_and_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "eleven", "11", "30m11h", "-5m", "0h", "1001h", "9" * 400 + "h", "\u0663h"])
def test_anything_else_is_not_a_duration(text):
    with pytest.raises(UserError, match="as in 11h30m") as refusal:
        parse_duration(text)
    assert len(str(refusal.value)) < 160, "a long text is not repeated"


def test_a_number_of_processes_is_refused_on_a_tpu(workspace, capsys):
    assert main(["train", "--tpu", "--processes", "2"]) == 2
    said = "--processes 2 was given; expected none on a TPU, because one process drives all devices: leave it out"
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.fixture
def packed(workspace, monkeypatch):
    """A workspace with the packs of a few rows; the value that stage 1 was given is in its recipe."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = ["--data.examples", "60", "--data.transactions", "0", "--pack.max-length", "256", "--lora.rank", "4"]
    assert main(["data", *small, "--train.epochs", "1"]) == 0
    assert main(["pack"]) == 0
    return workspace


def test_what_a_cell_changes_reaches_the_process_that_trains_its_plan_and_its_log(packed, capfd, monkeypatch):
    monkeypatch.setenv("FINTUNE_SET", "train.weight_decay=0.5")
    changes = {"learning_rate": 1.25e-3, "schedule": "constant", "warmup_ratio": 0.0, "weight_decay": 0.25}
    recipe, workspace = open_workspace(load_recipe().with_values(train=changes), stage="run")  # as in notebook 03
    run_training(recipe, workspace, ["--steps", "1"], processes=1, cards=0)
    assert read_recipe(packed / "recipe.toml") == recipe
    plan = json.loads((packed / "run" / "plan.json").read_text())
    assert plan["recipe"] == json.loads(json.dumps(recipe.as_dict()))
    assert (plan["recipe"]["train"]["learning_rate"], plan["recipe"]["train"]["epochs"]) == (1.25e-3, 1)
    assert plan["recipe"]["train"]["weight_decay"] == 0.25, "the cell comes after the environment, in the process too"
    assert plan["recipe"]["lora"]["rank"] == 4, "stage 1's flag"
    assert plan["allocator"].endswith("ALLOC_CONF=expandable_segments:True"), "set before CUDA is initialized"
    (step,) = read_log(packed / "run" / "log.jsonl")
    assert step["learning_rate"] == 1.25e-3
    monkeypatch.delenv("FINTUNE_SET")
    assert main(["train", "--steps", "1"]) == 0
    assert f"{packed}/recipe.toml: recipe smoke: data.examples is 60, not 640; " in capfd.readouterr().err
    assert json.loads((packed / "run" / "plan.json").read_text())["recipe"] == plan["recipe"], "the same run goes on"


def test_several_processes_are_given_the_file_and_each_flag(packed, monkeypatch):
    calls = []
    monkeypatch.setattr("fintune_kit.train.launch.launch_command", lambda given, **_: calls.append(given) or ["true"])
    flags = ["--processes", "2", "--steps", "3", "--time-budget", "1h", "--fresh", "--train.effective-batch", "2"]
    assert main(["train", *flags, "--train.learning-rate", "1e-4"]) == 0
    (given,) = calls
    assert given[:6] == ["--recipe", f"{packed}/recipe.toml", "--out", str(packed), "--packed", f"{packed}/packed"]
    assert given[6:] == ["--time-budget", "1h", "--steps", "3", "--fresh", "--report-to", "none"]
    assert read_recipe(packed / "recipe.toml").train.learning_rate == 1e-4


def test_a_run_has_one_writer(packed, capsys):
    with writing(packed / "run"):
        assert main(["train", "--steps", "1"]) == 2
    assert "run is being written by process" in capsys.readouterr().err
    assert not (packed / "run").exists()


LAUNCHER = """
import subprocess, sys
from fintune_kit.train.launch import end_with_parent
wait = "import signal; signal.pause()"
worker = subprocess.Popen([sys.executable, "-c", wait], pass_fds=[int(sys.argv[1])], preexec_fn=end_with_parent)
print(worker.pid, flush=True)
worker.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_worker_ends_with_a_launcher_that_was_killed():
    reader, writer = os.pipe()  # it ends when nobody holds its writing end: when no worker is left
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(writer)], stdout=subprocess.PIPE, pass_fds=[writer]
    )
    os.close(writer)
    worker = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    ended, _, _ = select.select([reader], [], [], 60)
    if not ended:
        os.kill(worker, signal.SIGKILL)
    os.close(reader)
    assert ended, "the worker goes on without its launcher"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pack", "--data.examples", "61"], "conversations was made with data.examples=60 (recipe 'smoke'), and 61 is"),
        (["train", "--pack.max-length", "512"], "packed was made with pack.max_length=256"),
        (["train", "--recipe", "p100"], "was made with data.sources=('sample',) (recipe 'smoke'), and "),
    ],
)
def test_a_workspace_that_was_made_with_other_values_is_refused(packed, arguments, sentence, capsys):
    before = (packed / "recipe.toml").read_text()
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert (packed / "recipe.toml").read_text() == before
