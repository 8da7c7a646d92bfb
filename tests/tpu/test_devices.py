"""A session without the requested TPU says so. Tests that need JAX say so."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from fintune_kit.errors import UserError
from fintune_kit.tpu.devices import (
    _drop_spoilt_hostnames,
    check_devices,
    check_libtpu,
    count_devices,
    doctor,
    find_devices,
    is_tpu_machine,
)
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("vendor", "device", "found"),
    [("0x1ae0", "0x0063", True), ("0x1ae0", "0x0042", False), ("0x10de", "0x0063", False)],
    ids=["v5e", "Google's network card", "another vendor"],
)
def test_a_tpu_is_known_by_its_pci_ids(tmp_path, monkeypatch, vendor, device, found):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    (tmp_path / "0000:00:04.0").mkdir()
    (tmp_path / "0000:00:04.0" / "vendor").write_text(f"{vendor}\n")
    (tmp_path / "0000:00:04.0" / "device").write_text(f"{device}\n")
    assert is_tpu_machine(pci=tmp_path) is found


def test_a_tpu_without_tunix_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert not is_tpu_machine(pci=tmp_path)


def test_eight_tpu_devices_are_fine():
    check_devices(["tpu"] * 8, rehearsal=False)


def test_a_session_without_a_tpu_is_refused():
    with pytest.raises(UserError, match=r"no TPU \(JAX found: cpu\).*8 devices of a v5e-8.*your identity verified"):
        check_devices(["cpu"] * 8, rehearsal=False)


def test_fewer_than_eight_devices_are_refused():
    with pytest.raises(UserError, match=r"4 TPU device\(s\); expected the 8 of a v5e-8"):
        check_devices(["tpu"] * 4, rehearsal=False)


def test_a_rehearsal_takes_what_there_is():
    check_devices(["cpu"], rehearsal=True)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ("WARNING: could not determine TPU worker hostnames or IP addresses", False),
        ("localhost", True),
        ("10.0.0.1,t1v-n-0", True),
    ],
)
def test_hostnames_that_are_the_text_of_a_warning_are_taken_away(monkeypatch, names, kept):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", names)
    _drop_spoilt_hostnames()
    assert ("TPU_WORKER_HOSTNAMES" in os.environ) is kept


@pytest.fixture
def installed(monkeypatch):
    """Says which libtpu is installed; None for none."""

    def say(version: str | None) -> None:
        def found(name: str) -> str:
            assert name == "libtpu"
            if version is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(importlib.metadata, "version", found)

    return say


def test_the_library_of_the_image_is_refused_and_ours_is_not(installed):
    installed("0.0.17")
    with pytest.raises(UserError, match=r"libtpu 0\.0\.17 is installed; expected 0\.0\.42 or newer.*requirements-tpu"):
        check_libtpu()
    pinned = next(line for line in (REPOSITORY / "requirements-tpu.txt").read_text().splitlines() if "libtpu==" in line)
    installed(pinned.partition("==")[2])
    check_libtpu()
    installed(None)
    check_libtpu()


def test_without_jax_the_requirements_are_named():
    try:
        import jax  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"jax is not installed.*requirements-tpu\.txt"):
            find_devices()
    else:
        pytest.skip("JAX is installed here")


def test_devices_are_counted_in_another_process(monkeypatch):
    pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs this test in .venv-tpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=5")
    assert count_devices() == ("cpu", 5)


def test_the_doctor_counts_the_devices(monkeypatch):
    pytest.importorskip("tunix", reason="Tunix is not installed: `make test-tpu` runs this test in .venv-tpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    assert [(finding.fine, finding.detail) for finding in doctor()] == [(True, "3 x cpu")]


def test_the_doctor_says_what_is_wrong(monkeypatch):
    pytest.importorskip("tunix", reason="Tunix is not installed: `make test-tpu` runs this test in .venv-tpu")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (finding,) = doctor()
    assert not finding.fine
    assert finding.remedy.startswith("this session has no TPU (JAX found: cpu)")


def test_the_command_ends_with_one_sentence_and_2_where_there_is_no_tpu(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs this test in .venv-tpu")
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    environment |= {"FINTUNE_WORKSPACE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "fintune_kit", "train", "--tpu", "--recipe", "smoke", "--packed", str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert [line for line in ended.stderr.splitlines() if "error" in line] == [
        "error: this session has no TPU (JAX found: cpu); expected the 8 devices of a v5e-8: choose the accelerator "
        "'TPU v5e-8', with your identity verified in Kaggle's settings, or train on a GPU with another recipe"
    ]
