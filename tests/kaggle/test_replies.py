"""What Kaggle says, and what it means: texts as the client 2.2.4 and 2.2.5 print them."""

import json

import pytest
from papermill.exceptions import PapermillExecutionError

from fintune_kit.kaggle.replies import (
    LogLine,
    PushReply,
    failing_cell,
    find_push_fault,
    last_error,
    ran_for,
    read_log,
    state_of,
)

PUSHED = "Kernel version 3 successfully pushed.  Please check progress at https://kaggle.com/code/alice/kit"


@pytest.mark.parametrize(
    "said", [PUSHED, "Kernel version 3 successfully saved without running.  See https://kaggle.com/code/alice/kit"]
)
def test_only_this_is_a_success(said):
    assert find_push_fault(PushReply(said=said)) is None


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("Maximum batch GPU session count of 2 reached.", "all GPU sessions are in use; wait until one ends"),
        ("Maximum weekly GPU quota of 30.00 hours reached.", "the GPU hours of this week are used up"),
        ("Maximum weekly TPU quota of 20.00 hours reached.", "the TPU hours of this week are used up"),
        ("Notebook not found", "check the owner"),
        ("Your account needs phone verification", "verify the phone"),
        ("403 - Forbidden", "this account may not do that"),
        ("The title is already in use", "change it in kaggle-metadata.json"),
        ("Something new", "correct that and push again"),
    ],
)
def test_a_refusal_comes_with_what_to_do(error, remedy):
    for reply in (PushReply(said=f"Kernel push error: {error}"), PushReply(said="", error=error)):
        fault = find_push_fault(reply)
        assert f"refused the push ({error})" in fault
        assert remedy in fault


@pytest.mark.parametrize("kind", ["dataset", "kernel", "competition", "model"])
def test_a_dropped_source_is_a_failure_though_the_push_went_through(kind):
    said = f"The following are not valid {kind} sources and could not be added to the kernel: ['alice/nope']\n{PUSHED}"
    fault = find_push_fault(PushReply(said=said, version=3))
    assert f"{kind} sources: alice/nope" in fault
    assert "cancel that run" in fault


def test_a_replaced_accelerator_is_a_failure_though_the_push_went_through():
    warning = "⚠ Warning: 'NvidiaTeslaP100' is retired.\n  Sessions run on the default GPU (NvidiaTeslaT4) instead.\n"
    fault = find_push_fault(PushReply(said=warning + PUSHED, version=3))
    assert "replaced the accelerator" in fault
    assert "NvidiaTeslaP100" in fault
    assert find_push_fault(PushReply(said=warning + PUSHED, version=3), any_machine=True) is None, "--force-accelerator"


@pytest.mark.parametrize("said", ["", "Kernel push error: see previous output", "502 Bad Gateway"])
def test_an_answer_that_does_not_say_so_is_no_success(said):
    assert find_push_fault(PushReply(said=said)) is not None


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("QUEUED", "waiting"),
        ("KernelWorkerStatus.NEW_SCRIPT", "waiting"),
        ("RUNNING", "running"),
        ("KernelWorkerStatus.COMPLETE", "complete"),
        ("error", "failed"),
        ("CANCEL_REQUESTED", "cancelled"),
        ("CANCEL_ACKNOWLEDGED", "cancelled"),
        ("SOMETHING_NEW", "running"),
    ],
)
def test_states(status, state):
    assert state_of(status) == state


def test_the_cell_that_failed_is_read_from_papermills_own_words():
    frames = ["\x1b[31m-----\x1b[0m", "KeyError  \x1b[39mTraceback (most recent call last)", "KeyError: 'the reason'"]
    said = f"Traceback (most recent call last):\n{PapermillExecutionError(3, 2, 'cell', 'KeyError', 'x', frames)}\n"
    pieces = [{"stream_name": "stderr", "time": 1.5, "data": line} for line in said.splitlines(keepends=True)]
    lines = read_log(json.dumps(pieces))
    number, traceback = failing_cell(lines)
    assert number == 2
    assert traceback.splitlines() == ["KeyError  Traceback (most recent call last)", "KeyError: 'the reason'"]
    assert last_error(lines) == "KeyError: 'the reason'"
    assert ran_for(lines) == 1.5


def test_a_log_without_a_failing_cell_ends_with_its_last_words():
    lines = read_log('[{"stream_name": "stderr", "time": 3, "data": "Killed\\n"}]')
    assert lines == [LogLine(stream="stderr", seconds=3.0, text="Killed\n")]
    assert failing_cell(lines) is None
    assert last_error(lines) == "Killed"


@pytest.mark.parametrize(("log", "text"), [("", []), ("plain words", ["plain words"]), ("{", ["{"]), ("[1]", ["[1]"])])
def test_a_log_of_another_form_is_kept_as_it_is(log, text):
    assert [line.text for line in read_log(log)] == text
    assert last_error(read_log(log)) == (text or ["the log is empty"])[0]
