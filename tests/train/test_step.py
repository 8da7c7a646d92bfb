from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from fintune_kit.chat.examples import IGNORE
from fintune_kit.errors import UserError
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.train.attention import TREE_ATTENTION
from fintune_kit.train.blocks.packed import use_packed_blocks
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.loss import enable_packs
from fintune_kit.train.step import StepMemory, StepRunner, noise_seed


class OneProcess:
    """The parts of accelerate that a step needs, in one process on a CPU."""

    device, num_processes, process_index = torch.device("cpu"), 1, 0

    def __init__(self, parameters, *, scale=None):
        self.parameters, self.optimizer = parameters, torch.optim.SGD(parameters, lr=1.0)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale) if scale else None

    def backward(self, loss):
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        for parameter in self.parameters if self.scaler else ():  # as if it had been computed in float16
            parameter.grad[parameter.grad.abs() > 65_504] = torch.inf

    def clip_grad_norm_(self, parameters, most):
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        return torch.nn.utils.clip_grad_norm_(parameters, most)


@pytest.fixture
def reader(make_model):
    base = make_model(attention=TREE_ATTENTION).requires_grad_(False)
    enable_packs(base)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def packs(rows):
    table = rows.with_format("numpy")
    return {name: np.stack([table[i][name] for i in range(len(table))]) for name in COLUMNS}


def step_of(model, packs, *, scale=None, micro_batch=2, guard=None):
    """The gradient of one step, its loss and its norm."""
    adapter = [p for p in model.parameters() if p.requires_grad]
    accelerator = OneProcess(adapter, scale=scale)
    guard = guard or NonFiniteGuard()
    memory = StepMemory(micro_batch=micro_batch, blocks=0)
    runner = StepRunner(model, accelerator=accelerator, guard=guard, memory=memory, max_grad_norm=1e9, seed=0)
    loss, norm = runner.run(model, packs, step=0)
    return SimpleNamespace(
        loss=loss, norm=norm, gradients=[p.grad for p in adapter], guard=guard, scaler=accelerator.scaler
    )


def test_a_scaled_gradient_that_overflows_is_repeated_at_half_the_scale_and_nothing_is_lost(reader, packs):
    expected = step_of(reader, packs)
    found = step_of(reader, packs, scale=2.0**20)
    assert found.guard.repeats >= 1, "nothing overflowed, so nothing was tried"
    assert found.guard.skipped == 0
    assert found.scaler.get_scale() == 2.0 ** (20 - found.guard.repeats)
    assert float(found.loss) == pytest.approx(float(expected.loss))
    for ours, theirs in zip(found.gradients, expected.gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_a_gradient_that_overflows_at_every_scale_stops_the_run(reader, packs, monkeypatch):
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: torch.tensor(torch.inf))
    with pytest.raises(UserError, match="overflowed float16 at 16 scales"):
        step_of(reader, packs, scale=2.0)


def test_a_loss_that_is_not_finite_is_skipped_and_not_repeated(reader, packs):
    with torch.no_grad():
        reader.get_base_model().model.norm.weight[0] = torch.nan
    found = step_of(reader, packs, scale=2.0)
    assert (found.guard.repeats, found.guard.skipped) == (0, 1)
    assert found.gradients == [None] * len(found.gradients)


def test_packs_that_supervise_nothing_are_not_computed(reader, packs, monkeypatch):
    expected = step_of(reader, packs)
    empty = {name: np.zeros_like(column) for name, column in packs.items()}
    empty["subtree_end"][:] = np.arange(1, packs["subtree_end"].shape[1] + 1)
    empty["shift_labels"][:] = IGNORE
    filled = {name: np.concatenate([column, empty[name]]) for name, column in packs.items()}
    calls = []
    forward = reader.forward
    monkeypatch.setattr(reader, "forward", lambda **columns: calls.append(1) or forward(**columns))
    found = step_of(reader, filled)
    assert len(calls) == 2, "four packs, two at once"
    assert float(found.loss) == float(expected.loss)


class Waits(TorchDispatchMode):
    """Notes each operation for which the host would wait for a card, while the context is open."""

    READS = ("tolist", "item", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")
    """Methods of a tensor that need its values. On a CPU some of them call no operation."""
    OPERATIONS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "repeat_interleave")

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = []
        for name in self.READS:
            monkeypatch.setattr(torch.Tensor, name, self._noting(name, getattr(torch.Tensor, name)))

    def _noting(self, name, method):
        def noting(tensor, *arguments, **options):
            self.found.append(name)
            return method(tensor, *arguments, **options)

        return noting

    def __torch_dispatch__(self, function, _types, arguments=(), options=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        masks = [i for i in arguments[1] if i is not None and i.dtype == torch.bool] if name == "index" else []
        if name in self.OPERATIONS or masks:
            self.found.append(name)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("blocks", [0, 2])
def test_the_host_never_waits_for_a_card_inside_a_micro_batch(reader, packs, monkeypatch, blocks):
    use_packed_blocks(reader.get_base_model(), dtype=torch.float32)
    adapter = [p for p in reader.parameters() if p.requires_grad]
    runner = StepRunner(
        reader.train(),
        accelerator=OneProcess(adapter),
        guard=NonFiniteGuard(),
        memory=StepMemory(micro_batch=2, blocks=blocks),
        max_grad_norm=1e9,
        seed=0,
    )
    with Waits(monkeypatch) as waits:
        loss = runner._sum_of_micro_batches(reader, packs, step=0, tokens=14)
        assert waits.found == []
        assert loss > 0, "nothing was computed"
    assert waits.found, "the watch must see a tensor that is read"
    assert all(block.parts is not None for block in reader.get_base_model().packed_blocks)
    assert all(parameter.grad is not None for parameter in adapter)


def test_noise_is_another_one_for_each_step_process_and_pack_and_the_same_for_the_same():
    seeds = [noise_seed(7, step=s, process=r, pack=p) for s in range(3) for r in range(2) for p in range(4)]
    assert len(set(seeds)) == 24
    assert seeds == [noise_seed(7, step=s, process=r, pack=p) for s in range(3) for r in range(2) for p in range(4)]
    assert all(0 <= seed < 2**63 for seed in seeds)
