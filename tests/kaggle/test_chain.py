"""The chain brought about: the real client, a Kaggle on loopback, and a clock that nobody waits for."""

import hashlib
import json
from dataclasses import dataclass, field

import pytest
from papermill.exceptions import PapermillExecutionError

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle
from fintune_kit.kaggle.chain import PushOptions, push_chain
from fintune_kit.kaggle.delivery import deliver
from fintune_kit.kaggle.waiting import MAX_REFUSALS, MAX_RUNNING_MINUTES, MAX_SILENCES, POLL_SECONDS
from tests.kaggle.fake_server import Session

DATA = {"conversations/manifest.json": b"{}", "session.json": b"{}"}
PACKED = {"packed/manifest.json": b"{}"}
TRAINED = {"run/manifest.json": b"{}", "adapter/manifest.json": b"{}"}
LIMIT = "Your notebook was stopped because it exceeded the max allowed execution duration."
FAILED_EARLY = {"session.json": b"{}"}


def sha(content):
    return hashlib.sha256(content).hexdigest()


THESE_PACKS = sha(PACKED["packed/manifest.json"])


def packing_is_done():
    return {"alice/kit-02-pack": [Session(files=PACKED)]}


def stopped(step, packed=THESE_PACKS, recipe="p100"):
    """The output of a training session that its time budget has stopped."""
    plan = json.dumps({"recipe": {"name": recipe}, "packed": packed, "base": "b", "plan": {"step": step}}).encode()
    return {"run/plan.json": plan, f"run/checkpoints/checkpoint-{step}/manifest.json": b"{}", "session.json": b"{}"}


@dataclass
class Clock:
    """Time that passes only where somebody sleeps."""

    slept: list = field(default_factory=list)
    at: dict = field(default_factory=dict)
    """By the number of a sleep, what happens then."""
    at_most: int = 200

    def sleep(self, seconds):
        assert len(self.slept) < self.at_most, "it waits for ever"
        self.slept.append(seconds)
        for event in self.at.get(len(self.slept), ()):
            event()


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
    """The sources that each push attached."""
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


# The look before a push


def test_the_same_command_again_pushes_nothing_when_all_is_done(loopback, push, said):
    loopback.coming = [Session(files=DATA), Session(files=PACKED), Session(files=TRAINED)]
    push(until_done=True)
    del said[:]
    push(until_done=True)
    assert len(sources(loopback)) == 3
    assert said == [
        "01_data: done already, version 1 wrote conversations; --fresh runs it again",
        "02_pack: done already, version 1 wrote packed; --fresh runs it again",
        "03_train: done already, version 1 wrote run, adapter; --fresh runs it again",
    ]


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "CANCEL_REQUESTED", "HIBERNATING"])
def test_a_session_that_runs_is_waited_for_and_not_joined_by_another(loopback, push, said, state):
    loopback.versions |= {**packing_is_done(), "alice/kit-03-train": [Session(states=[state] * 4 + ["COMPLETE"])]}
    loopback.versions["alice/kit-03-train"][0].files = TRAINED
    push("03_train", until_done=True)
    assert sources(loopback) == []
    assert said[0] == "03_train: version 1 is running already: waiting for it"
    assert said[-1] == "03_train: done, version 1 wrote run, adapter"


def test_a_session_that_runs_is_said_where_nobody_waits(loopback, push, said, clock):
    loopback.versions |= {**packing_is_done(), "alice/kit-03-train": [Session(states=["RUNNING"])]}
    push("03_train")
    assert (sources(loopback), clock.slept) == ([], [])
    assert said == ["03_train: version 1 is running already; --wait waits for it"]


def test_a_stopped_run_goes_on_from_its_newest_checkpoint(loopback, push, said):
    loopback.versions |= {
        **packing_is_done(),
        "alice/kit-03-train": [
            Session(files=stopped(20)),
            Session(files=stopped(40)),
            Session(states=["ERROR"], files=FAILED_EARLY),
        ],
    }
    loopback.coming = [Session(files=TRAINED)]
    push("03_train", wait=True)
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack", "alice/kit-03-train/2"])]
    assert said[0] == "03_train: continuing from version 2, which did 40 optimizer steps"


