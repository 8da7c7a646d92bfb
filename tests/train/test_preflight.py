from dataclasses import replace

import pytest
import torch
from accelerate import PartialState
from bitsandbytes.optim.optimizer import Optimizer8bit

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, Machine, find_machine
from fintune_kit.plan.devices import GIB
from fintune_kit.plan.engines import find_device
from fintune_kit.plan.plan import make_plan
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.recipes import p100, smoke
from fintune_kit.train.preflight import check_room, check_step, preflight
from tests.plan.test_plan import SHARED

CPU = torch.device("cpu")
T4 = Card(name="Tesla T4", capability=(7, 5), memory_bytes=15 * 2**30)


def plan():
    return make_plan(p100(), shape=SHAPES["Qwen2.5-3B"], counts=SHARED, device=find_device("t4"))


def test_the_real_layer_and_the_real_optimizer_run_here():
    findings = preflight(find_machine(), smoke().train, plan())
    assert [finding.what for finding in findings] == ["kernels", "layer", "optimizer", "memory"]
    assert all(finding.fine for finding in findings)
    assert "4-bit" in findings[1].detail
    assert "paged_adamw_8bit" in findings[2].detail


@pytest.mark.parametrize(("index", "touched"), [(None, ["cuda:0", "cuda:1"]), (1, ["cuda:1"])])
def test_a_process_that_trains_touches_its_own_card_only(monkeypatch, index, touched):
    machine = Machine(kind="cuda", cards=(T4, T4), dtype="float16", dtype_reason="", cpu_cores=4)
    found = {"operation": [], "room": [], "step": []}
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: ["sm_75"])
    ones = torch.ones
    monkeypatch.setattr("torch.ones", lambda *s, device, **_: found["operation"].append(device) or ones(*s))
    for name in ("room", "step"):
        seen = found[name]
        monkeypatch.setattr(f"fintune_kit.train.preflight.check_{name}", lambda d, *_, s=seen, **__: s.append(str(d)))
    preflight(machine, p100().train, plan(), index=index)
    assert found == {"operation": touched, "room": touched, "step": touched}


@pytest.mark.parametrize("optimizer", ["paged_adamw_8bit", "adamw_torch"])
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_every_kind_of_layer_and_optimizer_is_tried_as_it_is(quantization, optimizer):
    check_step(CPU, replace(p100().train, quantization=quantization, optimizer=optimizer), dtype="float32")


def test_the_card_that_a_process_trains_on_is_not_forgotten(monkeypatch):
    processes = PartialState(cpu=True)
    monkeypatch.setattr(processes, "device", torch.device("meta"))
    check_step(CPU, p100().train, dtype="float32")
    assert processes.device == torch.device("meta")
    assert PartialState().device == torch.device("meta")


def test_the_state_of_the_optimizer_is_large_enough_to_be_paged(monkeypatch):
    sizes, make_state = [], Optimizer8bit.get_state_buffer

    def recorded(self, parameter, **options):
        sizes.append(parameter.numel())
        return make_state(self, parameter, **options)

    monkeypatch.setattr(Optimizer8bit, "get_state_buffer", recorded)
    check_step(CPU, p100().train, dtype="float32")
    assert sizes, "no state was made"
    assert min(sizes) >= 100_000


def test_a_bitsandbytes_without_its_binary_is_named_with_the_remedy(monkeypatch):
    def missing(*_args, **_kwargs):
        raise RuntimeError("Attempted to use bitsandbytes native library functionality but it's not available.\nMore")

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", missing)
    with pytest.raises(UserError, match=r"nf4 layer.*native library.*expected bitsandbytes 0.*requirements-p100.txt"):
        check_step(CPU, p100().train, dtype="float32")


def test_an_optimizer_that_changes_nothing_is_not_taken_for_one_that_works(monkeypatch):
    monkeypatch.setattr("torch.optim.AdamW.step", lambda *_: None)
    with pytest.raises(UserError, match=r"moved a weight by 0.0, expected about the learning rate"):
        check_step(CPU, replace(p100().train, quantization="none", optimizer="adamw_torch"), dtype="float32")


@pytest.mark.parametrize(("free", "fits"), [(14.5, True), (3.0, False)])
def test_a_card_that_something_else_holds_is_refused_before_loading(monkeypatch, free, fits):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _device: (int(free * GIB), int(14.7 * GIB)))
    card = torch.device("cuda", 0)
    if fits:
        check_room(card, plan())
        return
    with pytest.raises(UserError, match=r"3.0 of 14.7 GiB are free.*restart the kernels"):
        check_room(card, plan())
