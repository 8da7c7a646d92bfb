"""The block in few passes beside transformers' own with PEFT's adapters, and beside autograd's own derivatives."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from fintune_kit.train.attention import TREE_ATTENTION, TreeAttention
from fintune_kit.train.batch import lay_out
from fintune_kit.train.blocks.linear import noise
from fintune_kit.train.blocks.packed import PackedBlock, rotate, use_packed_blocks
from fintune_kit.train.blocks.weights import keep_ready
from fintune_kit.train.loss import enable_packs
from fintune_kit.train.model import load_base
from tests.train.conftest import random_tree

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
}


def make(family="qwen2", *, packed, dtype=torch.float64, dropout=0.0, targets=ALL, **options):
    """A small model whose biases, norms and adapters are all random, so that each gradient says something."""
    torch.manual_seed(0)
    if family == "qwen2":
        base = Qwen2ForCausalLM(Qwen2Config(**SIZES, attn_implementation=TREE_ATTENTION))
    else:
        base = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32, attn_implementation=TREE_ATTENTION))
    base = base.to(dtype).requires_grad_(False)
    for name, parameter in base.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    enable_packs(base)
    lora = LoraConfig(r=8, lora_alpha=12, lora_dropout=dropout, target_modules=list(targets), **options)
    model = get_peft_model(base, lora, autocast_adapter_dtype=False).train()
    randomize(model, seed=1)
    if packed:
        use_packed_blocks(base, dtype=dtype)
    if dtype is torch.float64:
        for module in base.modules():
            if hasattr(module, "variance_epsilon"):
                module.forward = partial(norm, module)  # transformers takes it in float32, whatever the dtype
    return model


def randomize(model, *, seed):
    """Random values for what is trained."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)