@pytest.mark.parametrize("before", [stopped(40), TRAINED])
def test_fresh_starts_over(loopback, push, before):
    loopback.versions |= {**packing_is_done(), "alice/kit-03-train": [Session(files=before)]}
    push("03_train", fresh=True)
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack"])]


def test_fresh_does_not_start_beside_a_session_that_runs(loopback, push):
    loopback.versions |= {**packing_is_done(), "alice/kit-03-train": [Session(states=["RUNNING"])]}
    with pytest.raises(UserError, match=r"version 1 of 03_train is running; cancel it at kaggle\.com/code/alice"):
        push("03_train", fresh=True, wait=True)
    assert sources(loopback) == []


def test_a_finished_version_counts_though_a_newer_one_failed(loopback, push, said):
    loopback.versions["alice/kit-01-data"] = [Session(files=DATA), Session(states=["ERROR"], files=FAILED_EARLY)]
    push("01_data")
    assert sources(loopback) == []
    assert said == [
        "01_data: done already, version 1 wrote conversations (version 2 after it is failed); --fresh runs it again"
    ]


def test_a_kernel_that_failed_is_pushed_again(loopback, push):
    loopback.versions["alice/kit-01-data"] = [Session(states=["ERROR"], files=FAILED_EARLY)]
    push("01_data")
    assert sources(loopback) == [("kit-01-data", [])]


def test_a_kernel_that_was_saved_and_never_run_is_not_waited_for(loopback, push):
    loopback.versions["alice/kit-01-data"] = [Session(states=["NEW_SCRIPT"])]
    push("01_data")
    assert sources(loopback) == [("kit-01-data", [])]


def manifest(text, inputs=None):
    """Of a stage with one file, as `write_manifest` leaves it."""
    return json.dumps({"inputs": inputs or {}, "files": {"rows.parquet": text}}).encode()


@pytest.fixture
def made(loopback):
    """Three kernels that are done, each made from the output of the one before."""
    conversations = manifest("rows")
    packed = manifest("packs", {"conversations/rows.parquet": "rows"})
    trained = manifest("run", {"packed": sha(packed)})
    loopback.versions |= {
        "alice/kit-01-data": [Session(files={"conversations/manifest.json": conversations})],
        "alice/kit-02-pack": [Session(files={"packed/manifest.json": packed})],
        "alice/kit-03-train": [Session(files={"run/manifest.json": trained, "adapter/manifest.json": trained})],
    }
    return loopback.versions


def test_what_was_made_from_the_newest_inputs_is_left_alone(loopback, push, made):
    push(wait=True)
    assert sources(loopback) == []


def test_what_was_made_from_other_inputs_runs_again(loopback, push, made, said):
    conversations = manifest("other rows")
    packed = manifest("other packs", {"conversations/rows.parquet": "other rows"})
    made["alice/kit-01-data"].append(Session(files={"conversations/manifest.json": conversations}))
    loopback.coming = [Session(files={"packed/manifest.json": packed}), Session(files=TRAINED)]
    push(wait=True)
    assert sources(loopback) == [("kit-02-pack", ["alice/kit-01-data"]), ("kit-03-train", ["alice/kit-02-pack"])]
    assert "02_pack: version 1 was made from another conversations/ than the current one: starting again" in said
    assert "03_train: version 1 was made from another packed/ than the current one: starting again" in said


@pytest.mark.parametrize("same", [True, False])
def test_only_a_checkpoint_of_these_packs_is_attached(loopback, push, made, same):
    packed = sha(made["alice/kit-02-pack"][0].files["packed/manifest.json"])
    made["alice/kit-03-train"] = [Session(files=stopped(40, packed=packed if same else "other"))]
    push("03_train")
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack", *(["alice/kit-03-train/1"] if same else [])])]


# Inputs


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (None, "alice/kit-02-pack has never been pushed; push 02_pack first"),
        (Session(states=["RUNNING"]), "02_pack is running; expected it finished"),
        (Session(states=["ERROR"]), "02_pack is failed; expected it finished"),
        (Session(files=DATA), "02_pack has not written packed; expected it finished"),
    ],
)
def test_a_kernel_needs_what_it_reads(loopback, push, before, sentence):
    if before:
        loopback.versions["alice/kit-02-pack"] = [before]
    with pytest.raises(UserError, match=sentence):
        push("03_train")
    assert loopback.bodies("SaveKernel") == []


