"""The proof without Kaggle: the four built notebooks, each run as Kaggle would run it.

The build folders are those of `fintune-kit kaggle build`. Papermill runs each notebook below a fake `/kaggle`: an empty
`working/`, an environment of its own, and what its `kernel-metadata.json` attaches mounted read-only, by turns in the
new layout and in the old one. Training is stopped by its time budget and goes on from its own mounted output.

It differs from Kaggle in these: no accelerator is asked for (there is no card here, and the session would rightly end);
rows and base model are small, attached as a dataset and as a Kaggle model; internet is off; the packages are this
environment's own.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fintune_kit.kaggle.delivery import Delivery, deliver
from fintune_kit.kaggle.kernels import build_kernels
from fintune_kit.kaggle.manifest import Chain, read_chain
from fintune_kit.train.record.log import read_log
from tests.kaggle.fake_sessions import FakeKaggle, Session, make_model, make_writable
from tests.kaggle.rows import write_easy_rows

ROWS = "alice/made-up-news"
MODEL = "alice/qwen-stand-in/transformers/one-layer/1"


@dataclass
class Run:
    """The whole chain."""

    chain: Chain
    delivery: Delivery
    data: Session
    pack: Session
    stopped: Session
    train: Session
    evaluate: Session

    @property
    def sessions(self) -> list[Session]:
        return [self.data, self.pack, self.stopped, self.train, self.evaluate]


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Builds the four kernels and runs them, the third in two sessions."""
    folder = tmp_path_factory.mktemp("on-kaggle")
    (folder / "home").mkdir()
    (folder / "attached" / ROWS).mkdir(parents=True)
    write_easy_rows(folder / "attached" / ROWS / "rows.csv")
    make_model(folder / "attached" / MODEL, repository / "data" / "sample" / "sujet_sample.csv")
    settings = {"FINTUNE_RECIPE": "smoke", "FINTUNE_SOURCE": f"{{input:{ROWS}}}/rows.csv"}
    chain = read_chain(repository, owner="alice")
    here = {"accelerator": None, "internet": False, "dataset_sources": (ROWS,), "model_sources": (MODEL,)}
    chain = replace(chain, kernels=tuple(replace(k, environment=settings, **here) for k in chain.choose(())))
    delivery = deliver(chain, method="embed")
    build_kernels(chain, chain.kernels, out=folder / "build", delivery=delivery)
    kaggle = FakeKaggle(folder=folder, build=folder / "build")
    data, pack = kaggle.run("01_data"), kaggle.run("02_pack")
    stopped = kaggle.run("03_train_p100", FINTUNE_TIME_BUDGET="1s")
    third = chain.kernel("03_train_p100")
    sources = {third.name: [chain.kernel("02_pack").ref, f"{third.ref}/1"]}
    build_kernels(chain, [third], out=folder / "build", delivery=delivery, sources=sources)
    train = kaggle.run("03_train_p100")
    evaluate = kaggle.run("04_evaluate")
    yield Run(chain=chain, delivery=delivery, data=data, pack=pack, stopped=stopped, train=train, evaluate=evaluate)
    make_writable(folder)
    shutil.rmtree(folder)


def test_every_kernel_wrote_what_its_manifest_says(run):
    finished = (run.data, run.pack, run.train, run.evaluate)
    for kernel, session in zip(run.chain.kernels, finished, strict=True):
        assert kernel.writes
        assert all((session.output / stage / "manifest.json").is_file() for stage in kernel.writes), kernel.name


def test_inputs_were_found_in_the_new_and_in_the_old_layout(run):
    found = {source: place for session in run.sessions for source, place in session.record["inputs"].items()}
    places = {place for session in run.sessions for place in session.record["inputs"].values()}
    assert len(found) == 6, "three kernels, one of them in a version, a dataset and a model"
    assert "input/notebooks/alice/fintune-kit-01-data" in places
    assert "input/fintune-kit-02-pack" in places
    assert "input/datasets/alice/made-up-news" in places
    assert "input/made-up-news" in places
    assert {place for place in places if "one-layer" in place} == {
        f"input/models/{MODEL}",
        "input/qwen-stand-in/transformers/one-layer/1",
    }


def test_inputs_are_only_read(run):
    for session in run.sessions:
        assert session.inputs_before
        assert session.inputs_after == session.inputs_before


def test_the_library_is_the_embedded_wheel(run):
    for session in run.sessions:
        assert session.record["sha256"] == run.delivery.sha256
        assert session.record["installed_in"].endswith(f"/kaggle/temp/fintune-kit-{run.delivery.sha256[:12]}")


def test_the_card_is_recorded_and_none_was_asked_for(run):
    for session in run.sessions:
        assert session.record["accelerator"] is None
        assert session.record["machine"]


def test_training_stopped_by_its_budget_goes_on_from_its_mounted_output(run):
    before, after = (read_log(session.output / "run" / "log.jsonl") for session in (run.stopped, run.train))
    assert not (run.stopped.output / "run" / "manifest.json").exists()
    assert not (run.stopped.output / "adapter").exists()
    assert 1 <= len(before) < len(after), "it was stopped, and not at the end"
    assert after[: len(before)] == before, "steps that were done are not done again"
    assert [record["step"] for record in after] == list(range(1, len(after) + 1))
    assert "run this notebook again, on Kaggle with" in run.stopped.printed()


def test_the_base_is_the_attached_model(run):
    manifest = json.loads((run.train.output / "adapter" / "manifest.json").read_text())
    assert manifest["base"] == "qwen-stand-in-one-layer"
    assert not (run.train.output / "base").exists()


def test_the_model_card_is_written_where_it_can_be(run):
    assert (run.evaluate.output / "README.md").is_file()
    assert not (run.evaluate.output / "adapter").exists()


def test_caches_are_no_part_of_an_output(run):
    for session in run.sessions:
        names = {path.name for path in session.output.iterdir()}
        assert not names & {"cache", "huggingface", "temp", ".cache"}
        assert "output: 0.0" in session.printed()
