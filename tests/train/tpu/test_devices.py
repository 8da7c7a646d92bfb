"""What a session says that is not the one that was asked for. Needs no JAX, but where it says so."""

import os
import subprocess
import sys

import pytest

from fintune_kit.errors import UserError
from fintune_kit.train.tpu.devices import _drop_spoilt_hostnames, check_devices, count_devices, find_devices


def test_eight_tpu_devices_are_fine():
    check_devices(["tpu"] * 8, rehearsal=False)


def test_a_session_without_a_tpu_is_refused():
    with pytest.raises(UserError, match=r"no TPU \(JAX found: cpu\).*8 devices of a v5e-8.*phone number"):
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


def test_the_command_ends_with_one_sentence_and_2_where_there_is_no_tpu(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs this test in .venv-tpu")
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    counting = "from fintune_kit.errors import UserError\nfrom fintune_kit.train.tpu.devices import count_devices\n"
    counting += "try: count_devices()\nexcept UserError as error: print(error)\n"
    said = subprocess.run(
        [sys.executable, "-c", counting], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("this session has no TPU (JAX found: cpu)")
    assert len(said.strip().splitlines()) == 1