def test_an_input_that_runs_is_waited_for(loopback, push, said):
    loopback.versions["alice/kit-02-pack"] = [Session(states=["RUNNING", "RUNNING", "COMPLETE"], files=PACKED)]
    loopback.coming = [Session(files=TRAINED)]
    push("03_train", wait=True)
    assert said[0] == "02_pack: is running, and others read it: waiting for it"
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack"])]


@pytest.mark.parametrize("later", [Session(states=["ERROR"], files=FAILED_EARLY), Session(files=FAILED_EARLY)])
def test_a_newer_version_that_failed_does_not_hide_a_finished_input(loopback, push, said, later):
    loopback.versions["alice/kit-02-pack"] = [Session(), Session(files=PACKED), later, later]
    push("03_train")
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack/2"])]
    assert said[0] == "02_pack: version 2 is read, because no newer one is finished"


def test_a_finished_kernel_of_the_same_command_is_read_by_its_version(loopback, push):
    loopback.versions["alice/kit-02-pack"] = [Session(files=PACKED), Session(states=["ERROR"], files=FAILED_EARLY)]
    loopback.versions["alice/kit-01-data"] = [Session(files=DATA)]
    push("02_pack", "03_train")
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack/1"])]


def test_one_kernel_is_pushed_and_left_to_run(loopback, push, clock):
    loopback.versions |= packing_is_done()
    push("03_train")
    assert clock.slept == []
    assert sources(loopback) == [("kit-03-train", ["alice/kit-02-pack"])]


def test_a_chain_that_nobody_waits_for_is_refused(loopback, push):
    with pytest.raises(UserError, match="02_pack reads the output of 01_data, which would not be finished; add --wait"):
        push()
    assert sources(loopback) == []


