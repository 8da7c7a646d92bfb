"""`fintune-kit kaggle ...` as a user types it, and what is answered to mistakes."""

import json
import re

import pytest

from fintune_kit.cli.main import main
from fintune_kit.workspace import write_manifest
from tests.kaggle.conftest import (  # noqa: F401 - fixtures of the small checkout
    checkout,
    loopback,
    manifest,
    tpu_chain,
    world,
)
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
    "arguments",
    [["03_train_tpu", "04_evaluate"], ["04_evaluate", "--after", "03_train_tpu"], ["--after", "03_train_tpu"]],
)
def test_build_takes_a_run_on_a_tpu_for_the_one_on_a_gpu(kaggle, checkout, tpu_chain, arguments):  # noqa: F811
    code, _, err = kaggle("build", *arguments)
    assert (code, err) == (0, "")
    metadata = json.loads((checkout / "build" / "kaggle" / "04_evaluate" / "kernel-metadata.json").read_text())
    assert metadata["kernel_sources"] == ["alice/kit-01-data", "alice/kit-03-train-tpu"]


def test_push_after_a_run_that_is_not_pushed_again(kaggle, loopback, tpu_chain):  # noqa: F811
    for name, stage in (("01-data", "conversations"), ("03-train-tpu", "run"), ("03-train-tpu", "adapter")):
        files = {f"{stage}/manifest.json": b"{}"}
        before = loopback.versions.get(f"alice/kit-{name}", [Session(files={})])[-1].files
        loopback.versions[f"alice/kit-{name}"] = [Session(files=before | files)]
    code, out, _ = kaggle("push", "04_evaluate", "--after", "03_train_tpu")
    assert (code, out) == (0, "04_evaluate: pushed as version 1, https://kaggle.com/code/alice/kit-04-evaluate\n")
    (sent,) = loopback.bodies("SaveKernel")
    assert sent["kernelDataSources"] == ["alice/kit-01-data", "alice/kit-03-train-tpu"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "05_x"], "there is no notebook '05_x'"),
        (["build", "--manifest", "nowhere.json"], "nowhere.json is missing"),
        (["build", "--owner", "your-kaggle-name"], "put your Kaggle user name"),
        (["build", "--deliver", "git"], "has repository None"),
        (["build", "03_train", "--after", "01_data"], "--after 01_data replaces nothing that 03_train would read"),
        (["build", "03_train", "--after", "05_x"], "there is no notebook '05_x'"),
        (["push", "03_train", "--after", "02_pack"], "--after 02_pack replaces nothing that 03_train would read"),
        (["push"], "push takes either the notebooks to push or --all"),
        (["push", "--all", "01_data"], "push takes either the notebooks to push or --all"),
        (["push", "--all"], "add --wait"),
        (["push", "02_pack"], "alice/kit-01-data has never been pushed"),
        (["status", "05_x"], "there is no notebook '05_x'"),
        (["status", "--follow"], "no session of 01_data, 02_pack, 03_train is running"),
        (["fetch", "01_data"], "has never been pushed"),
        (["push", "03_train", "--packs", "packs"], "dataset_sources has 'packs'; expected owner/slug"),
        (["push", "01_data", "--packs", "bob/packs"], "replaces 01_data and 02_pack, but 01_data was named"),
        (["publish-packs", "ws", "--slug", "My Packs"], "--slug is 'My Packs'; expected 6 to 50 lower-case letters"),
        (["publish-packs", "ws"], "ws/conversations is missing"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(kaggle, loopback, arguments, sentence):  # noqa: F811
    code, out, err = kaggle(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_status_follows_the_log_of_the_running_session(kaggle, loopback):  # noqa: F811
    loopback.versions["alice/kit-01-data"] = [Session(states=["RUNNING", "COMPLETE"])]
    loopback.streams = [['{"data": "step 1\\n"}', '{"data": "step 2\\n"}', "END_OF_LOG"]]
    code, out, _ = kaggle("status", "--follow")
    assert code == 0
    first, second, line, *_ = out.splitlines()
    assert (first, second) == ("step 1", "step 2")
    assert line.startswith("01_data  v1   complete, no conversations")


def test_status_names_the_hours_that_the_plan_needs_beside_the_quota(kaggle, loopback, tpu_chain):  # noqa: F811
    code, out, _ = kaggle("status")
    assert code == 0
    gpu, tpu = (line for line in out.splitlines() if " quota: " in line)
    hours = r"\(the plan needs \d+\.\d to \d+\.\d h\), reset"
    assert re.search(rf"^GPU quota: 29.0 of 30.0 h left this week {hours}", gpu)
    assert re.search(rf"^TPU quota: 19.0 of 20.0 h left this week {hours}", tpu)
    assert gpu.partition("needs")[2] != tpu.partition("needs")[2].strip(), "each card has its own hours"


def test_a_recipe_that_is_not_ours_has_no_hours(kaggle, loopback, checkout, manifest):  # noqa: F811
    manifest["environment"] = {"FINTUNE_RECIPE": "my_own.toml"}
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    code, out, _ = kaggle("status")
    assert (code, "the plan needs" in out, "GPU quota: " in out) == (0, False, True)


def test_packs_are_published_and_trained_on(kaggle, loopback, tpu_chain, checkout):  # noqa: F811
    sources = {"sujet-ai/Sujet-Finance-Instruct-177k": ""}
    for stage, inputs in (("conversations", sources), ("packed", {})):
        (checkout / "ws" / stage).mkdir(parents=True)
        write_manifest(checkout / "ws" / stage, stage=stage, inputs=inputs, counts={})
    (checkout / "ws" / "recipe.toml").write_text("[data]\n")
    code, out, err = kaggle("publish-packs", "ws")
    assert (code, out) == (2, "")
    assert "Alpaca CC BY-NC 4.0" in err
    assert "add --sources-are-public" in err
    assert loopback.bodies("CreateDataset") == []
    loopback.datasets["alice/fintune-kit-packs"] = ["READY"]
    code, out, _ = kaggle("publish-packs", "ws", "--sources-are-public")
    assert code == 0
    assert out.endswith("`fintune-kit kaggle push 03_train_p100 --packs alice/fintune-kit-packs`\n")
    code, out, _ = kaggle("push", "03_train", "--packs", "alice/fintune-kit-packs")
    assert code == 0
    (sent,) = loopback.bodies("SaveKernel")
    assert sent["datasetDataSources"] == ["alice/fintune-kit-packs"]
    assert sent.get("kernelDataSources", []) == []


def test_ctrl_c_ends_a_wait_with_a_sentence(kaggle, loopback, monkeypatch):  # noqa: F811
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    loopback.coming = [Session(states=["RUNNING"])]
    code, out, err = kaggle("push", "01_data", "--wait")
    assert code == 130
    assert "version 1 still runs at Kaggle; the same command waits for it again" in out
    assert err.startswith("stopped by Ctrl-C; ")


@pytest.mark.parametrize("action", [["push", "01_data"], ["status"], ["fetch"]])
def test_missing_credentials_are_one_sentence(kaggle, loopback, monkeypatch, action):  # noqa: F811
    monkeypatch.delenv("KAGGLE_KEY")
    code, _, err = kaggle(*action)
    assert code == 2
    assert err.startswith("error: there are no Kaggle credentials")
    assert err.count("\n") == 1
