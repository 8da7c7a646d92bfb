"""The chain pushed and waited for: the real client, a Kaggle on loopback, and a clock that nobody waits for."""

import json
from dataclasses import dataclass, field

import pytest
from papermill.exceptions import PapermillExecutionError

from fintune_kit.errors import UserError
from fintune_kit.kaggle.chain import MOST_SILENCES, POLL_SECONDS, PushOptions, previous_output, push_chain
from fintune_kit.kaggle.client import Kaggle, UnreachableError
from fintune_kit.kaggle.delivery import deliver
from tests.kaggle.fake_server import Session

DATA = {"conversations/manifest.json": b"{}", "session.json": b"{}"}
PACKED = {"packed/manifest.json": b"{}"}
TRAINED = {"run/manifest.json": b"{}", "adapter/manifest.json": b"{}"}


def stopped(step):
    """The output of a training session that its time budget has stopped."""
    return {"run/plan.json": b"{}", f"run/checkpoints/checkpoint-{step}/manifest.json": b"{}", "session.json": b"{}"}


@dataclass
class Clock:
    """Time that passes only where somebody sleeps."""

    slept: list = field(default_factory=list)

    def sleep(self, seconds):
        assert len(self.slept) < 200, "it waits for ever"
        self.slept.append(seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said():
    return []


@pytest.fixture
def push(loopback, chain, tmp_path, clock, said):
    """Pushes kernels by name."""

    def go(*names, method="embed", **how):
        delivery = deliver(chain, method=method)
        options = PushOptions(out=tmp_path / "build", delivery=delivery, say=said.append, sleep=clock.sleep, **how)
        push_chain(Kaggle(), chain, chain.choose(names), options=options)

    return go


def sources(world):
    """Which sources each push attached."""
    return [(body["slug"].rpartition("/")[2], body.get("kernelDataSources", [])) for body in world.bodies("SaveKernel")]


def test_the_whole_chain_goes_on_when_a_kernel_is_done(loopback, push, clock, said):
    loopback.coming = [
        Session(states=["QUEUED", "RUNNING", "RUNNING", "COMPLETE"], files=DATA),
        Session(files=PACKED),
        Session(states=["RUNNING", "COMPLETE"], files=TRAINED),
    ]
    push(wait=True)
    assert sources(loopback) == [
        ("kit-01-data", []),
        ("kit-02-pack", ["alice/kit-01-data"]),
        ("kit-03-train", ["alice/kit-02-pack"]),
    ]
    assert clock.slept == [POLL_SECONDS] * 4
    assert said == [
        "01_data: pushed as version 1, https://kaggle.com/code/alice/kit-01-data",
        "01_data: waiting after 0 min",
        "01_data: running after 1 min",
        "01_data: done, version 1 wrote conversations",
        "02_pack: pushed as version 1, https://kaggle.com/code/alice/kit-02-pack",
        "02_pack: done, version 1 wrote packed",
        "03_train: pushed as version 1, https://kaggle.com/code/alice/kit-03-train",
        "03_train: running after 0 min",
        "03_train: done, version 1 wrote run, adapter",
    ]


def test_a_kernel_that_failed_ends_the_chain_and_shows_its_cell(loopback, push, said, tmp_path):
    failure = PapermillExecutionError(
        3, 2, "cell", "KeyError", "x", ["-----", "KeyError   Traceback", "KeyError: 'why'"]
    )
    log = json.dumps([{"stream_name": "stderr", "time": 9.0, "data": f"{failure}\n"}])
    loopback.coming = [Session(states=["ERROR"], log=log, files={"session.json": b"{}"})]
    with pytest.raises(UserError, match=r"01_data failed in cell 2 of .*01_data\.ipynb: KeyError: 'why'"):
        push(wait=True)
    assert said[-1] == "01_data: cell 2 failed\nKeyError   Traceback\nKeyError: 'why'"
    assert "KeyError: 'why'" in (tmp_path / "build" / "01_data.log").read_text()
    assert len(sources(loopback)) == 1, "nothing was pushed after it"


def test_kaggles_own_reason_for_a_failure_is_told(loopback, push):
    loopback.coming = [Session(states=["ERROR"], failure="Notebook exceeded disk space")]
    with pytest.raises(UserError, match="failed in its session: Notebook exceeded disk space"):
        push("01_data", wait=True)


def test_a_cancelled_run_is_said(loopback, push):
    loopback.coming = [Session(states=["RUNNING", "CANCEL_ACKNOWLEDGED"])]
    with pytest.raises(UserError, match="01_data was cancelled"):
        push("01_data", wait=True)


def test_complete_without_what_it_writes_is_not_done(loopback, push):
    loopback.coming = [Session(files={"session.json": b"{}"})]
    with pytest.raises(UserError, match="01_data ended without conversations and without a checkpoint"):
        push("01_data", wait=True)


def test_a_refused_push_is_a_failure_though_the_client_ends_with_zero(loopback, push):
    loopback.save_replies = [{"error": "Maximum weekly GPU quota of 30.00 hours reached."}]
    with pytest.raises(UserError, match=r"01_data: Kaggle refused the push .*GPU hours of this week are used up"):
        push("01_data")


def test_nothing_is_sent_where_one_kernel_is_wrong(loopback, push, checkout):
    notebook = json.loads((checkout / "03_train.ipynb").read_text())
    notebook["metadata"] = {}
    (checkout / "03_train.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(UserError, match="names no kernel"):
        push(wait=True)
    assert loopback.bodies("SaveKernel") == []


def test_a_chain_that_nobody_waits_for_is_refused(push):
    with pytest.raises(UserError, match="02_pack reads what 01_data would still be writing; add --wait"):
        push()


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (None, "alice/kit-02-pack has never been pushed; push 02_pack first"),
        (Session(states=["RUNNING"]), "02_pack is running; expected it complete"),
        (Session(states=["ERROR"]), "02_pack is failed; expected it complete"),
        (Session(files=DATA), "02_pack has not written packed"),
    ],
)
def test_a_kernel_waits_for_what_it_reads(loopback, push, before, sentence):
    if before:
        loopback.versions["alice/kit-02-pack"] = [before]
    with pytest.raises(UserError, match=sentence):
        push("03_train")
    assert loopback.bodies("SaveKernel") == []


