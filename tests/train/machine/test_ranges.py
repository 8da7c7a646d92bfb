"""Activations near the end of float16, on a CPU: they are found, said, and clamped before they are infinite."""

import pytest
import torch

from fintune_kit.train.batch import lay_out
from fintune_kit.train.machine.ranges import FLOAT16_MAX, NEAR, keep_in_range, largest_activations
from fintune_kit.train.machine.self_check import compare
from fintune_kit.train.model import _keep_residual_stream_in_float32

CHANNEL = 3


@pytest.fixture
def half(reader):
    """The model as a card without bfloat16 runs it: float16 weights, the residual stream in float32."""
    model = reader(torch.float16)
    _keep_residual_stream_in_float32(model.get_base_model())
    return model.eval()


def enlarge_gated_product(model, *, factor, block=1):
    """One channel of a block's gated product grows by the square of a factor. The output stays as it was."""
    mlp = model.get_base_model().model.layers[block].mlp
    with torch.no_grad():
        for layer in (mlp.gate_proj, mlp.up_proj):
            layer.base_layer.weight[CHANNEL] *= factor
        mlp.down_proj.base_layer.weight[:, CHANNEL] /= factor**2


def enlarge_output(model, *, factor, block=0):
    """The output of a block's MLP grows in one channel."""
    with torch.no_grad():
        model.get_base_model().model.layers[block].mlp.down_proj.base_layer.weight[CHANNEL] *= factor


def plant(model, value):
    """Sets a channel of the residual stream."""

    def planted(_module, _inputs, states):
        states = states.clone()
        states[..., CHANNEL] = value
        return states

    model.get_input_embeddings().register_forward_hook(planted)


def loss_and_gradients(model, pack):
    """As training computes them, in float16."""
    columns = {name: column[None] for name, column in pack.items()}
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(micro_batch=lay_out(columns)).loss
    loss.backward()
    return float(loss.detach()), [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


def test_a_usual_model_is_left_alone(half, pack, caplog):
    expected, _ = loss_and_gradients(half, pack)
    found = keep_in_range(half, pack, device="cpu")
    assert (len(found.blocks), found.clamped, caplog.text) == (2, (), "")
    assert all(0 < block.gated_product < NEAR and 0 < block.mlp_output < NEAR for block in found.blocks)
    assert all(block.parts and block.parts.mlp.limit is None for block in half.get_base_model().packed_blocks)
    assert loss_and_gradients(half, pack)[0] == expected
    keep_in_range(half.train(), pack, device="cpu")
    assert half.training


def test_a_residual_channel_of_1e5_is_found_and_the_loss_stays_finite(half, pack):
    plant(half, 1e5)
    found = keep_in_range(half, pack, device="cpu")
    assert [block.residual_stream for block in found.blocks] == pytest.approx([1e5, 1e5], rel=1e-3)
    assert found.clamped == ()
    loss, gradients = loss_and_gradients(half, pack)
    assert torch.isfinite(torch.tensor(loss))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("enlarge", "factor", "block"), [(enlarge_gated_product, 600, 1), (enlarge_output, 20_000, 0)])
def test_an_activation_beyond_float16_is_said_and_clamped(half, pack, caplog, enlarge, factor, block):
    enlarge(half, factor=factor)
    loss, _ = loss_and_gradients(half, pack)
    assert not torch.isfinite(torch.tensor(loss)), "nothing overflowed, so nothing was tried"
    half.zero_grad()
    found = keep_in_range(half, pack, device="cpu")
    assert found.clamped == (block,)
    assert f"the MLP of block(s) {block} goes beyond the end of float16 at 65,504" in caplog.text
    assert found.as_dict()["clamped_blocks"] == [block]
    loss, gradients = loss_and_gradients(half, pack)
    assert torch.isfinite(torch.tensor(loss))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_our_layers_and_those_of_peft_are_clamped_alike(half, pack):
    enlarge_gated_product(half, factor=300)
    torch.manual_seed(1)
    for name, parameter in half.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=1e-4)  # what the check would draw, times 1e5, is most of the residual stream
    assert keep_in_range(half, pack, device="cpu").clamped == (1,)
    agreement = compare(half, pack, dtype="float16", device="cpu")
    assert agreement.holds, agreement.describe()


def test_a_block_that_is_switched_off_stays_clamped(half, pack):
    enlarge_gated_product(half, factor=600)
    keep_in_range(half, pack, device="cpu")
    for block in half.get_base_model().packed_blocks:
        block.switch_off("a test asks for it")
    loss, gradients = loss_and_gradients(half, pack)
    assert all(block.parts is None for block in half.get_base_model().packed_blocks)
    assert torch.isfinite(torch.tensor(loss))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_near_the_end_nothing_changes_yet(half, pack, caplog):
    enlarge_gated_product(half, factor=150)
    before = largest_activations(half, pack, device="cpu")[1].gated_product
    assert NEAR < before < FLOAT16_MAX
    expected, _ = loss_and_gradients(half, pack)
    assert keep_in_range(half, pack, device="cpu").clamped == (1,)
    assert f"reaches {before:,.0f}, near the end of float16" in caplog.text
    assert loss_and_gradients(half, pack)[0] == expected