def test_nothing_is_sent_where_one_kernel_is_wrong(loopback, push, checkout):
    notebook = json.loads((checkout / "03_train.ipynb").read_text())
    notebook["metadata"] = {}
    (checkout / "03_train.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(UserError, match="names no kernel"):
        push(wait=True)
    assert loopback.bodies("SaveKernel") == []


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
    loopback.versions |= packing_is_done()
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
    loopback.versions |= packing_is_done()
    with pytest.raises(
        UserError, match="04_evaluate reads the output of 03_train_tpu, which would not be finished; add --wait"
    ):
        push_tpu("03_train_tpu", "04_evaluate")
    assert loopback.bodies("SaveKernel") == []
    loopback.versions["alice/kit-03-train-tpu"] = [Session(files=TRAINED)]
    push_tpu("04_evaluate", after="03_train_tpu")
    assert sources(loopback) == [("kit-04-evaluate", ["alice/kit-01-data", "alice/kit-03-train-tpu"])]


# The end of a session


def test_a_kernel_that_failed_ends_the_chain_and_shows_its_cell(loopback, push, said, tmp_path):
    failure = PapermillExecutionError(
        3, 2, "cell", "KeyError", "x", ["-----", "KeyError   Traceback", "KeyError: 'why'"]
    )
    log = json.dumps([{"stream_name": "stderr", "time": 9.0, "data": f"{failure}\n"}])
    loopback.coming = [Session(states=["ERROR"], log=log, files={"session.json": b"{}"})]
    with pytest.raises(UserError, match=r"01_data failed in cell 2: KeyError: 'why' \(log: .*01_data\.log\)"):
        push(wait=True)
    assert said[-1] == "01_data: cell 2 failed\nKeyError   Traceback\nKeyError: 'why'"
    assert "KeyError: 'why'" in (tmp_path / "build" / "01_data.log").read_text()
    assert len(sources(loopback)) == 1, "nothing was pushed after it"


def test_kaggles_own_reason_for_a_failure_is_told(loopback, push):
    loopback.coming = [Session(states=["ERROR"], failure="Notebook exceeded disk space")]
    with pytest.raises(UserError, match="failed in its session: Notebook exceeded disk space"):
        push("01_data", wait=True)


def test_complete_without_its_stages_is_not_done(loopback, push):
    loopback.coming = [Session(files={"session.json": b"{}"})]
    with pytest.raises(UserError, match="01_data ended, without conversations and without a checkpoint"):
        push("01_data", wait=True)


@pytest.mark.parametrize(
    ("end", "said_of_it"),
    [
        (Session(files=stopped(9)), "03_train: was stopped by its time budget after 9 optimizer steps; going on"),
        (
            Session(states=["CANCEL_ACKNOWLEDGED"], failure=LIMIT, files=stopped(9)),
            f"03_train: was stopped by Kaggle ({LIMIT}) after 9 optimizer steps (log: ",
        ),
        (
            Session(states=["ERROR"], failure="Out of memory", files=stopped(9)),
            "03_train: failed in its session: Out of memory after 9 optimizer steps (log: ",
        ),
    ],
)
def test_until_done_goes_on_from_any_end_that_gained_steps(loopback, push, said, end, said_of_it):
    loopback.versions |= packing_is_done()
    loopback.coming = [end, Session(files=stopped(100)), Session(files=TRAINED)]
    push("03_train", until_done=True)
    assert sources(loopback) == [
        ("kit-03-train", ["alice/kit-02-pack"]),
        ("kit-03-train", ["alice/kit-02-pack", "alice/kit-03-train/1"]),
        ("kit-03-train", ["alice/kit-02-pack", "alice/kit-03-train/2"]),
    ]
    assert any(line.startswith(said_of_it) for line in said), said
    assert said[-1] == "03_train: done, version 3 wrote run, adapter"


def test_a_finished_output_is_done_though_the_session_was_killed_after_it(loopback, push, said):
    loopback.versions |= packing_is_done()
    loopback.coming = [Session(states=["CANCEL_ACKNOWLEDGED"], failure=LIMIT, files=TRAINED)]
    push("03_train", until_done=True)
    assert said[-1] == "03_train: done, version 1 wrote run, adapter"


@pytest.mark.parametrize("failure", ["", "Cancelled by the user"])
def test_a_person_who_cancels_a_session_is_obeyed(loopback, push, failure):
    loopback.versions |= packing_is_done()
    loopback.coming = [Session(states=["CANCEL_ACKNOWLEDGED"], failure=failure, files=stopped(9))]
    with pytest.raises(UserError, match=r"03_train was cancelled .*run the same command again to go on"):
        push("03_train", until_done=True)
    assert len(sources(loopback)) == 1


@pytest.mark.parametrize(
    "again",
    [
        Session(files=stopped(9)),
        Session(states=["CANCEL_ACKNOWLEDGED"], failure=LIMIT, files=stopped(9)),
        Session(states=["ERROR"], files=stopped(8)),
    ],
)
def test_sessions_that_gain_no_step_end_before_they_eat_the_quota(loopback, push, again):
    loopback.versions |= packing_is_done()
    loopback.coming = [Session(files=stopped(9)), again, Session(files=TRAINED)]
    with pytest.raises(UserError, match="its last session made no step beyond 9"):
        push("03_train", until_done=True)
    assert len(sources(loopback)) == 2


def test_a_killed_session_whose_output_kaggle_did_not_keep_stops_the_chain(loopback, push, clock):
    loopback.versions |= packing_is_done()
    loopback.coming = [Session(files=stopped(9)), Session(states=["CANCEL_ACKNOWLEDGED"], failure=LIMIT)]
    with pytest.raises(UserError, match=r"was stopped by Kaggle .*without a checkpoint"):
        push("03_train", until_done=True)
    assert len(sources(loopback)) == 2
    assert len(clock.slept) == 5, "Kaggle may list an output some minutes later"


def test_another_run_beside_an_old_checkpoint_is_judged_by_its_own_steps(loopback, push, said):
    loopback.versions |= {**packing_is_done(), "alice/kit-03-train": [Session(files=stopped(40, recipe="old"))]}
    loopback.coming = [Session(files=stopped(9)), Session(files=TRAINED)]
    push("03_train", until_done=True)
    assert said[-1] == "03_train: done, version 3 wrote run, adapter"


def test_a_session_that_was_attached_to_is_judged_by_the_checkpoint_before_it(loopback, push):
    running = Session(states=["RUNNING", "RUNNING", "ERROR"], files=stopped(9))
    loopback.versions |= {**packing_is_done(), "alice/kit-03-train": [Session(files=stopped(9)), running]}
    with pytest.raises(UserError, match="made no step beyond 9"):
        push("03_train", until_done=True)
    assert sources(loopback) == []


def test_a_run_that_was_stopped_says_how_to_go_on(loopback, push):
    loopback.versions |= packing_is_done()
    loopback.coming = [Session(files=stopped(40))]
    with pytest.raises(UserError, match=r"after 40 optimizer steps, without run and adapter; .*--until-done does so"):
        push("03_train", wait=True)


# Kaggle's faults


def test_a_refused_push_is_a_failure(loopback, push):
    loopback.save_replies = [{"error": "Maximum weekly GPU quota of 30.00 hours reached."}]
    with pytest.raises(UserError, match=r"01_data: Kaggle refused the push .*GPU hours of this week are used up"):
        push("01_data", wait=True)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ({"versionNumber": 0}, "01_data: Kaggle did not confirm the push"),
        ({"ref": "alice/kit-01-data-2", "url": "https://kaggle.com/code/alice/kit-01-data-2"}, "saved the kernel as"),
    ],
)
def test_a_push_that_is_not_proven_is_a_failure(loopback, push, reply, sentence):
    loopback.save_replies = [reply]
    with pytest.raises(UserError, match=sentence):
        push("01_data", wait=True)