def test_one_kernel_is_pushed_and_left_to_run(loopback, push, clock):
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    push("03_train")
    assert clock.slept == []
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack"])]


@pytest.fixture
def push_tpu(loopback, tpu_chain, tmp_path, clock, said):
    """Pushes kernels of the chain with a TPU, as they were chosen."""

    def go(*names, after=None, **how):
        delivery = deliver(tpu_chain, method="embed")
        options = PushOptions(out=tmp_path / "build", delivery=delivery, say=said.append, sleep=clock.sleep, **how)
        push_chain(Kaggle(), tpu_chain, tpu_chain.choose(names, after=after), options=options)

    return go


def test_a_run_on_a_tpu_that_is_named_is_the_one_that_is_evaluated(loopback, push_tpu, said):
    loopback.versions["alice/kit-01-data"] = [Session(files=DATA)]
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    loopback.coming = [
        Session(files=stopped(9)),
        Session(files=TRAINED),
        Session(files={"evaluation/manifest.json": b"{}"}),
    ]
    push_tpu("03_train_tpu", "04_evaluate", until_done=True)
    assert sources(loopback) == [
        ("kit-03-train-tpu", ["alice/kit-02-pack"]),
        ("kit-03-train-tpu", ["alice/kit-02-pack", "alice/kit-03-train-tpu/1"]),
        ("kit-04-evaluate", ["alice/kit-01-data", "alice/kit-03-train-tpu"]),
    ]
    assert loopback.bodies("SaveKernel")[0]["machineShape"] == "TpuV5E8"
    assert said[-1] == "04_evaluate: done, version 1 wrote evaluation"


def test_an_evaluation_of_a_tpu_run_waits_for_that_run_only(loopback, push_tpu):
    loopback.versions["alice/kit-01-data"] = [Session(files=DATA)]
    with pytest.raises(UserError, match="alice/kit-03-train has never been pushed"):
        push_tpu("04_evaluate")
    with pytest.raises(UserError, match="alice/kit-03-train-tpu has never been pushed"):
        push_tpu("04_evaluate", after="03_train_tpu")
    with pytest.raises(UserError, match="04_evaluate reads what 03_train_tpu would still be writing; add --wait"):
        push_tpu("03_train_tpu", "04_evaluate")
    assert loopback.bodies("SaveKernel") == []
    loopback.versions["alice/kit-03-train-tpu"] = [Session(files=TRAINED)]
    push_tpu("04_evaluate", after="03_train_tpu")
    assert sources(loopback) == [("kit-04-evaluate", ["alice/kit-01-data", "alice/kit-03-train-tpu"])]


def test_a_run_that_was_stopped_says_how_to_go_on(loopback, push):
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    loopback.coming = [Session(files=stopped(40))]
    with pytest.raises(UserError, match=r"no run and no adapter.*--resume --wait`, or --until-done"):
        push("03_train", wait=True)


