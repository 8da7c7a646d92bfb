"""4-bit weights that are shared out among processes: the part of each process, and all parts together."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from fintune_kit.train.blocks import split
from fintune_kit.train.blocks.linear import Linear
from fintune_kit.train.blocks.split import SplitWeight, is_split, split_weights
from fintune_kit.train.blocks.weights import keep_ready


def layer(bias=True) -> Linear4bit:
    torch.manual_seed(0)
    plain = nn.Linear(192, 320, bias=bias)
    made = Linear4bit(192, 320, bias=bias, quant_type="nf4", compress_statistics=True, compute_dtype=torch.float32)
    made.load_state_dict(plain.state_dict())
    made = made.to("cpu").requires_grad_(False)
    model = nn.Sequential(made)
    keep_ready(model, dense=False)
    return model


@pytest.mark.parametrize("processes", [2, 3])
def test_the_parts_of_all_processes_make_the_very_same_weight(monkeypatch, processes):
    expected = Linear(layer()[0], None).weight()
    parts = [SplitWeight(layer()[0], rank=rank, processes=processes) for rank in range(processes)]

    def gather(out, _part):
        out.copy_(torch.cat([one._part for one in parts]))

    for name in ("all_gather_single", "all_gather_into_tensor"):  # the newer and the older name
        monkeypatch.setattr(split.dist, name, gather, raising=False)
    for one in parts:
        assert torch.equal(one.whole(), expected)


def test_a_process_holds_its_part_only():
    model = layer()
    before = model[0].weight.data.nbytes + model[0].weight.quant_state.absmax.nbytes
    split_weights(model, rank=1, processes=2)
    assert is_split(model)
    assert model[0].weight.data.nbytes + model[0].weight.quant_state.absmax.nbytes == 0
    assert before / 2 <= model[0].split_weight._part.nbytes <= before / 2 + 4


def test_forward_and_backward_outside_our_blocks_are_those_of_the_whole_layer():
    whole, shared = layer(), layer()
    split_weights(shared, rank=0, processes=1)
    results = []
    for model in (whole, shared):
        x = torch.linspace(-1, 1, 4 * 192).view(4, 192).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad))
    torch.testing.assert_close(results[1][0], results[0][0])
    torch.testing.assert_close(results[1][1], results[0][1])
