"""Outputs brought home and checked."""

import hashlib
import json

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.client import Kaggle, UnreachableError
from fintune_kit.kaggle.fetch import fetch_kernel
from tests.kaggle.fake_server import Session

T4 = ["Tesla T4", "Tesla T4"]


def sha(content):
    return hashlib.sha256(content).hexdigest()


def record(kernel="03_train", cards=T4):
    return json.dumps({"kernel": kernel, "cards": cards, "machine": "2 x Tesla T4", "library": "a.whl"}).encode()


def stage(name, **files):
    """A finished stage's files with its manifest."""
    contents = {f"{stem.replace('__', '/')}": content for stem, content in files.items()}
    manifest = {"stage": name, "files": {path: sha(content) for path, content in contents.items()}}
    return {f"{name}/{path}": content for path, content in contents.items()} | {
        f"{name}/manifest.json": json.dumps(manifest).encode()
    }


def trained():
    """A finished training session's output: three stages' worth of files and some beside."""
    return {
        **stage("adapter", weights=b"a" * 3_000_000, config=b"{}"),
        **stage("run", log=b"1\n2\n", checkpoints__one=b"c" * 100),
        "figures/03_loss.png": b"png",
        "session.json": record(),
        "03_train.ipynb": b"{}",
    }


@pytest.fixture
def kernel(chain):
    return chain.kernel("03_train")


@pytest.fixture
def fetch(loopback, kernel, tmp_path):
    """Fetches the output of one session."""

    def go(session=None):
        if session:
            loopback.versions[kernel.ref] = [session]
        return fetch_kernel(Kaggle(), kernel, out=tmp_path / "home", say=[].append)

    return go


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def downloads(world):
    return [name.removeprefix("GET ") for name, _ in world.calls if name.startswith("GET ")]


def test_stages_come_home_as_a_workspace(fetch, tmp_path):
    log = json.dumps([{"stream_name": "stdout", "time": 1, "data": "hello\n"}])
    assert fetch(Session(files=trained(), log=log)) == ["run", "adapter"]
    home = tmp_path / "home"
    assert tree(home) == [
        "adapter/config",
        "adapter/manifest.json",
        "adapter/weights",
        "figures/03_loss.png",
        "kaggle/03_train/03_train.ipynb",
        "kaggle/03_train/03_train.log",
        "kaggle/03_train/session.json",
        "run/log",
        "run/manifest.json",
    ]
    assert (home / "adapter" / "weights").read_bytes() == b"a" * 3_000_000
    assert (home / "kaggle" / "03_train" / "03_train.log").read_text() == "hello\n"


def test_an_interrupted_fetch_goes_on(fetch, loopback, tmp_path):
    loopback.cut_short.add("adapter/weights")
    with pytest.raises(UnreachableError):
        fetch(Session(files=trained()))
    assert not (tmp_path / "home" / "adapter").exists(), "a stage that is not whole is not in its place"
    del loopback.calls[:]
    assert fetch() == ["run", "adapter"]
    assert "adapter/config" not in downloads(loopback), "it was there"
    ranges = [body["range"] for name, body in loopback.calls if name == "GET adapter/weights"]
    assert ranges == ["bytes=1048576-"]
    assert not list((tmp_path / "home").glob("*.fetching-*"))


def test_what_is_there_already_is_not_fetched_again(fetch, loopback):
    fetch(Session(files=trained()))
    del loopback.calls[:]
    assert fetch() == ["run", "adapter"]
    assert "adapter/weights" not in downloads(loopback)


def test_a_newer_version_takes_the_place_of_an_older_one(fetch, loopback, kernel, tmp_path):
    fetch(Session(files=trained()))
    newer = trained() | stage("adapter", weights=b"b", config=b"{}")
    loopback.versions[kernel.ref].append(Session(files=newer))
    fetch()
    assert (tmp_path / "home" / "adapter" / "weights").read_bytes() == b"b"
    assert not list((tmp_path / "home").glob("*.previous"))


def test_a_file_that_is_not_what_its_manifest_says_is_refused(fetch, tmp_path):
    files = trained() | {"adapter/weights": b"x"}
    with pytest.raises(UserError, match=r"adapter/weights is not what its manifest says \(SHA-256\)"):
        fetch(Session(files=files))
    assert not (tmp_path / "home" / "adapter").exists()


def test_a_file_that_the_manifest_lists_must_be_in_the_output(fetch):
    files = trained()
    del files["adapter/config"]
    with pytest.raises(UserError, match="adapter/config is in its manifest but not in the output"):
        fetch(Session(files=files))


@pytest.mark.parametrize("cards", [[], ["Tesla P100-PCIE-16GB"]])
def test_an_output_of_another_card_is_refused(fetch, loopback, cards):
    with pytest.raises(UserError, match=r"but NvidiaTeslaT4 .* was asked for"):
        fetch(Session(files=trained() | {"session.json": record(cards=cards)}))
    assert downloads(loopback) == ["session.json"]


def test_a_stopped_run_comes_home_with_its_checkpoint(fetch, tmp_path):
    files = {"run/plan.json": b"{}", "run/checkpoints/checkpoint-9/manifest.json": b"{}", "session.json": record()}
    assert fetch(Session(files=files)) == []
    assert tree(tmp_path / "home" / "run") == ["checkpoints/checkpoint-9/manifest.json", "plan.json"]


def test_the_model_card_goes_to_its_adapter_and_what_is_no_stage_of_the_kernel_aside(fetch, loopback, kernel, tmp_path):
    fetch(Session(files=trained()))
    loopback.versions[kernel.ref].append(Session(files=trained() | {"README.md": b"card", "base/config": b"{}"}))
    fetch()
    home = tmp_path / "home"
    assert (home / "adapter" / "README.md").read_text() == "card"
    assert (home / "kaggle" / "03_train" / "base" / "config").is_file()
    assert not (home / "base").exists()


def test_foreign_files_are_not_replaced(fetch, tmp_path):
    (tmp_path / "home" / "adapter").mkdir(parents=True)
    (tmp_path / "home" / "adapter" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are no stage of ours"):
        fetch(Session(files=trained()))
    assert (tmp_path / "home" / "adapter" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("session", "sentence"),
    [
        (Session(states=["RUNNING"]), "still runs"),
        (Session(states=["ERROR"], log="boom"), "has no session.json, so its first cell did not end"),
        (Session(files={"session.json": record(kernel="02_pack")}), "ran '02_pack', expected '03_train'"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(fetch, session, sentence):
    with pytest.raises(UserError, match=sentence):
        fetch(session)


def test_a_kernel_that_was_never_pushed_is_a_sentence(fetch):
    with pytest.raises(UserError, match="has never been pushed"):
        fetch()