NO_SESSION = {"error": "Maximum batch GPU session count of 2 reached."}


def test_a_chain_waits_for_a_free_session(loopback, push, clock, said):
    loopback.save_replies = [NO_SESSION] * 12
    loopback.coming = [Session(files=DATA)]
    push("01_data", wait=True)
    assert len(clock.slept) == 12
    waited = "01_data: waiting for a free session (Maximum batch GPU session count of 2 reached.)"
    assert said[:3] == [waited, waited, "01_data: pushed as version 1, https://kaggle.com/code/alice/kit-01-data"]


def test_where_nobody_waits_a_lack_of_sessions_is_told(loopback, push, clock):
    loopback.save_replies = [NO_SESSION]
    with pytest.raises(UserError, match="all GPU sessions are in use"):
        push("01_data")
    assert clock.slept == []


@pytest.mark.parametrize("how", [{}, {"wait": True}])
def test_a_push_whose_answer_was_lost_is_not_made_twice(loopback, push, said, how):
    loopback.lost_answers = 1
    loopback.coming = [Session(files=DATA)]
    push("01_data", **how)
    assert len(sources(loopback)) == 1
    assert said[0] == "01_data: pushed as version 1, kaggle.com/code/alice/kit-01-data"


def test_a_push_that_never_arrived_is_made_again_where_somebody_waits(loopback, push, clock, said):
    loopback.coming = [Session(states=["RUNNING", "COMPLETE"], files=stopped(9)), Session(files=TRAINED)]
    loopback.versions |= packing_is_done()
    clock.at = {1: [lambda: loopback.failing.update(SaveKernel=[502])]}
    push("03_train", until_done=True)
    assert said[-1] == "03_train: done, version 2 wrote run, adapter"
    assert len(loopback.versions["alice/kit-03-train"]) == 2


def test_the_end_of_the_version_before_is_not_taken_for_the_end_of_this_one(loopback, push, clock):
    loopback.versions["alice/kit-01-data"] = [Session(files=FAILED_EARLY)]
    loopback.coming = [Session(states=["RUNNING", "ERROR"], failure="boom")]
    loopback.lag = 2
    with pytest.raises(UserError, match="boom"):
        push("01_data", wait=True)
    assert loopback.lag == 0, "Kaggle never lagged behind"


