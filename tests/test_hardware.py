import os
import subprocess
import sys

import pytest

from fintune_kit.hardware import (
    Card,
    Machine,
    allocator_setting,
    check_machine,
    choose_dtype,
    doctor,
    find_machine,
    has_kernels_for,
    in_its_own_process,
    missing_kernels,
    use_expandable_segments,
)

CU128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(None, "float32"), ((6, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")],
)
def test_precision_is_decided_by_the_card_with_a_reason(capability, dtype):
    chosen, reason = choose_dtype(capability)
    assert chosen == dtype
    assert len(reason) > 10


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((6, 0), CU128, False),
        ((6, 0), CU126, True),
        ((7, 5), CU128, True),
        ((8, 9), CU128, True),  # an L4 runs sm_86 code
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
    ],
)
def test_a_card_needs_code_of_its_major_version(capability, built, runs):
    assert has_kernels_for(capability, built) is runs


def test_a_card_without_kernels_is_named_with_the_remedy():
    card = Card(name="Tesla P100-PCIE-16GB", capability=(6, 0), memory_bytes=16 * 2**30)
    sentence = missing_kernels(card, "2.10.0+cu128", CU128)
    assert "P100" in sentence
    assert "sm_60" in sentence
    assert "requirements-p100.txt" in sentence


def test_this_machine_is_described_and_passes_its_own_check():
    machine = find_machine()
    check_machine(machine)
    assert machine.cpu_cores >= 1
    assert machine.name


def test_without_pytorch_the_cpu_is_named_and_doctor_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    machine = find_machine()
    assert (machine.kind, machine.cards, machine.dtype) == ("cpu", (), "float32")
    assert machine.dtype_reason == "PyTorch is not installed, so no card can be seen"
    assert machine.name.startswith("CPU (")
    assert doctor()[-1].what == "PyTorch"
    assert "fintune-kit[all]" in doctor()[-1].remedy


@pytest.mark.parametrize(
    "room", ["fintune_kit.train", "fintune_kit.train.model", "fintune_kit.chat", "fintune_kit.tiny"]
)
def test_no_library_fetches_compiled_code_from_the_hub(room, tmp_path):
    """bitsandbytes does on a CPU with bfloat16, where the package `kernels` is installed."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*_a, **_k): raise SystemExit('code was fetched')")
    code = (
        f"import {room}, importlib.util, os; assert importlib.util.find_spec('kernels') is None; "
        f"assert os.environ['USE_HUB_KERNELS'] == '0'; import kernels"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: import of kernels halted" in done.stderr


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("2.7.1", "PYTORCH_CUDA_ALLOC_CONF"),
        ("2.9.1+cu128", "PYTORCH_CUDA_ALLOC_CONF"),
        ("2.11.0", "PYTORCH_ALLOC_CONF"),
    ],
)
def test_the_memory_of_cards_grows_in_place_under_the_name_that_each_torch_reads(monkeypatch, version, name):
    monkeypatch.setattr("fintune_kit.hardware.os.environ", environment := {})
    monkeypatch.setattr("importlib.metadata.version", lambda _package: version)
    assert allocator_setting() is None
    use_expandable_segments()
    assert environment == {name: "expandable_segments:True"}
    assert allocator_setting() == f"{name}=expandable_segments:True"


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_a_users_own_memory_setting_stays(monkeypatch, name):
    monkeypatch.setattr("fintune_kit.hardware.os.environ", environment := {name: "max_split_size_mb:128"})
    use_expandable_segments()
    assert environment == {name: "max_split_size_mb:128"}
    assert allocator_setting() == f"{name}=max_split_size_mb:128"


@pytest.mark.parametrize(("version", "fine"), [("0.10.0", False), ("0.15.9", False), ("0.16.0", True), (None, True)])
def test_doctor_names_a_torchao_beside_which_peft_stops(monkeypatch, tmp_path, version, fine):
    if version:
        (tmp_path / f"torchao-{version}.dist-info").mkdir()
        (tmp_path / f"torchao-{version}.dist-info" / "METADATA").write_text(f"Name: torchao\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = [finding for finding in doctor() if finding.what == "torchao"]
    assert [finding.fine for finding in found] == ([] if fine else [False])
    if not fine:
        assert found[0].detail == f"{version}, expected none or >=0.16, because peft stops beside an older one"
        assert found[0].remedy == "pip uninstall torchao"


def test_a_check_in_its_own_process_leaves_nothing_behind_and_its_mistake_comes_through():
    assert in_its_own_process(os.getpid) != os.getpid()
    with pytest.raises(FileNotFoundError, match="no such folder"):
        in_its_own_process(os.listdir, "/no such folder")


def test_two_cards_are_counted():
    card = Card(name="Tesla T4", capability=(7, 5), memory_bytes=15 * 2**30)
    machine = Machine(kind="cuda", cards=(card, card), dtype="float16", dtype_reason="", cpu_cores=4)
    assert machine.name == "2 x Tesla T4"


def test_doctor_runs_an_nf4_layer():
    findings = {finding.what: finding for finding in doctor()}
    assert findings["bitsandbytes"].fine, findings["bitsandbytes"].detail
    assert {"accelerator", "precision"} <= set(findings)
