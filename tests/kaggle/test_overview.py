"""`fintune-kit kaggle status`"""

import json
from datetime import UTC, datetime

from fintune_kit.kaggle.client import Kaggle
from fintune_kit.kaggle.overview import describe_chain
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
        "01_data   v1   complete                 began 2026-11-22 10:00  ran  0h12m  CPU",
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