def norm(module, x):
    """RMSNorm in the dtype of its input."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon) * module.weight


def columns(packs=2, length=24):
    draw = random.Random(3)
    ends = np.array([random_tree(draw, length) for _ in range(packs)])
    depth = [[sum(e > p for e in row[:p]) for p in range(length)] for row in ends]
    tokens = np.array([[draw.randrange(96) for _ in range(length)] for _ in range(packs)])
    labels = np.where(np.arange(length) % 3 == 1, tokens, -100)
    weights = (labels != -100) * np.arange(length)
    trees = {"input_ids": tokens, "position_ids": np.array(depth), "subtree_end": ends}
    return {**trees, "shift_labels": labels, "loss_weight": weights}


def loss_and_gradients(model):
    loss = model(micro_batch=lay_out(columns(), chunk=5), noise_seed=7).loss
    if loss.requires_grad:
        loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


def assert_same(found, expected, *, rtol=1e-9, atol=1e-10):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("targets", [ALL, ("q_proj", "up_proj"), ("k_proj", "o_proj", "down_proj")], ids=len)
def test_losses_and_gradients_are_those_of_transformers_and_peft(family, targets):
    expected = loss_and_gradients(make(family, packed=False, targets=targets))
    found = loss_and_gradients(make(family, packed=True, targets=targets))
    assert len(expected) == 1 + 2 * 2 * len(targets)
    assert_same(found, expected)


def test_in_float32_they_agree_to_rounding():
    expected, found = (loss_and_gradients(make(packed=p, dtype=torch.float32)) for p in (False, True))
    torch.testing.assert_close(found["loss"], expected["loss"], rtol=1e-5, atol=0)
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 3e-5 * value.norm(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_they_are_as_close_to_the_truth_as_those_of_transformers(dtype):
    truth = loss_and_gradients(make(packed=False))
    errors = {}
    for packed in (False, True):
        found = loss_and_gradients(make(packed=packed, dtype=dtype))
        errors[packed] = [float((found[n].double() - v).norm() / v.norm()) for n, v in truth.items()]
    assert np.mean(errors[True]) <= 1.1 * np.mean(errors[False])
    assert np.mean(errors[False]) > 1e-4, "equal to the truth, so nothing was compared"


def reference_block(block, x, tree, turns, *, seeds):
    """One block by autograd, with the noise that `PackedBlock` draws."""

    def linear(module, y, kept):
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        return module.base_layer(y) + (y * kept / (1 - 0.3)) @ a.T @ b.T * module.scaling["default"]

    def kept(like, seed):
        return noise(like.shape, share=0.7, seed=seed, device=x.device)

    attention, mlp = block.self_attn, block.mlp
    y = norm(block.input_layernorm, x)
    mask = kept(y, seeds[0])
    heads = [linear(p, y, mask).view(len(x), -1, 16) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
    y = tree.attend(turn(heads[0], turns), turn(heads[1], turns), heads[2], scale=attention.scaling).flatten(1)
    x = x + linear(attention.o_proj, y, kept(y, seeds[1]))
    y = norm(block.post_attention_layernorm, x)
    mask = kept(y, seeds[2])
    z = F.silu(linear(mlp.gate_proj, y, mask)) * linear(mlp.up_proj, y, mask)
    return x + linear(mlp.down_proj, z, kept(z, seeds[3]))


def turn(x, turns):
    first, second = x.chunk(2, dim=-1)
    return x * turns[0] + torch.cat([-second, first], dim=-1) * turns[1]


def test_with_dropout_the_gradients_are_autograds():
    model = make(packed=False, dropout=0.3)
    block = model.get_base_model().model.layers[1]
    packed = PackedBlock(block, index=1, dtype=torch.float64)
    packed.refresh()
    batch = lay_out(columns(), chunk=5)
    tree = TreeAttention.of(batch.groups, kv_heads=2, dtype=torch.float64, noise_seed=100)
    torch.manual_seed(2)
    x = torch.randn(48, 64, dtype=torch.float64, requires_grad=True)
    angles = torch.outer(torch.arange(48.0, dtype=torch.float64), torch.linspace(0.1, 1, 8, dtype=torch.float64))
    turns = tuple(torch.cat([f(angles)] * 2, dim=-1)[:, None] for f in (torch.cos, torch.sin))
    weights = torch.randn(48, 64, dtype=torch.float64)
    found = {}
    for name, run in {
        "ours": lambda: packed(x, tree, turns),
        "autograd": lambda: reference_block(block, x, tree, turns, seeds=[104, 105, 106, 107]),
    }.items():
        y = run()
        matrices = [p for p in block.parameters() if p.requires_grad]
        found[name] = [y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *matrices])]
    assert len(found["ours"]) == 2 + 14
    for ours, autograd in zip(found["ours"], found["autograd"], strict=True):
        torch.testing.assert_close(ours, autograd, rtol=1e-9, atol=1e-10)


def test_the_same_seed_drops_the_same_and_another_seed_something_else():
    batch = lay_out(columns(), chunk=5)
    model = make(packed=True, dropout=0.3)
    losses = [model(micro_batch=batch, noise_seed=seed).loss.item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    quiet = make(packed=True)
    model.eval()
    assert model(micro_batch=batch, noise_seed=1).loss.item() == quiet(micro_batch=batch).loss.item()


def test_blocks_of_a_model_drop_different_values():
    shape, device = torch.Size([50, 64]), torch.device("cpu")
    drawn = [noise(shape, share=0.7, seed=seed, device=device) for seed in range(100, 108)]
    assert all(0.6 < float(kept.float().mean()) < 0.8 for kept in drawn)
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_rotation_back_undoes_rotation():
    torch.manual_seed(0)
    x, angles = torch.randn(5, 3, 8, dtype=torch.float64), torch.randn(5, 1, 4, dtype=torch.float64)
    turns = [torch.cat([f(angles)] * 2, dim=-1) for f in (torch.cos, torch.sin)]
    torch.testing.assert_close(rotate(x, *turns), turn(x, turns))
    torch.testing.assert_close(rotate(rotate(x, *turns), *turns, back=True), x)


def other_values(model, folder):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data * 1.5  # new storage: a copy that is made once would not notice


def load_another(model, folder):
    other = make(packed=False)
    randomize(other, seed=5)
    other.save_pretrained(folder)
    model.load_adapter(str(folder), "default", is_trainable=True, autocast_adapter_dtype=False)


def activate_second(model, folder):
    model.add_adapter("second", LoraConfig(r=4, lora_alpha=3, target_modules=["q_proj", "down_proj"]))
    model.set_adapter("second")
    model.double()
    randomize(model, seed=4)


def activate_both(model, folder):
    activate_second(model, folder)
    model.base_model.set_adapter(["default", "second"])


def exchange(model, folder):
    """The first adapter goes, and one of another rank comes under its name."""
    activate_second(model, folder)
    model.delete_adapter("default")
    model.add_adapter("default", LoraConfig(r=2, lora_alpha=5, target_modules=list(ALL)))
    model.set_adapter("default")
    model.double()
    randomize(model, seed=6)


def switch_off(model, folder):
    model.base_model.disable_adapter_layers()


def merge(model, folder):
    model.merge_adapter()


def merge_and_switch_off(model, folder):
    model.merge_adapter()
    model.base_model.disable_adapter_layers()


def rescale(model, folder):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.set_scale("default", 3.0)


def new_weight_in_base(model, folder):
    layer = model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    layer.weight = torch.nn.Parameter(layer.weight * 2, requires_grad=False)


def train_a_bias(model, folder):
    model.get_base_model().model.layers[1].self_attn.q_proj.base_layer.bias.requires_grad_(True)


def train_a_norm(model, folder):
    model.get_base_model().model.layers[0].input_layernorm.weight.requires_grad_(True)


def hook_a_layer(model, folder):
    model.get_base_model().model.layers[0].mlp.up_proj.register_forward_pre_hook(lambda _, given: (2 * given[0],))


def checkpoint_as_transformers_does(model, folder):
    model.get_base_model().gradient_checkpointing_enable()


def evaluate(model, folder):
    model.eval()


CHANGES = [
    (other_values, None),
    (load_another, None),
    (activate_second, None),
    (activate_both, "2 adapters are active at once"),
    (exchange, None),
    (switch_off, None),
    (merge, None),
    (merge_and_switch_off, "a merged adapter is switched off"),
    (rescale, None),
    (new_weight_in_base, None),
    (train_a_bias, "the base is trained too"),
    (train_a_norm, "the base is trained too"),
    (hook_a_layer, "a layer has a hook"),
    (checkpoint_as_transformers_does, None),
    (evaluate, None),
]
NO_OTHER_LOSS = (merge, train_a_bias, train_a_norm, checkpoint_as_transformers_does, evaluate)


@pytest.mark.parametrize(("change", "obstacle"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_change_to_a_model_counts_from_its_next_forward_pass_on(change, obstacle, tmp_path):
    """The first pass has made copies of what was there."""
    found = {}
    for packed in (False, True):
        model = make(packed=packed)
        before = loss_and_gradients(model)
        model.zero_grad()
        change(model, tmp_path / str(packed))
        found[packed] = loss_and_gradients(model)
        same = float(before["loss"]) == pytest.approx(float(found[packed]["loss"]), rel=1e-6)
        assert same == (change in NO_OTHER_LOSS)
    assert obstacle in {block.obstacle for block in model.get_base_model().packed_blocks}
    assert_same(found[True], found[False])


@pytest.mark.parametrize(
    ("options", "obstacle"),
    [
        ({"use_rslora": True}, None),
        ({"rank_pattern": {"k_proj": 3, "up_proj": 5}, "alpha_pattern": {"k_proj": 4.5, "up_proj": 7.5}}, None),
        ({"alpha_pattern": {"k_proj": 2}}, "adapters of layers with the same input differ in scale or dropout"),
        ({"use_dora": True}, "an adapter is a variant of LoRA"),
        ({"lora_bias": True, "targets": ("q_proj",)}, "an adapter is a variant of LoRA"),
    ],
    ids=str,
)
def test_adapters_of_every_kind_give_their_own_numbers(options, obstacle, caplog):
    expected, model = loss_and_gradients(make(packed=False, **options)), make(packed=True, **options)
    assert_same(loss_and_gradients(model), expected)
    assert {block.obstacle for block in model.get_base_model().packed_blocks} == {obstacle}
    model(micro_batch=lay_out(columns(), chunk=5))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (obstacle is not None), "once, and not at each pass"
    assert all(line.startswith("2 of 2 blocks run as PEFT defines them") for line in said)


def test_where_peft_runs_its_noise_is_drawn_from_the_seed():
    options = {"dropout": 0.3, "use_dora": True}
    torch.manual_seed(11)
    found = loss_and_gradients(make(packed=True, **options))
    torch.manual_seed(12)
    assert_same(found, loss_and_gradients(make(packed=False, **options)), rtol=0, atol=0)
    assert found["loss"] != loss_and_gradients(make(packed=True, use_dora=True))["loss"]


@pytest.mark.parametrize("dense", [False, True])
def test_with_a_base_in_4_bits_the_numbers_are_those_of_bitsandbytes_and_peft(dense, tmp_path):
    make(packed=False, dtype=torch.float32).unload().save_pretrained(tmp_path)
    found = {}
    for packed in (False, True):
        base = load_base(tmp_path, dtype="float32", quantization="nf4", device="cpu")
        model = get_peft_model(base, LoraConfig(r=8, lora_alpha=12, target_modules=list(ALL))).train()
        randomize(model, seed=1)
        if packed:
            keep_ready(model, dense=dense)
            use_packed_blocks(base, dtype=torch.float32)
        found[packed] = loss_and_gradients(model)
    assert {block.obstacle for block in base.packed_blocks} == {None}
    for name, value in found[False].items():
        assert (found[True][name] - value).norm() <= 3e-5 * value.norm(), name


def on_a_base(folder, *, dtype, packed=False, planted=0.0):
    """A base in float16 runs as on a card without bfloat16: under autocast, its residual stream in float32.

    Args:
        planted: added to one channel of the residual stream.
    """
    base = load_base(folder, dtype=dtype, quantization="none", device="cpu")
    channel = torch.where(torch.arange(64) == 3, planted, 0.0)
    base.get_input_embeddings().register_forward_hook(lambda _module, _given, states: states + channel)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=12, target_modules=list(ALL))).train()
    randomize(model, seed=1)
    if packed:
        use_packed_blocks(base, dtype=getattr(torch, dtype))
        assert {block.obstacle for block in base.packed_blocks} == {None}
    with torch.autocast("cpu", dtype=torch.float16, enabled=dtype == "float16"):
        return loss_and_gradients(model)


def test_in_float16_beside_a_float32_residual_stream_errors_are_no_larger_than_those_of_transformers(tmp_path):
    make(packed=False, dtype=torch.float32).unload().save_pretrained(tmp_path)
    truth = on_a_base(tmp_path, dtype="float32")
    errors = {}
    for packed in (False, True):
        found = on_a_base(tmp_path, dtype="float16", packed=packed)
        errors[packed] = [float((found[name] - value).norm() / value.norm()) for name, value in truth.items()]
    assert 1e-4 < np.mean(errors[True]) <= 1.1 * np.mean(errors[False]) < 0.02


def test_a_residual_stream_of_1e5_does_not_overflow(tmp_path):
    make(packed=False, dtype=torch.float32).unload().save_pretrained(tmp_path)
    truth = on_a_base(tmp_path, dtype="float32", planted=1e5)
    found = on_a_base(tmp_path, dtype="float16", packed=True, planted=1e5)
    assert float(found["loss"]) == pytest.approx(float(truth["loss"]), rel=1e-3)
    assert all(value.isfinite().all() for value in found.values())


def test_a_gradient_of_a_gradient_is_refused():
    model = make(packed=True)
    (parameter, *_) = [p for p in model.parameters() if p.requires_grad]
    loss = model(micro_batch=lay_out(columns(), chunk=5)).loss
    (gradient,) = torch.autograd.grad(loss, parameter, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
