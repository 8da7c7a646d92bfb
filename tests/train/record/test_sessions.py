"""The history of a run's sessions, and what may not change between two of them."""

import json
from types import SimpleNamespace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.train.record.sessions import begin_session, read_sessions

T4 = SimpleNamespace(device="t4x2", processes=2, dtype="float16")
L4 = SimpleNamespace(device="l4", processes=1, dtype="bfloat16")


@pytest.fixture(autouse=True)
def torch_version(monkeypatch):
    """The versions of this session; a test changes one."""
    found = {"python": "3.12.4", "torch": "2.10.0"}
    monkeypatch.setattr("fintune_kit.train.record.sessions.versions", lambda: dict(found))
    return found


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def run(tmp_path, base):
    """A run with one session behind it, which took forty steps."""
    begin_session(tmp_path / "run", from_step=0, plan=T4, machine="2 x Tesla T4", base=base)
    return tmp_path / "run"


def test_each_session_is_written_down(run, base, caplog):
    begin_session(run, from_step=40, plan=T4, machine="2 x Tesla T4", base=base)
    first, second = read_sessions(run / "sessions.jsonl")
    assert (first["from_step"], second["from_step"]) == (0, 40)
    assert (first["machine"], first["device"], first["processes"], first["dtype"]) == (
        "2 x Tesla T4",
        "t4x2",
        2,
        "float16",
    )
    assert first["versions"] == {"python": "3.12.4", "torch": "2.10.0"}
    assert first["began"].endswith("+00:00")
    assert not caplog.records, "nothing changed"


def test_what_changed_since_the_last_session_is_said_in_one_line(run, base, torch_version, caplog):
    torch_version["torch"] = "2.11.0"
    begin_session(run, from_step=40, plan=L4, machine="NVIDIA L4", base=base)
    (said,) = caplog.messages
    assert said == (
        "going on after step 40 with machine NVIDIA L4 (before: 2 x Tesla T4), device l4 (before: t4x2), processes 1 "
        "(before: 2), dtype bfloat16 (before: float16), torch 2.11.0 (before: 2.10.0): from here on steps are rounded "
        "in another way"
    )


def test_a_session_that_starts_over_is_compared_with_nothing(run, base, caplog):
    (base / "model.safetensors").write_bytes(b"others!")
    begin_session(run, from_step=0, plan=L4, machine="NVIDIA L4", base=base)
    assert not caplog.records


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_flipped_bit_in_the_base_is_refused(run, base, name):
    data = bytearray((base / name).read_bytes())
    data[1] ^= 1
    (base / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"another content \(SHA-256\) than when this run began \({name}\).*--fresh$"):
        begin_session(run, from_step=40, plan=T4, machine="2 x Tesla T4", base=base)
    assert len(read_sessions(run / "sessions.jsonl")) == 1


def test_another_revision_of_a_hub_model_is_refused(tmp_path, monkeypatch):
    config = SimpleNamespace(_commit_hash="aa8e7")
    monkeypatch.setattr("fintune_kit.train.record.sessions.load_config", lambda _base: config)
    options = {"plan": T4, "machine": "2 x Tesla T4", "base": "Qwen/Qwen2.5-3B-Instruct"}
    begin_session(tmp_path, from_step=0, **options)
    begin_session(tmp_path, from_step=40, **options)
    config._commit_hash = "b10c2"
    with pytest.raises(UserError, match="another revision than when this run began"):
        begin_session(tmp_path, from_step=80, **options)


@pytest.mark.parametrize("damage", [b"\0\0\0", b'{"began": "2026', b"[]\n", b"\n"])
def test_a_damaged_history_keeps_its_whole_lines(run, base, damage):
    with (run / "sessions.jsonl").open("ab") as stream:
        stream.write(damage)
    begin_session(run, from_step=40, plan=T4, machine="2 x Tesla T4", base=base)
    assert [json.loads(line)["from_step"] for line in (run / "sessions.jsonl").read_text().splitlines()] == [0, 40]
