"""Each stage is killed at moments that a seed chooses. The same command then leaves the bytes of a run unharmed."""

import random
import signal
import tempfile
from itertools import product
from pathlib import Path

import pytest

from fintune_kit.workspace import MANIFEST, check_files, read_json
from tests.faults.commands import VERBS, assert_one_sentence, contents, copy, in_pairs, run, start, wait_until

KILLS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
"""The signals, each with its exit code."""
MOMENTS = {"conversations": 1, "packed": 1, "adapter": 2, "evaluation": 1, "merged": 1}
"""How often each stage is killed with each signal: 18 kills in all. Launchers and workers have a file of their own."""


@pytest.mark.parametrize("stage", VERBS)
def test_a_killed_stage_leaves_nothing_false_and_the_same_command_ends_it(stage, undisturbed, tmp_path):
    whole = undisturbed[stage]
    kills = []
    for (number, code), again in product(KILLS.items(), range(MOMENTS[stage])):
        moment = random.Random(f"{stage} {number} {again}").randint(1, whole.moments)
        kills.append((number, code, moment))
        print(f"{stage}: {number.name} at moment {moment} of {whole.moments}")
    in_pairs(lambda kill: kill_and_repeat(stage, *kill, whole=whole, root=tmp_path), kills)


def kill_and_repeat(stage, number, code, moment, *, whole, root):
    """Kills a stage at a moment, looks at what is left, and runs it again."""
    told = f"{stage}, {number.name} at moment {moment} of {whole.moments}"
    workspace = copy(whole.before, Path(tempfile.mkdtemp(dir=root)) / "w")
    killed = run(workspace, VERBS[stage], number=number, moment=moment)
    assert killed.code == code, f"{told}: exit code {killed.code}: {killed.said[-2000:]}"
    if number != signal.SIGKILL:
        assert_one_sentence(killed.said, starts="stopped by ", told=told)
    if (workspace / stage / MANIFEST).is_file():
        check_files(workspace / stage, read_json(workspace / stage / MANIFEST), stage="adapter")
    again = run(workspace, VERBS[stage])
    assert again.code == 0, f"{told}: {again.said[-2000:]}"
    assert contents(workspace) == whole.after, told


def test_of_two_at_once_on_one_workspace_one_writes_and_the_other_hears_who(undisturbed, tmp_path):
    """The second one starts while the first one holds the lock."""
    whole = undisturbed["adapter"]
    workspace = copy(whole.before, tmp_path / "w")
    first = start(workspace, VERBS["adapter"])
    lock = workspace / ".run.lock"
    wait_until(lambda: lock.is_file() and lock.read_text(), process=first.process)
    second = run(workspace, VERBS["adapter"])
    assert second.code == 2
    assert_one_sentence(second.said, starts="error: ")
    assert f"is being written by process {first.process.pid} on " in second.said
    assert first.end().code == 0
    assert contents(workspace) == whole.after