FAULTS = [403, 404, 401, 429, 503, (200, "<html>maintenance</html>"), (502, "<html>Bad Gateway</html>")]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_wait_outlives_a_fault_of_minutes(loopback, push, clock, said, fault):
    loopback.coming = [Session(states=["RUNNING", "RUNNING", "COMPLETE"], files=DATA)]
    clock.at = {1: [lambda: loopback.out_of_service.extend([fault] * 5)]}
    push("01_data", wait=True)
    assert said[-1] == "01_data: done, version 1 wrote conversations"
    assert len(clock.slept) == 7


def test_outages_that_kaggle_answers_between_do_not_add_up(loopback, push, clock):
    loopback.coming = [Session(states=["RUNNING", "RUNNING", "COMPLETE"], files=DATA)]
    outage = MAX_SILENCES - 1
    fail = [lambda: loopback.out_of_service.extend([503] * outage)]
    clock.at = {1: fail, 2 + outage: fail}
    push("01_data", wait=True)
    assert len(clock.slept) == 2 + 2 * outage


@pytest.mark.parametrize(("fault", "calls"), [(503, MAX_SILENCES), (403, MAX_REFUSALS)])
def test_a_wait_ends_when_kaggle_stays_away_and_says_that_the_session_goes_on(loopback, push, clock, fault, calls):
    loopback.coming = [Session(states=["RUNNING"], files=DATA)]
    clock.at = {1: [lambda: loopback.out_of_service.extend([fault] * 100)]}
    with pytest.raises(UserError, match="version 1 may still run at Kaggle; the same command waits for it again"):
        push("01_data", wait=True)
    assert len(clock.slept) == calls


def test_a_fault_while_the_output_is_listed_is_outlived(loopback, push, clock, said):
    loopback.coming = [Session(states=["RUNNING", "COMPLETE"], files=DATA)]
    loopback.failing["ListKernelSessionOutput"] = [503, 404]
    push("01_data", wait=True)
    assert said[-1] == "01_data: done, version 1 wrote conversations"
    assert len(clock.slept) == 3


def test_a_line_every_ten_minutes_says_that_the_wait_goes_on(loopback, push, clock, said):
    loopback.coming = [Session(states=["QUEUED"] * 25 + ["RUNNING"] * 12 + ["COMPLETE"], files=DATA)]
    clock.at = {12: [lambda: loopback.out_of_service.extend([503] * 9)]}
    push("01_data", wait=True)
    assert said[1:-1] == [
        "01_data: waiting after 0 min",
        "01_data: waiting after 10 min",
        "01_data: no answer from Kaggle after 20 min",
        "01_data: waiting after 30 min",
        "01_data: running after 34 min",
        "01_data: running after 44 min",
    ]


def test_a_session_that_runs_longer_than_any_session_ends_the_wait(loopback, push, clock):
    clock.at_most = 2000
    loopback.coming = [Session(states=["RUNNING"])]
    with pytest.raises(UserError, match="has run for 13 hours, longer than any session lasts"):
        push("01_data", wait=True)
    assert len(clock.slept) == MAX_RUNNING_MINUTES + 1


def test_ctrl_c_says_that_the_session_goes_on_and_how_to_come_back(loopback, push, clock, said):
    loopback.coming = [Session(states=["RUNNING"])]

    def interrupt():
        raise KeyboardInterrupt

    clock.at = {3: [interrupt]}
    with pytest.raises(KeyboardInterrupt):
        push("01_data", wait=True)
    assert said[-1] == (
        "01_data: version 1 still runs at Kaggle; the same command waits for it again, and "
        "kaggle.com/code/alice/kit-01-data can cancel it"
    )


def test_the_wheel_is_ready_before_a_kernel_attaches_it(loopback, push, clock, said):
    push("01_data", method="dataset")
    assert said[0] == "alice/fintune-kit-wheel: fintune_kit-9.9-py3-none-any.whl is ready"
    assert len(clock.slept) == 1
    methods = [name for name, _ in loopback.calls]
    assert methods.index("CreateDataset") < methods.index("SaveKernel")
    assert loopback.bodies("SaveKernel")[0]["datasetDataSources"] == ["alice/fintune-kit-wheel"]


def test_no_wheel_is_sent_where_no_kernel_is(loopback, push):
    loopback.versions["alice/kit-01-data"] = [Session(files=DATA)]
    push("01_data", method="dataset")
    assert loopback.bodies("CreateDataset") == []
