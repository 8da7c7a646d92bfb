"""`fintune-kit kaggle status`"""

import json
from datetime import UTC, datetime

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle
from fintune_kit.kaggle.calls.door import UnreachableError
from fintune_kit.kaggle.overview import describe_chain, find_running, follow_log
from fintune_kit.kaggle.waiting import MAX_SILENCES, POLL_SECONDS
from tests.kaggle.fake_server import Session


def test_each_kernel_with_its_times_and_what_is_left(loopback, chain):
    log = json.dumps([{"stream_name": "stdout", "time": 754, "data": "x"}])
    failed = json.dumps([{"stream_name": "stderr", "time": 60, "data": "ValueError: why\n"}])
    loopback.versions = {
        "alice/kit-01-data": [Session(files={"conversations/manifest.json": b""}, log=log)],
        "alice/kit-02-pack": [Session(), Session(states=["ERROR"], log=failed)],
        "alice/kit-03-train": [Session(states=["RUNNING"], machine_shape="NvidiaTeslaT4")],
    }
    assert describe_chain(Kaggle(), chain.kernels, now=datetime(2026, 11, 22, 13, 30, tzinfo=UTC)).splitlines() == [
        "01_data   v1   done                     began 2026-11-22 10:00  ran  0h12m  CPU",
        "02_pack   v2   failed                   began 2026-11-22 10:00  ran  0h01m  CPU",
        "    ValueError: why",
        "03_train  v1   running                  began 2026-11-22 10:00  ran  3h30m  NvidiaTeslaT4",
        "GPU quota: 29.0 of 30.0 h left this week, reset 2026-11-28 00:00 UTC",
        "TPU quota: 19.0 of 20.0 h left this week, reset 2026-11-28 00:00 UTC",
    ]


def test_stopped_incomplete_and_never_pushed(loopback, chain):
    loopback.versions = {
        "alice/kit-02-pack": [Session()],
        "alice/kit-03-train": [Session(files={"run/checkpoints/checkpoint-40/manifest.json": b""})],
    }
    first, second, third, *_ = describe_chain(Kaggle(), chain.kernels).splitlines()
    assert first == "01_data   never pushed"
    assert "complete, no packed" in second
    assert "stopped at step 40" in third


def test_a_newer_failure_does_not_hide_a_finished_version(loopback, chain):
    loopback.versions = {
        "alice/kit-01-data": [
            Session(files={"conversations/manifest.json": b""}),
            Session(states=["CANCEL_ACKNOWLEDGED"], failure="exceeded the max allowed execution duration"),
        ]
    }
    first, reason, older, *_ = describe_chain(Kaggle(), chain.kernels).splitlines()
    assert "v2   cancelled" in first
    assert (reason, older) == ("    exceeded the max allowed execution duration", "    version 1 is done")


def test_a_kernel_that_cannot_be_asked_does_not_keep_the_others(loopback, chain):
    loopback.versions = {"alice/kit-03-train": [Session(states=["RUNNING"])]}
    kaggle = Kaggle()
    loopback.failing["GetKernel"] = [503]
    loopback.failing["GetAcceleratorQuotaStatistics"] = [(200, "<html>")]
    first, second, third, quota = describe_chain(kaggle, chain.kernels).splitlines()
    assert first == (
        "01_data   could not be asked: Kaggle answered 503 about alice/kit-01-data (out of service): Kaggle has a "
        "fault; run the same command again later"
    )
    assert second == "02_pack   never pushed"
    assert "running" in third
    assert quota.startswith("quota: Kaggle's answer about the quota is not JSON")


def test_the_quota_stands_beside_what_the_plan_needs(loopback, chain):
    *_, gpu, tpu = describe_chain(Kaggle(), chain.kernels, needed={"GPU": (0.6, 2.14)}).splitlines()
    assert gpu == "GPU quota: 29.0 of 30.0 h left this week (the plan needs 0.6 to 2.1 h), reset 2026-11-28 00:00 UTC"
    assert "plan" not in tpu


# Following a log


def pieces(*texts):
    return [json.dumps({"stream_name": "stdout", "time": 1, "data": text}) for text in texts]


@pytest.fixture
def followed(loopback, chain):
    """Follows 03_train; the pieces that were shown, and the sleeps."""

    def go():
        shown, slept = [], []
        follow_log(Kaggle(), chain.kernel("03_train"), show=shown.append, sleep=slept.append)
        return shown, slept

    return go


def test_a_log_is_shown_until_its_end(loopback, followed):
    loopback.streams = [[*pieces("a\n", "b\n"), "END_OF_LOG"]]
    assert followed() == (["a\n", "b\n"], [])


def test_a_connection_that_broke_off_is_made_again_and_nothing_is_shown_twice(loopback, followed):
    loopback.streams = [pieces("a\n", "b\n"), [], [*pieces("a\n", "b\n", "c\n"), "END_OF_LOG"]]
    assert followed() == (["a\n", "b\n", "c\n"], [POLL_SECONDS] * 2)


def test_a_log_that_stays_away_ends_the_following(loopback, followed):
    loopback.streams = [[] for _ in range(MAX_SILENCES + 1)]
    with pytest.raises(UnreachableError):
        followed()
    assert loopback.streams == []


def test_the_running_kernel_is_found(loopback, chain):
    loopback.versions = {"alice/kit-01-data": [Session()], "alice/kit-02-pack": [Session(states=["RUNNING"])]}
    assert find_running(Kaggle(), chain.kernels).name == "02_pack"
    loopback.versions["alice/kit-02-pack"] = [Session()]
    with pytest.raises(UserError, match="no session of 01_data, 02_pack, 03_train is running"):
        find_running(Kaggle(), chain.kernels)
