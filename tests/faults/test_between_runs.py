"""Damage to a run between two sessions: the second one mends it, or refuses it in one sentence."""

import shutil
from pathlib import Path

import pytest

from tests.faults.commands import VERBS, assert_one_sentence, contents, copy, in_pairs, run

STEPS = 3
NEWEST = Path("checkpoints", "checkpoint-3")


@pytest.fixture(scope="module")
def stopped(undisturbed, tmp_path_factory):
    """A workspace whose training was stopped, with the checkpoints of the steps 2 and 3."""
    workspace = copy(undisturbed["adapter"].before, tmp_path_factory.mktemp("stopped") / "w")
    assert run(workspace, [*VERBS["adapter"], "--steps", str(STEPS)]).code == 0
    assert sorted(path.name for path in (workspace / "run" / "checkpoints").glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-3",
    ]
    return workspace


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path, *, lines, more=b""):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]) + more)


MENDED = {
    "the log lost its end": lambda run: cut(run / "log.jsonl", lines=1),
    "the log ends in half a line": lambda run: cut(run / "log.jsonl", lines=2, more=b'{"step": 3, "lo'),
    "the log ends in NUL": lambda run: cut(run / "log.jsonl", lines=2, more=bytes(4096)),
    "the log has blank lines": lambda run: cut(run / "log.jsonl", lines=3, more=b"\n\n"),
    "the log is gone": lambda run: (run / "log.jsonl").unlink(),
    "the history of sessions is damaged": lambda run: (run / "sessions.jsonl").write_bytes(bytes(99)),
    "the plan is damaged": lambda run: cut(run / "plan.json", lines=5),
    "the newest checkpoint has a flipped bit": lambda run: flip_a_bit(run / NEWEST / "optimizer.pt"),
    "the newest checkpoint was not sealed": lambda run: (run / NEWEST / "manifest.json").unlink(),
    "all checkpoints are gone": lambda run: shutil.rmtree(run / "checkpoints"),
}
REFUSED = {
    "scaler.pt is not listed": lambda run: (run / NEWEST / "scaler.pt").touch(),
    "another content (SHA-256) than": lambda run: flip_a_bit(run.parent / "base" / "model.safetensors"),
}


def test_damage_between_two_sessions_is_mended(stopped, undisturbed, tmp_path):
    def damage_and_go_on(name):
        workspace = copy(stopped, tmp_path / name.replace(" ", "-"))
        MENDED[name](workspace / "run")
        again = run(workspace, VERBS["adapter"])
        assert again.code == 0, f"{name}: {again.said[-2000:]}"
        assert contents(workspace) == undisturbed["adapter"].after, name

    in_pairs(damage_and_go_on, list(MENDED))


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_checkpoint_or_a_base_that_is_not_that_of_the_run_is_refused(stopped, tmp_path, sentence):
    workspace = copy(stopped, tmp_path / "w")
    REFUSED[sentence](workspace / "run")
    refused = run(workspace, VERBS["adapter"])
    assert refused.code == 2, refused.said[-3000:]
    assert_one_sentence(refused.said, starts="error: ")
    assert sentence in refused.said.splitlines()[-1]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"])
def test_a_finished_run_without_a_file_of_its_adapter_claims_no_success(undisturbed, tmp_path, name):
    workspace = copy(undisturbed["adapter"].workspace, tmp_path / "w")
    (workspace / "adapter" / name).unlink()
    refused = run(workspace, VERBS["adapter"])
    assert refused.code == 2, refused.said[-3000:]
    assert_one_sentence(refused.said, starts="error: ")
    shutil.rmtree(workspace / "adapter")
    assert run(workspace, VERBS["adapter"]).code == 0
    assert contents(workspace) == undisturbed["adapter"].after
