import subprocess
import sys
from dataclasses import replace

import pytest

from fintune_kit.plan import engines
from fintune_kit.plan.counts import PackCounts
from fintune_kit.plan.devices import CPU
from fintune_kit.plan.engines import find_device, known_devices, register
from fintune_kit.plan.layouts import Engine, StepLayout
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.plan import make_plan
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.recipes import p100

ABACUS = replace(CPU, name="abacus", kind="abacus", cards=1)


@pytest.fixture
def _abacus(monkeypatch):
    """A kind of device that another room brings, with arithmetic of its own."""
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))

    def layouts(workload, device):
        assert device.name == "abacus"
        return [StepLayout(micro_batch=1, recompute=Recompute(), memory={"beads": 7}, seconds=(3600.0, 7200.0))]

    precision = ("float32", "beads are exact")
    register(Engine(kind="abacus", devices=(ABACUS,), precision=lambda _device: precision, layouts=layouts))


@pytest.mark.usefixtures("_abacus")
def test_a_registered_engine_plans_for_its_devices():
    counts = PackCounts(packs=80, head_positions=1_000, examples_per_pack=8.0, plain_sequences_per_pack=1.0)
    plan = make_plan(p100(), shape=SHAPES["Qwen2.5-3B"], counts=counts, device=find_device("abacus"))
    assert (plan.device, plan.memory, plan.dtype_reason) == ("abacus", {"beads": 7}, "beads are exact")
    assert plan.hours == (1.0, 2.0)


def test_without_registration_it_is_not_known():
    assert "abacus" not in known_devices()


def test_the_tpu_registers_itself():
    import fintune_kit.tpu  # noqa: F401

    assert find_device("v5e8").kind == "tpu"


def test_planning_imports_no_torch_no_transformers_and_no_datasets():
    """In a process of its own: this one has imported them long ago."""
    code = (
        "import sys, fintune_kit.plan.plan, fintune_kit.tpu;"
        "print([n for n in ('torch', 'transformers', 'datasets', 'pyarrow', 'jax') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
