import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fintune_kit.errors import UserError
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.train.artifacts import check_adapter, expected_shapes
from fintune_kit.train.model import load_config
from fintune_kit.workspace import MANIFEST, sha256_of
from tests.evaluate.world import World

WEIGHTS = "adapter_model.safetensors"
FIRST_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


@pytest.fixture
def adapter(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.adapter, tmp_path / "adapter"))


def rewrite(adapter: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes the matrices and seals the folder again, so that only their content can give it away."""
    tensors = load_file(adapter / WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)
    manifest = json.loads((adapter / MANIFEST).read_text())
    manifest["files"][WEIGHTS] = sha256_of(adapter / WEIGHTS)
    (adapter / MANIFEST).write_text(json.dumps(manifest))


def test_a_whole_adapter_passes_with_its_counts(world: World) -> None:
    found = check_adapter(world.adapter, base_config=load_config(world.base))
    assert (found["matrices"], found["rank"], found["alpha"]) == (2 * 7 * 2, 4, 8)
    assert found["parameters"] == 2 * 4 * (4 * (64 + 64) - 2 * 32 + 3 * (64 + 128))
    assert found["largest_b"] > 0


def test_a_cut_file_is_one_sentence(world: World, adapter: Path) -> None:
    whole = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"could not be read .*; expected a whole safetensors file"):
        check_adapter(adapter, base_config=load_config(world.base))


def test_a_changed_file_is_named(world: World, adapter: Path) -> None:
    (adapter / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(UserError, match=r"merges\.txt has changed"):
        check_adapter(adapter, base_config=load_config(world.base))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(FIRST_B), "lacks base_model.*q_proj.lora_B"),
        (lambda t: t.update({f"{FIRST_B}x": t[FIRST_B].clone()}), "which no adapter on .* has"),
        (lambda t: t.update({FIRST_B: t[FIRST_B].half()}), "in torch.float16; expected float32"),
        (lambda t: t.update({FIRST_B: t[FIRST_B] * float("nan")}), "not finite"),
        (lambda t: t.update({FIRST_B: t[FIRST_B] * 0}), "all zero"),
        (lambda t: t.update({FIRST_B: t[FIRST_B][:32]}), r"of shape \(32, 4\); expected \(64, 4\)"),
    ],
)
def test_a_wrong_matrix_is_named(
    world: World, adapter: Path, change: Callable[[dict[str, torch.Tensor]], None], sentence: str
) -> None:
    rewrite(adapter, change)
    with pytest.raises(UserError, match=sentence):
        check_adapter(adapter, base_config=load_config(world.base))


def test_an_adapter_for_another_base_says_so(world: World) -> None:
    config = load_config(world.base)
    config.num_hidden_layers = 3
    with pytest.raises(UserError, match=r"is for a model of 2 layers; expected 3, .* FINTUNE_MODEL"):
        check_adapter(world.adapter, base_config=config)
    config.num_hidden_layers, config.intermediate_size = 2, 256
    with pytest.raises(UserError, match="of shape"):
        check_adapter(world.adapter, base_config=config)


def test_the_real_recipe_makes_504_matrices_of_456_mib(shared_data: Path) -> None:
    config = load_config(shared_data / "qwen-configs" / "Qwen2.5-3B-Instruct")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    shapes = expected_shapes(ModelShape.of(config), rank=64, targets=targets)
    values = sum(a * b for a, b in shapes.values())
    assert len(shapes) == 504
    assert values == 119_734_272
    assert int(values * 4 / 2**20) == 456
