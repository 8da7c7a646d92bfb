"""Outputs brought home and checked."""

import hashlib
import json

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle
from fintune_kit.kaggle.calls.door import UnreachableError
from fintune_kit.kaggle.fetch import fetch_chain, fetch_kernel
from fintune_kit.kaggle.history import History
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
    """The output of a finished training session: two stages, and files beside them."""
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
def said():
    return []


@pytest.fixture
def fetch(loopback, kernel, tmp_path, said):
    """Fetches the output of a kernel with these sessions; the number of the version that was fetched."""

    def go(*sessions):
        if sessions:
            loopback.versions[kernel.ref] = list(sessions)
        kaggle = Kaggle()
        return fetch_kernel(kaggle, History(kaggle, kernel), out=tmp_path / "home", say=said.append).number

    return go


STOPPED = {"run/plan.json": b"{}", "run/checkpoints/checkpoint-9/manifest.json": b"{}", "session.json": record()}


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def downloads(world):
    return [name.removeprefix("GET ") for name, _ in world.calls if name.startswith("GET ")]


def test_stages_come_home_as_a_workspace(fetch, tmp_path):
    log = json.dumps([{"stream_name": "stdout", "time": 1, "data": "hello\n"}])
    assert fetch(Session(files=trained(), log=log)) == 1
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
    assert fetch() == 1
    assert "adapter/config" not in downloads(loopback), "it was there"
    ranges = [body["range"] for name, body in loopback.calls if name == "GET adapter/weights"]
    assert ranges == ["bytes=1048576-"]
    assert not list((tmp_path / "home").glob("*.fetching-*"))


def test_what_is_there_already_is_not_fetched_again(fetch, loopback):
    fetch(Session(files=trained()))
    del loopback.calls[:]
    assert fetch() == 1
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
    with pytest.raises(UserError, match=r"adapter/weights differs from its manifest \(SHA-256\)"):
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


def test_a_stopped_run_comes_home_with_its_checkpoint(fetch, tmp_path, said):
    assert fetch(Session(files=STOPPED)) == 1
    home = tmp_path / "home"
    assert tree(home / "run") == ["checkpoints/checkpoint-9/manifest.json", "plan.json"]
    assert said[0] == f"03_train: {home / 'run'} (unfinished: it has no manifest)"


@pytest.mark.parametrize(
    "newer",
    [
        Session(files=STOPPED),
        Session(states=["ERROR"], files={"session.json": record()}),
        Session(states=["RUNNING"]),
        Session(states=["CANCEL_ACKNOWLEDGED"]),
    ],
)
def test_a_newer_version_that_is_not_finished_does_not_hide_a_finished_one(fetch, tmp_path, said, newer):
    assert fetch(Session(files=trained()), newer) == 1
    assert (tmp_path / "home" / "adapter" / "weights").is_file()
    assert said[0].startswith("03_train: version 1 is fetched, because version 2 after it is ")


def test_an_unfinished_run_does_not_replace_a_finished_one(fetch, loopback, kernel, tmp_path, said):
    fetch(Session(files=trained()))
    home = tmp_path / "home"
    before = (home / "run" / "manifest.json").read_bytes()
    fetch(Session(files=STOPPED))
    assert (home / "run" / "manifest.json").read_bytes() == before
    assert f"03_train: {home / 'run'} stays, because it is finished and version 1 is not" in said


def test_a_finished_run_replaces_an_unfinished_one(fetch, tmp_path):
    fetch(Session(files=STOPPED))
    fetch(Session(files=STOPPED), Session(files=trained()))
    assert tree(tmp_path / "home" / "run") == ["log", "manifest.json"]