def test_until_done_pushes_again_with_its_own_output_attached(loopback, push, said):
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    loopback.coming = [Session(files=stopped(9)), Session(files=stopped(100)), Session(files=TRAINED)]
    push("03_train", until_done=True)
    assert sources(loopback) == [
        ("kit-03-train", ["alice/kit-02-pack"]),
        ("kit-03-train", ["alice/kit-02-pack", "alice/kit-03-train/1"]),
        ("kit-03-train", ["alice/kit-02-pack", "alice/kit-03-train/2"]),
    ]
    assert "03_train: stopped by its time budget after 100 optimizer steps, with a checkpoint" in said
    assert said[-1] == "03_train: done, version 3 wrote run, adapter"


def test_sessions_that_make_no_step_end_before_they_eat_the_quota(loopback, push):
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    loopback.coming = [Session(files=stopped(9)), Session(files=stopped(9)), Session(files=TRAINED)]
    with pytest.raises(UserError, match="made no step beyond 9"):
        push("03_train", until_done=True)
    assert len(sources(loopback)) == 2


def test_resume_takes_the_newest_version_that_has_a_checkpoint(loopback, push):
    failed_early = Session(states=["ERROR"], files={"session.json": b"{}"})
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    loopback.versions["alice/kit-03-train"] = [Session(files=stopped(20)), Session(files=stopped(40)), failed_early]
    loopback.coming = [Session(files=TRAINED)]
    push("03_train", resume=True, wait=True)
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack", "alice/kit-03-train/2"])]


def test_resume_of_what_is_done_pushes_nothing(loopback, push, said):
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED)]
    loopback.versions["alice/kit-03-train"] = [Session(files=TRAINED)]
    push("03_train", resume=True)
    assert sources(loopback) == []
    assert said == ["03_train: done already, nothing to go on with"]


@pytest.mark.parametrize(
    ("sessions", "sentence"),
    [
        ([], "has never been pushed"),
        ([Session(states=["RUNNING"], files=stopped(9))], "still runs"),
        ([Session(files={"session.json": b"{}"})], "no output of alice/kit-03-train holds a checkpoint"),
    ],
)
def test_there_must_be_something_to_go_on_with(loopback, chain, sessions, sentence):
    if sessions:
        loopback.versions["alice/kit-03-train"] = sessions
    with pytest.raises(UserError, match=sentence):
        previous_output(Kaggle(), chain.kernel("03_train"))


def test_the_end_of_the_version_before_is_not_taken_for_the_end_of_this_one(loopback, push, clock, said):
    loopback.versions["alice/kit-01-data"] = [Session(files=DATA)]
    loopback.coming = [Session(states=["RUNNING", "ERROR"], failure="boom")]
    loopback.lag = 2
    with pytest.raises(UserError, match="boom"):
        push("01_data", wait=True)
    assert len(clock.slept) == 3


def test_a_wait_outlives_an_outage(loopback, push, clock):
    loopback.coming = [Session(states=["RUNNING", "COMPLETE"], files=DATA)]
    pushed = loopback.out_of_service

    def sleep(seconds, silent=clock.sleep):
        silent(seconds)
        if len(clock.slept) == 1:
            pushed.extend([503] * 5)

    clock.sleep = sleep
    push("01_data", wait=True)
    assert len(clock.slept) == 6


def test_outages_that_kaggle_answers_between_do_not_add_up(loopback, push, clock):
    loopback.coming = [Session(states=["RUNNING", "RUNNING", "COMPLETE"], files=DATA)]
    outage = MOST_SILENCES - 1

    def sleep(seconds, silent=clock.sleep):
        silent(seconds)
        if len(clock.slept) in (1, 2 + outage):
            loopback.out_of_service.extend([503] * outage)

    clock.sleep = sleep
    push("01_data", wait=True)
    assert len(clock.slept) == 2 + 2 * outage


def test_a_wait_ends_when_kaggle_stays_away(loopback, push, clock):
    loopback.coming = [Session(states=["RUNNING"], files=DATA)]

    def sleep(seconds, silent=clock.sleep):
        silent(seconds)
        loopback.out_of_service[:] = [503]

    clock.sleep = sleep
    with pytest.raises(UnreachableError):
        push("01_data", wait=True)
    assert len(clock.slept) == MOST_SILENCES + 1


def test_the_wheel_is_ready_before_a_kernel_attaches_it(loopback, push, clock, said):
    push("01_data", method="dataset")
    assert said[0] == "alice/fintune-kit-wheel: fintune_kit-9.9-py3-none-any.whl is ready"
    assert len(clock.slept) == 1
    methods = [name for name, _ in loopback.calls]
    assert methods.index("CreateDataset") < methods.index("SaveKernel")
    assert loopback.bodies("SaveKernel")[0]["datasetDataSources"] == ["alice/fintune-kit-wheel"]
