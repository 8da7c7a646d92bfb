"""Tunix's models beside transformers': losses and adapter gradients, on one device and split over eight."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")
pytest.importorskip("tunix", reason="Tunix is not installed: `make test-tpu` runs these tests in .venv-tpu")

import jax
import jax.numpy as jnp

from fintune_kit.chat.examples import IGNORE
from fintune_kit.errors import UserError
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe
from fintune_kit.tpu.adapter import first_values, from_jax, to_jax
from fintune_kit.tpu.attention import make_kernels
from fintune_kit.tpu.base import make_mesh
from fintune_kit.tpu.model import TpuModel, load_model, make_model
from fintune_kit.tpu.step import everywhere, make_gradient, make_loss, spread
from fintune_kit.train.model import add_adapter, load_base, load_config
from fintune_kit.train.trainer import stack_packs

LORA = LoraRecipe(rank=4, alpha=8, dropout=0.0)
PRODUCTS_KEPT, BLOCKS = Recompute(), Recompute(blocks=2)
SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
}


def save_model(folder: Path, family: str, **other: int) -> Path:
    torch.manual_seed(0)
    if family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **SIZES | other))
    else:
        rotation = {"rope_type": "default", "rope_theta": 5_000_000.0}  # which Tunix itself does not read
        config = Qwen3Config(tie_word_embeddings=False, head_dim=32, rope_parameters=rotation, **SIZES)
        model = Qwen3ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def load(folder: Path, *, devices: int, **how) -> TpuModel:
    mesh, config = make_mesh(jax.devices()[:devices]), load_config(folder)
    how = {"lora": LORA, "dtype": "float32", "recompute": PRODUCTS_KEPT, **how}
    return load_model(folder, config=config, mesh=mesh, **how)


def place(columns: dict[str, np.ndarray], model: TpuModel) -> dict[str, jax.Array]:
    """A step of one micro-batch."""
    return jax.device_put({name: column[None] for name, column in columns.items()}, spread(model.mesh))


def packs(*, count: int = 8, length: int = 32) -> dict[str, np.ndarray]:
    """Ordinary packs of random examples, of which the last tokens are supervised."""
    draw = np.random.default_rng(0)
    made = {name: np.zeros((count, length), np.int32) for name in ("position_ids", "subtree_end")}
    made["input_ids"] = draw.integers(0, 320, (count, length)).astype(np.int32)
    made["shift_labels"] = np.full((count, length), IGNORE, np.int32)
    for pack in range(count):
        start = 0
        while start < length:
            end = min(length, start + int(draw.integers(4, 12)))
            made["subtree_end"][pack, start:end] = end
            made["position_ids"][pack, start:end] = np.arange(end - start)
            first = (start + end) // 2
            made["shift_labels"][pack, first : end - 1] = made["input_ids"][pack, first + 1 : end]
            start = end
    made["loss_weight"] = np.where(made["shift_labels"] == IGNORE, 0, draw.integers(1, 5, (count, length))).astype(
        np.int32
    )
    return made


@pytest.mark.parametrize(
    ("family", "devices", "recompute", "split"),
    [
        ("qwen2", 8, BLOCKS, True),
        ("qwen2", 8, PRODUCTS_KEPT, False),
        ("qwen3", 1, PRODUCTS_KEPT, False),
        ("qwen3", 8, PRODUCTS_KEPT, True),
    ],
)
def test_loss_and_adapter_gradients_are_those_of_transformers(tmp_path, family, devices, recompute, split):
    folder = save_model(tmp_path / "base", family)
    config, columns = load_config(folder), packs()
    there = add_adapter(load_base(folder, dtype="float32", quantization="none", device="cpu"), LORA, seed=3)
    matrices = {n.replace(".default", ""): p for n, p in there.named_parameters() if p.requires_grad}
    first = first_values(ModelShape.of(config), lora=LORA, seed=3)
    assert first.keys() == matrices.keys()
    for name, parameter in matrices.items():
        assert np.array_equal(first[name], parameter.detach().numpy()), "the same seed draws another adapter"
        parameter.data += 0.02 * torch.randn_like(parameter)  # B is zero at first, and A would get no gradient
    tokens = int(columns["loss_weight"].sum())
    expected = there(**stack_packs([{n: c[i] for n, c in columns.items()} for i in range(8)])).loss / tokens
    expected.backward()

    model = load(folder, devices=devices, recompute=recompute, split_weights=split)
    if split:
        up = model.base["layers"][0]["mlp"]["up_proj"]["kernel"].get_value()
        assert up.addressable_shards[0].data.size == up.size // devices, "each device holds all weights"
    values = {name: parameter.detach().numpy() for name, parameter in matrices.items()}
    adapter = to_jax(values, model.adapter_shapes, sharding=everywhere(model.mesh))
    assert all(np.array_equal(matrix, values[name]) for name, matrix in from_jax(adapter).items())
    placed = place(columns, model)
    compiled = jax.jit(make_gradient(model, head_chunk=8, seed=0, dropout=0.0)).lower(adapter, model.base, placed, 0)
    compiled = compiled.compile()
    found, gradient = compiled(adapter, model.base, placed, 0)
    assert float(found) == pytest.approx(expected.item(), rel=1e-5)
    gradients = from_jax(gradient)
    for name, parameter in matrices.items():
        scale = float(parameter.grad.abs().max())
        assert scale > 0
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), atol=1e-5 * scale, err_msg=name)
    assert f"f32[{8 // devices},32,320]" not in compiled.as_text(), "Tunix's logits of all positions are computed"
    loss = make_loss(model, head_chunk=8)(adapter, model.base, placed)
    assert float(loss) == pytest.approx(expected.item() * tokens, rel=1e-5)


def test_in_bfloat16_the_gradients_point_the_same_way(tmp_path):
    folder, columns = save_model(tmp_path / "base", "qwen2"), packs()
    values = first_values(ModelShape.of(load_config(folder)), lora=LORA, seed=3)
    values = {name: matrix + np.float32(0.02) for name, matrix in values.items()}
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = load(folder, devices=8, recompute=PRODUCTS_KEPT, dtype=dtype)
        adapter = to_jax(values, model.adapter_shapes, sharding=everywhere(model.mesh))
        gradient_of = jax.jit(make_gradient(model, head_chunk=8, seed=0, dropout=0.0))
        loss, gradient = gradient_of(adapter, model.base, place(columns, model), 0)
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype("float32")}
        found[dtype] = float(loss), np.concatenate([part.ravel() for part in from_jax(gradient).values()])
    (loss, gradient), (rounded_loss, rounded) = found["float32"], found["bfloat16"]
    assert rounded_loss == pytest.approx(loss, rel=0.01)
    cosine = gradient @ rounded / np.linalg.norm(gradient) / np.linalg.norm(rounded)
    assert cosine > 0.99


def shapes_of_step(*, recompute: Recompute, layers: int, tmp_path: Path) -> str:
    """The program of a step's gradient, before the compiler works on it."""
    config = load_config(save_model(tmp_path, "qwen2"))
    config.num_hidden_layers = layers
    mesh = make_mesh(jax.devices()[:1])
    model = make_model(config, lora=LORA, mesh=mesh, dtype="float32", recompute=recompute)
    columns = jax.eval_shape(lambda: {name: column[None] for name, column in packs(count=1).items()})
    gradient = make_gradient(model, head_chunk=8, seed=0, dropout=0.0)
    return jax.jit(gradient).lower(model.adapter_shapes, model.base, columns, 0).as_text()


