"""The real client against a Kaggle on loopback."""

import subprocess
import sys

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.client import Kaggle, UnreachableError
from fintune_kit.kaggle.delivery import deliver
from fintune_kit.kaggle.kernels import build_kernels
from fintune_kit.kaggle.replies import find_push_fault
from tests.kaggle.fake_server import Session

REF = "alice/kit-01-data"


@pytest.fixture
def built(chain, tmp_path):
    made = build_kernels(chain, chain.kernels, out=tmp_path / "build", delivery=deliver(chain, method="embed"))
    return {kernel.kernel.name: kernel.folder for kernel in made}


def test_a_push_sends_what_was_built(loopback, built):
    reply = Kaggle().push(built["03_train"])
    assert (reply.version, reply.error, find_push_fault(reply)) == (1, "", None)
    assert reply.said == (
        "Kernel version 1 successfully pushed.  Please check progress at https://kaggle.com/code/alice/kit-03-train"
    )
    (sent,) = loopback.bodies("SaveKernel")
    assert sent["slug"] == "alice/kit-03-train"
    assert sent["machineShape"] == "NvidiaTeslaT4"
    assert (sent["isPrivate"], sent["enableInternet"], sent["enableGpu"]) == (True, True, True)
    assert sent["kernelDataSources"] == ["alice/kit-02-pack"]
    assert "fintune_kit.kaggle.session" in sent["text"]


def test_a_source_that_the_server_drops_is_seen_though_the_client_does_not_print_it(loopback, built):
    loopback.save_replies.append({"invalidModelSources": ["alice/m/t/v/1"]})
    reply = Kaggle().push(built["01_data"])
    assert "m/t/v/1" not in reply.said, "the client prints it now: the test's reason is gone"
    assert "model sources: alice/m/t/v/1" in find_push_fault(reply)


def test_a_refusal_is_read_from_the_reply(loopback, built):
    loopback.save_replies.append({"error": "Maximum batch GPU session count of 2 reached."})
    reply = Kaggle().push(built["03_train"])
    assert reply.said == "Kernel push error: Maximum batch GPU session count of 2 reached."
    assert "wait until one ends" in find_push_fault(reply)


def test_the_owner_of_the_credentials(loopback, monkeypatch):
    assert Kaggle().user == "alice"
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_good")
    assert Kaggle().user == "alice"
    assert "Bearer KGAT_good" in [headers.get("Authorization") for headers in loopback.headers]


def test_status_and_info(loopback):
    loopback.versions[REF] = [Session(), Session(states=["ERROR"], failure="boom", machine_shape="NvidiaTeslaT4")]
    kaggle = Kaggle()
    status = kaggle.status(REF)
    assert (status.state, status.message) == ("failed", "boom")
    info = kaggle.info(REF)
    assert (info.version, info.machine_shape, f"{info.last_run:%H:%M}") == (2, "NvidiaTeslaT4", "10:00")
    assert kaggle.info("alice/never-pushed") is None


def test_outputs_turn_every_page_and_keep_the_log(loopback):
    files = {f"packed/{number}.arrow": b"x" for number in range(5)}
    loopback.versions[REF] = [Session(files={"old": b""}), Session(files=files, log="[]")]
    found, log = Kaggle().outputs(REF)
    assert [file.name for file in found] == sorted(files)
    assert log == "[]"
    assert [file.name for file in Kaggle().outputs(REF, version=1)[0]] == ["old"]
    assert Kaggle().outputs(REF, version=9) == ([], "")


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "a/../../b"])
def test_a_file_outside_its_folder_is_refused(loopback, name):
    loopback.versions[REF] = [Session(files={name: b"x"})]
    with pytest.raises(UserError, match="outside its folder"):
        Kaggle().outputs(REF)


def test_a_download_that_broke_off_goes_on_where_it_was(loopback, tmp_path):
    content = bytes(range(256)) * 4096 * 3
    loopback.versions[REF] = [Session(files={"adapter/a.bin": content})]
    loopback.cut_short.add("adapter/a.bin")
    kaggle = Kaggle()
    (file,), _ = kaggle.outputs(REF)
    target = tmp_path / "adapter" / "a.bin"
    with pytest.raises(UnreachableError, match="run the same command again") as caught:
        kaggle.download(file, target)
    assert "SIGNED" not in str(caught.value)
    assert not target.exists()
    kaggle.download(file, target)
    assert target.read_bytes() == content
    assert [body["range"] for name, body in loopback.calls if name.startswith("GET ")] == [None, "bytes=1048576-"]


def test_the_quota_in_hours(loopback):
    gpu, tpu = Kaggle().quota()
    assert (gpu.resource, gpu.used_hours, gpu.total_hours) == ("GPU", 1.0, 30.0)
    assert (tpu.resource, tpu.total_hours, f"{tpu.refresh:%m-%d}") == ("TPU", 20.0, "11-28")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        (401, UserError, "make a new one"),
        (403, UserError, "check the owner"),
        (429, UnreachableError, "too many requests"),
        (503, UnreachableError, "Kaggle has a fault"),
    ],
)
def test_an_error_of_the_server_is_a_sentence(loopback, code, kind, sentence):
    loopback.versions[REF] = [Session()]
    kaggle = Kaggle()
    loopback.out_of_service.append(code)
    with pytest.raises(kind, match=sentence):
        kaggle.quota()


def test_no_network_is_a_sentence(loopback, monkeypatch):
    kaggle = Kaggle()
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="could not be reached"):
        kaggle.quota()


def test_no_secret_reaches_the_terminal(loopback, built, capfd):
    loopback.versions[REF] = [Session(files={"a": b"x"})]
    kaggle = Kaggle()
    reply = kaggle.push(built["01_data"])
    (*_, headers) = loopback.headers
    secret = headers["Authorization"].split()[1]
    kaggle.status(REF)
    kaggle.outputs(REF)
    printed = "".join(capfd.readouterr())
    assert printed == ""
    assert secret not in reply.said
    assert "0123456789abcdef" not in reply.said


def test_without_credentials_one_sentence(loopback, monkeypatch, capfd):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(MissingInputError, match="no Kaggle credentials were found; make a token"):
        Kaggle()
    assert "".join(capfd.readouterr()) == "", "the client's own help is a page long"


def test_a_dataset_is_made_once_and_then_gets_versions(loopback, tmp_path, chain):
    build_kernels(chain, chain.kernels[:1], out=tmp_path, delivery=deliver(chain, method="dataset"))
    kaggle = Kaggle()
    assert kaggle.dataset_status("alice/fintune-kit-wheel") is None
    kaggle.publish_dataset(tmp_path / "wheel", "alice/fintune-kit-wheel")
    assert loopback.bodies("CreateDataset")[0]["isPrivate"] is True
    assert [len(loopback.uploads), loopback.uploads[0][:2]] == [1, b"PK"]
    kaggle.publish_dataset(tmp_path / "wheel", "alice/fintune-kit-wheel")
    assert len(loopback.bodies("CreateDataset")) == 1
    assert len(loopback.bodies("CreateDatasetVersion")) == 1


def test_the_client_is_not_imported_before_a_command_needs_it():
    rooms = "fintune_kit.cli.main, fintune_kit.kaggle.chain, fintune_kit.kaggle.client"
    code = f"import sys, {rooms}; print('kaggle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
