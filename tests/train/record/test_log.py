"""The step log: it is read while it is written, and it is not trusted when a run goes on."""

import json
import os
from pathlib import Path

import pytest

from fintune_kit.train.checkpoints import partial_folder, seal
from fintune_kit.train.record.log import STATE, read_log, restore_log


def record(step, loss=1.5):
    return {"step": step, "loss": loss, "learning_rate": 1e-4, "seconds": 0.25}


def lines(*steps):
    return b"".join(json.dumps(record(step)).encode() + b"\n" for step in steps)


@pytest.fixture
def log(tmp_path):
    """The log of a run that was killed in step 5, after the checkpoint of step 4."""
    path = tmp_path / "run" / "log.jsonl"
    path.parent.mkdir()
    path.write_bytes(lines(1, 2, 3, 4, 5))
    return path


def checkpoint(log, *, state):
    written = partial_folder(log.with_name("checkpoints")) / "checkpoint-4"
    written.mkdir(parents=True)
    (written / STATE).write_text(json.dumps(state, sort_keys=True))  # as transformers writes it
    return seal(written, log.with_name("checkpoints"), step=4, identity={})


@pytest.fixture
def sealed(log):
    """A checkpoint that holds the log."""
    return checkpoint(log, state={"log_history": [record(step) for step in (1, 2, 3, 4)]})


@pytest.mark.parametrize("end", [b'{"step": 3, "lo', b"\0\0\0\0", b"{", b'{"step": 3, "loss": 1.0}', b"\xff"])
def test_a_log_that_is_read_while_a_line_is_written_ends_before_it(log, end, caplog):
    log.write_bytes(lines(1, 2) + end)
    assert read_log(log) == [record(1), record(2)]
    assert not caplog.records, "nothing is wrong with it"


@pytest.mark.parametrize("middle", [b"", b"\0\0\0", b'{"step": 2, "lo', b"[]", b"7", b'{"loss": 1.0}', b"\xff\xfe"])
def test_a_damaged_line_is_left_out_and_named(log, middle, caplog):
    log.write_bytes(lines(1) + middle + b"\n" + lines(3))
    assert read_log(log) == [record(1), record(3)]
    assert "is damaged in line 2" in caplog.text


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []


def test_a_log_is_cut_to_the_step_from_which_the_run_goes_on(log, sealed, caplog):
    restore_log(log, checkpoint=sealed)
    assert log.read_bytes() == lines(1, 2, 3, 4)
    assert not caplog.records, "a kill is no damage"


DAMAGES = {
    "cut": lines(1, 2),
    "half a line": lines(1, 2, 3) + b'{"step": 4, "lo',
    "half a line, and more after it": lines(1, 2) + b'{"step": 3, "lo' + lines(4, 5),
    "a tail of NUL": lines(1, 2, 3) + b"\0" * 200,
    "lines out of order": lines(4, 1, 3),
    "empty": b"",
    "not text": b"\xff" * 100 + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_lost_steps_come_back_from_the_checkpoint(log, sealed, damage, caplog):
    log.write_bytes(DAMAGES[damage])
    restore_log(log, checkpoint=sealed)
    assert log.read_bytes() == lines(1, 2, 3, 4)
    assert "are restored from" in caplog.text


def test_blank_lines_go(log, sealed):
    log.write_bytes(lines(1, 2) + b"\n\n" + lines(3, 4) + b"\n")
    restore_log(log, checkpoint=sealed)
    assert log.read_bytes() == lines(1, 2, 3, 4)


def test_a_log_that_is_gone_comes_back_too(log, sealed):
    log.unlink()
    restore_log(log, checkpoint=sealed)
    assert log.read_bytes() == lines(1, 2, 3, 4)


def test_a_value_that_somebody_changed_is_that_of_the_checkpoint_again(log, sealed):
    log.write_bytes(lines(1, 2, 3) + json.dumps(record(4, loss=0.1)).encode() + b"\n")
    restore_log(log, checkpoint=sealed)
    assert log.read_bytes() == lines(1, 2, 3, 4)


def test_a_run_without_a_checkpoint_starts_with_an_empty_log(log):
    restore_log(log, checkpoint=None)
    assert log.read_bytes() == b""


def test_steps_that_nothing_holds_any_more_are_named(log, caplog):
    """A checkpoint of an earlier version holds no log."""
    earlier = checkpoint(log, state={"log_history": [{"step": 1, "loss": 1.5, "epoch": 0.1}]})
    log.write_bytes(lines(1, 4))
    restore_log(log, checkpoint=earlier)
    assert log.read_bytes() == lines(1, 4)
    assert "lacks the steps 2, 3, and so does" in caplog.text


def test_the_log_is_on_the_disk_before_a_checkpoint_is_sealed(log, monkeypatch):
    flushed = []
    flush = os.fsync

    def noted(descriptor):
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(str(log.parent)))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    checkpoint(log, state={})
    assert flushed[0] == "/log.jsonl"
    assert flushed[-1] == "/checkpoints", "the name of the checkpoint is on the disk too"
    assert len(flushed) == 4, "the log, the state, the manifest, the folder"
