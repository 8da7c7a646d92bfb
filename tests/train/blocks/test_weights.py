import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from fintune_kit.train.blocks.linear import LinearGroup
from fintune_kit.train.blocks.weights import four_bit_layers, keep_ready


class Two(nn.Module):
    """Two layers, 4-bit ones, as they lie in a model."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (self.packed(nn.Linear(128, 64, bias=b)) for b in (True, False))

    @staticmethod
    def packed(plain):
        layer = bnb.nn.Linear4bit(128, 64, bias=plain.bias is not None, compute_dtype=torch.float32, quant_type="nf4")
        layer.load_state_dict(plain.state_dict())
        return layer.to("cpu").requires_grad_(False)

    def forward(self, x):
        return self.first(x) + self.second(x)


@pytest.mark.parametrize("dense", [False, True])
def test_no_value_changes(dense):
    torch.manual_seed(1)
    x = torch.randn(3, 128)
    model = Two()
    before = model(x)
    assert model.first.weight.quant_state.nested, "the scales lie packed too, or nothing would be unpacked"
    keep_ready(model, dense=dense)
    assert len(list(four_bit_layers(model))) == (0 if dense else 2)
    torch.testing.assert_close(model(x), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_layers_under_an_adapter_are_found_and_give_the_very_same_weights(dense):
    model = get_peft_model(Two(), LoraConfig(r=4, target_modules=["first"]))
    layers = [model.get_submodule(f"base_model.model.{name}") for name in ("first", "second")]
    before = [group.layers[0].weight().clone() for group in groups_of(layers)]
    keep_ready(model, dense=dense)
    layers = [model.get_submodule(f"base_model.model.{name}") for name in ("first", "second")]
    for group, weight in zip(groups_of(layers), before, strict=True):
        assert torch.equal(group.layers[0].weight(), weight)
    frozen = {str(p.dtype) for p in model.parameters() if not p.requires_grad and p.dim() == 2}
    assert frozen == {"torch.float32" if dense else "torch.uint8"}


def groups_of(layers):
    return [LinearGroup.of([layer], dtype=torch.float32) for layer in layers]
