"""`fintune-kit kaggle ...` as a user types it, and what is answered to mistakes."""

import pytest

from fintune_kit.cli import main
from tests.kaggle.conftest import checkout, loopback, manifest, world  # noqa: F401 - fixtures of the small checkout
from tests.kaggle.fake_server import Session


@pytest.fixture
def kaggle(checkout, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Runs a command in the checkout; its exit code and what it printed."""
    monkeypatch.chdir(checkout)

    def run(*arguments):
        code = main(["kaggle", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_build_writes_a_folder_a_kernel(kaggle, checkout):  # noqa: F811
    code, out, err = kaggle("build")
    assert (code, err) == (0, "")
    assert [line.split(",")[0] for line in out.splitlines()] == [
        "build/kaggle/01_data: alice/kit-01-data",
        "build/kaggle/02_pack: alice/kit-02-pack",
        "build/kaggle/03_train: alice/kit-03-train",
    ]
    assert (checkout / "build" / "kaggle" / "03_train" / "kernel-metadata.json").is_file()


def test_build_takes_some_and_another_owner(kaggle):
    code, out, _ = kaggle("build", "02_pack.ipynb", "--owner", "bob", "--deliver", "dataset")
    assert code == 0
    assert out.startswith("build/kaggle/02_pack: bob/kit-02-pack, CPU, ")


def test_push_status_fetch(kaggle, loopback):  # noqa: F811
    loopback.coming = [
        Session(files={"session.json": b'{"kernel": "01_data", "cards": [], "machine": "CPU", "library": "a"}'})
    ]
    code, out, _ = kaggle("push", "01_data")
    assert (code, out) == (0, "01_data: pushed as version 1, https://kaggle.com/code/alice/kit-01-data\n")
    code, out, _ = kaggle("status", "01_data")
    assert code == 0
    assert out.startswith("01_data  v1   complete, no conversations")
    code, out, _ = kaggle("fetch", "01_data")
    assert (code, out) == (0, "01_data: version 1 on CPU, a\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "05_x"], "there is no notebook '05_x'"),
        (["build", "--manifest", "nowhere.json"], "nowhere.json is missing"),
        (["build", "--owner", "your-kaggle-name"], "put your Kaggle user name"),
        (["build", "--deliver", "git"], "has repository None"),
        (["push"], "push takes either the notebooks to push or --all"),
        (["push", "--all", "01_data"], "push takes either the notebooks to push or --all"),
        (["push", "--all"], "add --wait"),
        (["push", "02_pack"], "alice/kit-01-data has never been pushed"),
        (["push", "01_data", "--resume"], "nothing to go on with"),
        (["status", "05_x"], "there is no notebook '05_x'"),
        (["fetch", "01_data"], "has never been pushed"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(kaggle, loopback, arguments, sentence):  # noqa: F811
    code, out, err = kaggle(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("action", [["push", "01_data"], ["status"], ["fetch"]])
def test_missing_credentials_are_one_sentence(kaggle, loopback, monkeypatch, action):  # noqa: F811
    monkeypatch.delenv("KAGGLE_KEY")
    code, _, err = kaggle(*action)
    assert code == 2
    assert err.startswith("error: no Kaggle credentials were found")
    assert err.count("\n") == 1
