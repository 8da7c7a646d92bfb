"""A large card that is made to behave as a smaller one. No card is needed: the calls to PyTorch are recorded."""

from types import SimpleNamespace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, Machine, find_machine
from fintune_kit.plan.devices import GIB
from fintune_kit.plan.engines import find_device
from fintune_kit.train.machine.other_card import as_device, behave_as, other_card

H100 = Card(name="NVIDIA H100 80GB HBM3", capability=(9, 0), memory_bytes=79 * GIB)
ONE = Machine(kind="cuda", cards=(H100,), dtype="bfloat16", dtype_reason="sm_90 has bfloat16", cpu_cores=16)


def test_an_h100_plans_and_computes_as_a_t4():
    device = other_card("t4", ONE)
    assert (device.name, device.memory_gib) == ("t4", 14.7)
    machine = as_device(ONE, device)
    assert machine.dtype == "float16"
    assert machine.dtype_reason.startswith("as t4: sm_75 has no bfloat16")
    assert machine.cards == (H100,), "the card itself must still be found, and its kernels"


def test_a_cpu_stands_in_for_no_card():
    with pytest.raises(UserError, match=r"--device t4 was given on CPU.*leave --device out"):
        other_card("t4", find_machine())


@pytest.mark.parametrize("name", ["t4x2", "h200"])
def test_more_cards_or_more_memory_than_there_are_cannot_be_played(name):
    with pytest.raises(UserError, match=rf"--device {name} needs .* this machine has NVIDIA H100.*with 79.0 GiB"):
        other_card(name, ONE)


def test_an_unknown_device_names_those_that_there_are():
    with pytest.raises(UserError, match=r"no device 'gtx'.*t4x2"):
        other_card("gtx", ONE)


@pytest.mark.parametrize(("name", "kernels_off"), [("t4", True), ("a100", False)])
def test_memory_is_capped_and_kernels_that_an_old_card_lacks_are_off(monkeypatch, name, kernels_off):
    told = {}
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _i: SimpleNamespace(total_memory=H100.memory_bytes))
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda share, _index: told.update(share=share))
    monkeypatch.setattr("torch.backends.cuda.enable_flash_sdp", lambda on: told.update(flash=on))
    monkeypatch.setattr("torch.backends.cuda.enable_cudnn_sdp", lambda on: told.update(cudnn=on))
    monkeypatch.setattr("fintune_kit.train.machine.other_card.forbid_triton", lambda: told.update(triton=False))
    device = find_device(name)
    behave_as(device)
    assert told.pop("share") == pytest.approx(device.memory_gib / 79)
    assert told == ({"flash": False, "cudnn": False, "triton": False} if kernels_off else {})
