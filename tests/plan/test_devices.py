import pytest

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, Machine
from fintune_kit.plan.devices import device_of
from fintune_kit.plan.engines import find_device
from fintune_kit.plan.plan import make_plan
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.recipes import p100
from tests.plan.test_plan import PLAIN


def test_an_unknown_device_is_named_with_those_that_exist():
    with pytest.raises(UserError, match=r"'p99'.*p100, t4"):
        find_device("p99")


def test_two_t4_are_one_process_each():
    card = Card(name="Tesla T4", capability=(7, 5), memory_bytes=15_828_320_256)
    machine = Machine(kind="cuda", cards=(card, card), dtype="float16", dtype_reason="", cpu_cores=4)
    device = device_of(machine)
    assert (device.name, device.cards) == ("t4x2", 2)
    assert make_plan(p100(), shape=SHAPES["Qwen2.5-3B"], counts=PLAIN, device=device).processes == 2
    assert device_of(machine, processes=1).cards == 1


def test_an_unknown_card_is_planned_as_its_nearest_relative_and_says_so():
    card = Card(name="NVIDIA GeForce RTX 3090", capability=(8, 6), memory_bytes=25_000_000_000)
    machine = Machine(kind="cuda", cards=(card,), dtype="bfloat16", dtype_reason="", cpu_cores=8)
    device = device_of(machine)
    assert "is not known" in device.assumption
    assert device.memory_gib == pytest.approx(23.28, abs=0.01)