def test_the_compiler_sees_one_block_whatever_the_depth(tmp_path):
    few, many = (shapes_of_step(recompute=PRODUCTS_KEPT, layers=n, tmp_path=tmp_path).splitlines() for n in (2, 12))
    assert sum("dot_general" in line for line in few) > 20
    assert len(many) == len(few)


@pytest.mark.parametrize(("recompute", "times"), [(PRODUCTS_KEPT, 4), (BLOCKS, 6)])
def test_products_with_frozen_weights_are_repeated_only_with_whole_blocks(tmp_path, recompute, times):
    """Gate and up, each with its weight of 64 x 128: forward and backward, and once more where blocks are repeated."""
    program = shapes_of_step(recompute=recompute, layers=2, tmp_path=tmp_path)
    products = [line for line in program.splitlines() if "dot_general" in line and "tensor<64x128xf32>)" in line]
    assert len(products) == times


def test_each_device_micro_batch_and_step_draws_its_own_noise(tmp_path):
    """The same pack everywhere: with the same noise everywhere, its mean loss would be that of one of them."""
    folder, lora = save_model(tmp_path / "base", "qwen2"), LoraRecipe(rank=4, alpha=8, dropout=0.5)
    first = {name: column[:1] for name, column in packs().items()}
    draw = np.random.default_rng(0)
    values = first_values(ModelShape.of(load_config(folder)), lora=lora, seed=0)
    values = {name: draw.normal(size=matrix.shape).astype(np.float32) for name, matrix in values.items()}

    def loss(*, devices: int, accumulation: int = 1, step: int = 0) -> float:
        model = load(folder, devices=devices, lora=lora)
        adapter = to_jax(values, model.adapter_shapes, sharding=everywhere(model.mesh))
        columns = {name: np.tile(column, (accumulation, devices, 1)) for name, column in first.items()}
        gradient_of = jax.jit(make_gradient(model, head_chunk=8, seed=0, dropout=lora.dropout))
        return float(gradient_of(adapter, model.base, jax.device_put(columns, spread(model.mesh)), step)[0])

    alone = loss(devices=1)
    others = [loss(devices=1, step=1), loss(devices=2), loss(devices=1, accumulation=2)]
    assert all(abs(other - alone) > 1e-3 for other in others), (alone, others)


