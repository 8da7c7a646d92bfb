"""The real client against a Kaggle on loopback."""

import subprocess
import sys

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.calls.client import Kaggle
from fintune_kit.kaggle.calls.door import AbsentError, UnreachableError
from fintune_kit.kaggle.calls.replies import find_push_fault
from fintune_kit.kaggle.delivery import deliver
from fintune_kit.kaggle.kernels import build_kernels
from tests.kaggle.fake_server import Session

REF = "alice/kit-01-data"


@pytest.fixture
def built(chain, tmp_path):
    made = build_kernels(chain, chain.kernels, out=tmp_path / "build", delivery=deliver(chain, method="embed"))
    return {kernel.kernel.name: kernel.folder for kernel in made}


def test_a_push_sends_what_was_built(loopback, built):
    reply = Kaggle().push(built["03_train"])
    assert (reply.version, reply.ref, reply.error) == (1, "alice/kit-03-train", "")
    assert find_push_fault(reply, ref="alice/kit-03-train") is None
    (sent,) = loopback.bodies("SaveKernel")
    assert sent["slug"] == "alice/kit-03-train"
    assert sent["machineShape"] == "NvidiaTeslaT4"
    assert (sent["isPrivate"], sent["enableInternet"], sent["enableGpu"]) == (True, True, True)
    assert sent["kernelDataSources"] == ["alice/kit-02-pack"]
    assert "fintune_kit.kaggle.session" in sent["text"]


@pytest.mark.parametrize("kind", ["Dataset", "Kernel", "Model", "Competition"])
def test_a_source_that_the_server_drops_is_seen(loopback, built, kind):
    loopback.save_replies.append({f"invalid{kind}Sources": ["alice/nope"]})
    fault = find_push_fault(Kaggle().push(built["01_data"]), ref=REF)
    assert f"{kind.lower()} sources: alice/nope" in fault


def test_a_refusal_is_read_from_the_reply(loopback, built):
    loopback.save_replies.append({"error": "Maximum batch GPU session count of 2 reached."})
    assert "wait until one ends" in find_push_fault(Kaggle().push(built["03_train"]), ref="alice/kit-03-train")


def test_a_warning_of_the_client_is_kept(loopback, built, monkeypatch):
    kaggle = Kaggle()
    push = kaggle._api.kernels_push

    def push_as_the_newer_client_does(folder):
        print("⚠ Warning: 'NvidiaTeslaP100' is retired.\n  Sessions run on the default GPU (NvidiaTeslaT4) instead.")
        return push(folder)

    monkeypatch.setattr(kaggle._api, "kernels_push", push_as_the_newer_client_does)
    reply = kaggle.push(built["03_train"])
    assert reply.warnings == (
        "⚠ Warning: 'NvidiaTeslaP100' is retired.",
        "Sessions run on the default GPU (NvidiaTeslaT4) instead.",
    )
    assert "replaced the accelerator" in find_push_fault(reply, ref="alice/kit-03-train")


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
    assert kaggle.status(REF, version=1).state == "complete"


def test_a_state_that_the_client_does_not_know_counts_as_running(loopback):
    loopback.versions[REF] = [Session(states=["HIBERNATING"])]
    status = Kaggle().status(REF)
    assert (status.state, status.message) == ("running", "Kaggle calls it HIBERNATING")


@pytest.mark.parametrize("code", [403, 404])
def test_a_kernel_that_kaggle_hides_for_a_moment_was_not_never_pushed(loopback, code):
    loopback.versions[REF] = [Session(states=["RUNNING"])]
    kaggle = Kaggle()
    loopback.out_of_service.append(code)
    with pytest.raises(UnreachableError, match="knows a session of alice/kit-01-data but does not show the kernel"):
        kaggle.info(REF)


def test_an_output_that_kaggle_hides_for_a_moment_was_not_empty(loopback):
    loopback.versions[REF] = [Session(files={"a": b"x"})]
    kaggle = Kaggle()
    loopback.out_of_service.append(404)
    with pytest.raises(AbsentError):
        kaggle.outputs(REF, version=1)


def test_a_list_that_does_not_end_is_a_sentence(loopback):
    loopback.versions[REF] = [Session(files={f"{number}": b"x" for number in range(5)})]
    loopback.endless_pages = True
    with pytest.raises(UnreachableError, match="list of the files of alice/kit-01-data does not end"):
        Kaggle().outputs(REF)


def test_outputs_turn_every_page_and_keep_the_log(loopback):
    files = {f"packed/{number}.arrow": b"x" for number in range(5)}
    loopback.versions[REF] = [Session(files={"old": b""}), Session(files=files, log="[]")]
    found, log = Kaggle().outputs(REF)
    assert [file.name for file in found] == sorted(files)
    assert log == "[]"
    assert [file.name for file in Kaggle().outputs(REF, version=1)[0]] == ["old"]
    assert Kaggle().outputs(REF, version=9) == ([], "")


def test_the_log_of_a_running_session_is_read_as_it_grows(loopback):
    loopback.streams = [['{"stream_name": "stdout", "time": 1, "data": "a\\n"}', "plain", "END_OF_LOG"]]
    assert [line.text for line in Kaggle().follow(REF)] == ["a\n", "plain"]


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "a/../../b"])
def test_a_file_outside_its_folder_is_refused(loopback, name):
    loopback.versions[REF] = [Session(files={name: b"x"})]
    with pytest.raises(UserError, match="outside its folder"):
        Kaggle().outputs(REF)


CONTENT = bytes(range(256)) * 4096 * 3


def ranges(world):
    return [body["range"] for name, body in world.calls if name.startswith("GET ")]


