"""Training in two processes: whoever is killed, all of them end, and the run goes on to the same adapter."""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from fintune_kit.train.record.log import read_log
from fintune_kit.train.record.sessions import read_sessions
from tests.faults.commands import alive_on, copy, log_of

KILLS = [("launcher", signal.SIGKILL, -9), ("launcher", signal.SIGTERM, 143), ("worker", signal.SIGKILL, 1)]
"""Whom, with what, and the exit code of the command. In this order, on one run; the second one saves its step."""

TWO_PACKS_A_STEP = ["--train.effective-batch", "3"]
"""One for each process."""


def launch(workspace):
    """`fintune-kit train --processes 2`: it starts a launcher of PyTorch, which starts two workers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FINTUNE_")}
    environment |= {"FINTUNE_RECIPE": "smoke", "FINTUNE_WORKSPACE": str(workspace), "HF_HUB_OFFLINE": "1"}
    with (workspace.parent / "launcher.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "fintune_kit", "train", "--processes", "2", *TWO_PACKS_A_STEP],
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=workspace,
        )


def result(workspace):
    return log_of(workspace), (workspace / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(undisturbed, tmp_path_factory):
    """A training in two processes that nothing happened to."""
    workspace = copy(undisturbed["adapter"].before, tmp_path_factory.mktemp("two") / "w")
    assert launch(workspace).wait() == 0, (workspace.parent / "launcher.txt").read_text()[-3000:]
    (session,) = read_sessions(workspace / "run" / "sessions.jsonl")
    assert session["processes"] == 2, "one process has no other that could be left alone"
    return result(workspace)


def victim_of(workspace, process, whom):
    """The id of the process to kill."""
    if whom == "launcher":
        return process.pid
    return min(number for number, line in alive_on(workspace).items() if "torch.distributed.run" not in line)


def kill_after_some_steps(workspace, whom, number, *, steps):
    """Kills a launcher or a worker once a session has taken some steps; returns the exit code of the command."""
    run = workspace / "run"
    sessions = len(read_sessions(run / "sessions.jsonl"))
    process = launch(workspace)
    while not has_taken(steps, run=run, session=sessions):
        assert process.poll() is None, (workspace.parent / "launcher.txt").read_text()[-3000:]
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    os.kill(victim_of(workspace, process, whom), number)
    return process.wait()


def has_taken(steps, *, run, session):
    """Whether the session of this index has begun, and has taken some steps."""
    begun = read_sessions(run / "sessions.jsonl")[session:]
    log = read_log(run / "log.jsonl")
    return bool(begun and log) and log[-1]["step"] >= begun[0]["from_step"] + steps


def assert_nobody_works_on(workspace):
    """A dead process leaves the list of processes a moment after its parent, so the list is read more than once."""
    for _ in range(100):
        if not alive_on(workspace):
            return
    assert not alive_on(workspace)


def test_whoever_is_killed_all_processes_end_and_the_run_goes_on(undisturbed, whole, tmp_path):
    workspace, draw = copy(undisturbed["adapter"].before, tmp_path / "w"), random.Random(5)
    for whom, number, code in KILLS:
        steps = draw.randint(1, 2)
        print(f"{number.name} to the {whom} after {steps} step(s)")
        ended = kill_after_some_steps(workspace, whom, number, steps=steps)
        assert ended == code, (workspace.parent / "launcher.txt").read_text()[-3000:]
        assert_nobody_works_on(workspace)
    begun = [session["from_step"] for session in read_sessions(workspace / "run" / "sessions.jsonl")]
    assert begun[:2] == [0, 0]
    assert begun[2] > 0, "SIGTERM saved a step"
    assert launch(workspace).wait() == 0
    assert result(workspace) == whole