def test_an_address_that_expires_on_the_way_is_asked_for_again(fetch, loopback, tmp_path):
    loopback.expired.add(1)
    assert fetch(Session(files=trained())) == 1
    assert (tmp_path / "home" / "adapter" / "weights").read_bytes() == b"a" * 3_000_000


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"session.json": b"{"}, r"session\.json of alice/kit-03-train/1 is damaged: it is not JSON"),
        ({"session.json": b"\xff"}, r"session\.json of alice/kit-03-train/1 is damaged"),
        ({"session.json": b"[]"}, "holds list, expected an object"),
        ({"session.json": b'{"kernel": "03_train", "cards": "T4"}'}, "has cards 'T4', expected list"),
        ({"session.json": b'{"kernel": "03_train", "cards": [3], "machine": ""}'}, r"has cards '\[3\]', expected list"),
        ({"session.json": b'{"kernel": "03_train", "cards": []}'}, "has machine 'None', expected str"),
        ({"run/manifest.json": b'{"stage": "run"'}, r"run/manifest\.json of alice/kit-03-train/1 is damaged"),
        ({"run/manifest.json": b'{"stage": "run"}'}, "has files 'None', expected dict"),
        ({"run/manifest.json": b'{"stage": "run", "files": {"log": 3}}'}, "expected dict"),
        ({"run/manifest.json": b'{"stage": "packed", "files": {}}'}, "is of stage 'packed', expected 'run'"),
    ],
)
def test_json_that_was_damaged_on_its_way_is_a_sentence(fetch, files, sentence):
    with pytest.raises(UserError, match=sentence):
        fetch(Session(files=trained() | files))


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
    with pytest.raises(UserError, match="holds files that no stage has written"):
        fetch(Session(files=trained()))
    assert (tmp_path / "home" / "adapter" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("session", "sentence"),
    [
        (Session(states=["RUNNING"]), "is running; its output exists after its end"),
        (Session(states=["ERROR"], log="boom"), "has no session.json, so its first cell did not end"),
        (Session(files={"session.json": record(kernel="02_pack")}), "ran '02_pack', expected '03_train'"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(fetch, session, sentence):
    with pytest.raises(UserError, match=sentence):
        fetch(session)


# The whole chain


@pytest.fixture
def fetch_all(loopback, tpu_chain, tmp_path, said):
    """Fetches kernels by name; all of the chain where none is named."""

    def go(*names):
        kernels = tpu_chain.choose(names) if names else tpu_chain.kernels
        fetch_chain(Kaggle(), kernels, out=tmp_path / "home", named=bool(names), say=said.append)

    return go


def data(**files):
    return {**stage("conversations", rows=b"rows"), "session.json": record("01_data", cards=[]), **files}


def tpu(**files):
    return trained() | {"session.json": record("03_train_tpu", cards=[]), **files}


def test_what_exists_is_fetched_and_the_rest_is_told(loopback, fetch_all, tmp_path, said):
    loopback.versions = {
        "alice/kit-01-data": [Session(files=data())],
        "alice/kit-03-train-tpu": [Session(files=tpu())],
    }
    fetch_all()
    home = tmp_path / "home"
    assert (home / "conversations" / "rows").is_file()
    assert (home / "adapter" / "weights").is_file()
    assert said[:3] == ["02_pack: never pushed", "03_train: never pushed", "04_evaluate: never pushed"]


@pytest.mark.parametrize(("finished", "fetched"), [(trained(), "03_train"), (STOPPED, "03_train_tpu")])
def test_of_two_that_trained_the_finished_one_is_fetched(loopback, fetch_all, tmp_path, said, finished, fetched):
    loopback.versions = {
        "alice/kit-03-train": [Session(files=finished)],
        "alice/kit-03-train-tpu": [Session(files=tpu())],
    }
    fetch_all()
    assert [path.name for path in (tmp_path / "home" / "kaggle").iterdir()] == [fetched]
    other = {"03_train": "03_train_tpu", "03_train_tpu": "03_train"}[fetched]
    assert f"{other}: not fetched, because {fetched} wrote the same stages; name it alone to fetch it instead" in said


def test_one_kernel_that_cannot_be_fetched_does_not_keep_the_others(loopback, fetch_all, tmp_path):
    loopback.versions = {
        "alice/kit-01-data": [Session(files=data(), states=["RUNNING"]), Session(states=["RUNNING"])],
        "alice/kit-02-pack": [Session(states=["ERROR"], log="boom")],
        "alice/kit-03-train": [Session(files=trained())],
    }
    with pytest.raises(UserError, match=r"^02_pack: version 1 has no session\.json") as caught:
        fetch_all()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "home" / "conversations" / "rows").is_file()
    assert (tmp_path / "home" / "adapter" / "weights").is_file()


def test_a_kernel_that_is_named_must_be_there(loopback, fetch_all, tmp_path):
    loopback.versions = {"alice/kit-01-data": [Session(files=data())]}
    with pytest.raises(UserError, match="alice/kit-02-pack has never been pushed"):
        fetch_all("02_pack", "01_data")
    assert (tmp_path / "home" / "conversations" / "rows").is_file()


def test_nothing_to_fetch_is_a_sentence(loopback, fetch_all):
    with pytest.raises(UserError, match="no kernel has an output yet"):
        fetch_all()


def test_the_recipe_travels_to_the_top_of_the_workspace(loopback, fetch_all, tmp_path, said):
    loopback.versions = {
        "alice/kit-01-data": [Session(files=data(**{"recipe.toml": b"name = 'a'"}))],
        "alice/kit-03-train": [Session(files=trained() | {"recipe.toml": b"name = 'a'"})],
    }
    fetch_all()
    assert (tmp_path / "home" / "recipe.toml").read_text() == "name = 'a'"
    assert not any("recipe.toml" in line for line in said)
    loopback.versions["alice/kit-03-train"][0].files["recipe.toml"] = b"name = 'b'"
    fetch_all()
    assert (tmp_path / "home" / "recipe.toml").read_text() == "name = 'b'"
    assert said[-1] == "recipe.toml: the one of 03_train, which differs from the one of 01_data"