@pytest.fixture
def half(loopback, tmp_path):
    """A download of version 1 that broke off after a megabyte; the client, the file and where it was to go."""
    loopback.versions[REF] = [Session(files={"adapter/a.bin": CONTENT})]
    loopback.cut_short.add("adapter/a.bin")
    kaggle = Kaggle()
    (file,), _ = kaggle.outputs(REF, version=1)
    target = tmp_path / "adapter" / "a.bin"
    with pytest.raises(UnreachableError, match="run the same command again") as caught:
        kaggle.download(file, target)
    assert "SIGNED" not in str(caught.value)
    assert [path.name for path in target.parent.iterdir()] == ["a.bin.v1-3145728.partial"]
    return kaggle, file, target


def test_a_download_that_broke_off_goes_on_where_it_was(loopback, half):
    kaggle, file, target = half
    kaggle.download(file, target)
    assert target.read_bytes() == CONTENT
    assert ranges(loopback) == [None, "bytes=1048576-"]
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]


def test_a_part_of_another_version_is_not_continued(loopback, half):
    kaggle, _, target = half
    loopback.versions[REF].append(Session(files={"adapter/a.bin": b"new" * 1_048_576}))
    (file,), _ = kaggle.outputs(REF, version=2)
    kaggle.download(file, target)
    assert target.read_bytes() == b"new" * 1_048_576
    assert ranges(loopback) == [None, None]
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("content", [b"short", CONTENT + b"longer"])
def test_a_part_of_a_file_that_has_another_length_by_now_is_not_continued(loopback, half, content):
    kaggle, file, target = half
    loopback.versions[REF][0].files["adapter/a.bin"] = content
    kaggle.download(file, target)
    assert target.read_bytes() == content
    assert ranges(loopback) == [None, "bytes=1048576-", None]


def test_an_address_that_has_expired_is_asked_for_again(loopback, half):
    kaggle, file, target = half
    loopback.expired.add(loopback.listings)
    kaggle.download(file, target)
    assert target.read_bytes() == CONTENT
    assert ranges(loopback) == [None, "bytes=1048576-", "bytes=1048576-"]


def test_a_file_that_is_gone_is_a_sentence(loopback, half):
    kaggle, file, target = half
    loopback.expired.add(loopback.listings)
    del loopback.versions[REF][0].files["adapter/a.bin"]
    with pytest.raises(UserError, match=r"does not give out adapter/a\.bin"):
        kaggle.download(file, target)


def test_the_quota_in_hours(loopback):
    gpu, tpu = Kaggle().quota()
    assert (gpu.resource, gpu.used_hours, gpu.total_hours) == ("GPU", 1.0, 30.0)
    assert (tpu.resource, tpu.total_hours, f"{tpu.refresh:%m-%d}") == ("TPU", 20.0, "11-28")


LARGE = {"error": {"code": 400, "message": "Source must be less than 1 megabytes.", "status": "INVALID_ARGUMENT"}}
HTML = "<html><body>Bad Gateway</body></html>"


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (401, UserError, "Kaggle answered 401 about the quota .*make a new one"),
        (403, AbsentError, "this account may not see it"),
        (404, AbsentError, "it does not exist"),
        (429, UnreachableError, "too many requests"),
        (503, UnreachableError, "Kaggle has a fault"),
        ((502, HTML), UnreachableError, "Kaggle answered 502 about the quota: Kaggle has a fault"),
        ((200, HTML), UnreachableError, "is not JSON, as during an outage"),
        ((200, "{"), UnreachableError, "is not JSON"),
        ((200, {"gpuQuota": 3}), UnreachableError, "has an unknown form"),
        ((400, LARGE), UserError, r"400 .*\(Source must be less than 1 megabytes.\): .*use --deliver dataset"),
        (
            (409, {"error": {"message": "The title is already in use."}}),
            UserError,
            "409 .*another kernel has this title",
        ),
        ((409, {"code": 409, "message": "Slug in use"}), UserError, "Slug in use.*write another `wheel_dataset`"),
        ((400, {"error": "Bad\n  thing at https://x.y/z?Signature=S"}), UserError, r"\(Bad thing at\): correct that"),
        ((413, HTML), UserError, "413 about the quota: it is too large; use --deliver dataset"),
        ((418, {"message": ["a", "list"]}), UserError, "418 about the quota: correct that"),
    ],
)
def test_an_error_of_the_server_is_a_sentence_with_its_own_reason(loopback, answer, kind, sentence):
    kaggle = Kaggle()
    loopback.out_of_service.append(answer)
    with pytest.raises(UserError, match=sentence) as caught:
        kaggle.quota()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "Signature" not in str(caught.value)


def test_a_call_that_hangs_ends(loopback, monkeypatch):
    kaggle = Kaggle()
    monkeypatch.setattr("fintune_kit.kaggle.calls.door.TIMEOUT", (5.0, 0.1))
    loopback.hanging = 1
    with pytest.raises(UnreachableError, match="could not be reached about the quota"):
        kaggle.quota()


def test_the_door_is_shut_after_a_call(loopback):
    from requests.adapters import HTTPAdapter

    before = HTTPAdapter.send
    Kaggle().quota()
    assert HTTPAdapter.send is before


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
    assert secret not in repr(reply)
    assert "0123456789abcdef" not in repr(reply)


def test_without_credentials_one_sentence(loopback, monkeypatch, capfd):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(MissingInputError, match="there are no Kaggle credentials; make a token"):
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
    rooms = "fintune_kit.cli.main, fintune_kit.kaggle.chain, fintune_kit.kaggle.calls.client"
    code = f"import sys, {rooms}; print('kaggle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