def test_with_attention_by_blocks_gradients_are_those_of_dense_attention(tmp_path, monkeypatch):
    """On CPU devices the kernel is interpreted; the mesh of a TPU would choose it by itself."""
    folder = save_model(tmp_path / "base", "qwen2", hidden_size=256, num_attention_heads=2, num_key_value_heads=1)
    columns = packs(count=2, length=128)
    values = first_values(ModelShape.of(load_config(folder)), lora=LORA, seed=3)
    values = {name: matrix + np.float32(0.02) for name, matrix in values.items()}

    def gradients() -> dict[str, np.ndarray]:
        model = load(folder, devices=2, recompute=PRODUCTS_KEPT)
        adapter = to_jax(values, model.adapter_shapes, sharding=everywhere(model.mesh))
        gradient_of = jax.jit(make_gradient(model, head_chunk=8, seed=0, dropout=0.0))
        return from_jax(gradient_of(adapter, model.base, place(columns, model), 0)[1])

    dense, used = gradients(), []

    def interpreted(ends, *, block):
        used.append(block)
        return make_kernels(ends, block=block, interpret=True)

    monkeypatch.setattr("fintune_kit.tpu.model.block_of", lambda **_asked: 128)
    monkeypatch.setattr("fintune_kit.tpu.model.make_kernels", interpreted)
    found = gradients()
    assert set(used) == {128}
    for name, matrix in dense.items():
        scale = np.abs(matrix).max()
        assert scale > 0
        np.testing.assert_allclose(found[name], matrix, atol=1e-4 * scale, err_msg=name)


def test_weights_of_two_dtypes_are_read_as_what_they_are(tmp_path):
    """Tunix's fast reader takes a whole file to have the dtype of its first tensor."""
    folder = save_model(tmp_path / "base", "qwen2")
    weights = load_file(folder / "model.safetensors")
    mixed = {n: w.bfloat16() if "mlp" in n else w for n, w in weights.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(folder, devices=1)
    norm = np.asarray(model.base["final_norm"]["w"].get_value())
    np.testing.assert_allclose(norm, weights["model.norm.weight"].numpy(), rtol=1e-6)


def test_weights_are_not_there_twice_while_they_are_stacked(tmp_path, monkeypatch):
    folder, held, stack = save_model(tmp_path / "base", "qwen2", num_hidden_layers=8), [], jnp.stack

    def stack_and_count(parts):
        held.append(sum(array.nbytes for array in jax.live_arrays()) - before)
        return stack(parts)

    monkeypatch.setattr(jnp, "stack", stack_and_count)
    before = sum(array.nbytes for array in jax.live_arrays())
    model = load(folder, devices=1)
    base = sum(leaf.nbytes for leaf in jax.tree.leaves(model.base))
    assert len(held) > 10
    assert max(held) < 1.1 * base


def test_a_folder_without_weights_is_refused(tmp_path):
    folder = save_model(tmp_path / "base", "qwen2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors.*FINTUNE_MODEL"):
        load(folder, devices=1)
