"""Kaggle's answers, as the client 2.2.4 and 2.2.5 hand them on, and what they mean."""

import json

import pytest
from papermill.exceptions import PapermillExecutionError

from fintune_kit.kaggle.calls.replies import (
    LogLine,
    PushReply,
    failing_cell,
    find_push_fault,
    has_no_free_session,
    is_time_limit,
    last_error,
    ran_for,
    read_log,
    state_of,
)

REF = "alice/kit-01-data"


def fault(any_machine=False, **change):
    """The fault of a reply that is a success except for one change."""
    success = {"version": 3, "ref": REF, "url": f"https://www.kaggle.com/code/{REF}"}
    return find_push_fault(PushReply(**(success | change)), ref=REF, any_machine=any_machine)


@pytest.mark.parametrize(
    "address",
    [
        {"ref": REF},
        {"ref": f"/code/{REF}", "url": ""},
        {"ref": "", "url": f"https://www.kaggle.com/code/{REF}"},
        {"ref": "", "url": f"https://www.kaggle.com/{REF}/?scriptVersionId=3"},
        {"ref": "Alice/kit-01-data", "url": ""},
    ],
)
def test_a_version_under_the_address_that_was_asked_for_is_a_success(address):
    assert fault(**address) is None


@pytest.mark.parametrize("version", [0, -1])
def test_an_answer_without_a_version_is_not_a_success(version):
    assert "did not confirm the push" in fault(version=version)


@pytest.mark.parametrize(
    "address",
    [
        {"ref": "alice/kit-01-data-copy", "url": "https://www.kaggle.com/code/alice/kit-01-data-copy"},
        {"ref": "malice/kit-01-data", "url": ""},
        {"ref": "", "url": ""},
    ],
)
def test_another_address_is_not_a_success(address):
    assert f"expected {REF}: change the title" in fault(**address)


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
        ('The requested title "x" is already in use by a dataset.', "another dataset has this name"),
        ("Your source must be less than 1 megabytes", "use --deliver dataset"),
        ("Something new", "correct that and push again"),
    ],
)
def test_a_refusal_comes_with_its_remedy(error, remedy):
    assert f"refused the push ({error})" in fault(error=error)
    assert remedy in fault(error=error)


def test_a_dropped_source_is_a_failure_though_the_push_went_through():
    sentence = fault(dropped={"dataset sources": ["alice/nope"], "kernel sources": []})
    assert "(dataset sources: alice/nope)" in sentence
    assert "cancel that run" in sentence


def test_a_replaced_accelerator_is_a_failure_though_the_push_went_through():
    warnings = ("⚠ Warning: 'NvidiaTeslaP100' is retired.", "Sessions run on the default GPU (NvidiaTeslaT4) instead.")
    assert "replaced the accelerator (⚠ Warning: 'NvidiaTeslaP100' is retired.)" in fault(warnings=warnings)
    assert fault(warnings=warnings, any_machine=True) is None, "--force-accelerator"
    assert fault(warnings=("Warning: something else",)) is None


def test_only_a_lack_of_sessions_is_worth_waiting_for():
    assert has_no_free_session("Maximum batch GPU session count of 2 reached.")
    assert not has_no_free_session("Maximum weekly GPU quota of 30.00 hours reached.")
    assert not has_no_free_session("")


def test_a_limit_is_told_from_a_person():
    assert is_time_limit("Your notebook was stopped because it exceeded the max allowed execution duration.")
    assert not is_time_limit("")
    assert not is_time_limit("Cancelled by the user")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("QUEUED", "waiting"),
        ("KernelWorkerStatus.NEW_SCRIPT", "new"),
        ("RUNNING", "running"),
        ("KernelWorkerStatus.COMPLETE", "complete"),
        ("error", "failed"),
        ("CANCEL_REQUESTED", "running"),
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
