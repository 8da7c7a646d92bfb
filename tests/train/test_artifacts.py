import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from fintune_kit.errors import UserError
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.train.artifacts import check_adapter, check_foreign_adapter, expected_shapes, save_tokenizer
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


def test_an_adapter_whose_b_matrices_are_all_zero_has_learned_nothing(world: World, adapter: Path) -> None:
    def forget(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor * 0 for name, tensor in tensors.items() if ".lora_B." in name})

    rewrite(adapter, forget)
    assert check_adapter(adapter, base_config=load_config(world.base))["largest_b"] == 0


def test_an_adapter_from_elsewhere_is_checked_for_what_it_says_of_itself(adapter: Path) -> None:
    (adapter / MANIFEST).unlink()
    found = check_foreign_adapter(adapter)
    assert (found["matrices"], found["rank"]) == (28, 4)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(UserError, match="is of type 'IA3'; expected a LoRA adapter"):
        check_foreign_adapter(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(UserError, match=r"has a damaged adapter_config\.json"):
        check_foreign_adapter(adapter)


def test_a_tokenizer_is_written_for_readers_of_transformers_4(tmp_path: Path, qwen_tokenizer: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer)
    save_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in config, "transformers 4 cannot read a list under this name"
    assert "<|vision_start|>" in config["additional_special_tokens"]
    assert not {"is_local", "local_files_only", "name_or_path"} & set(config)
    assert config["added_tokens_decoder"]["151645"]["content"] == "<|im_end|>"
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.all_special_tokens == tokenizer.all_special_tokens
    assert (again.pad_token, again.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert {"vocab.json", "merges.txt"} <= {path.name for path in tmp_path.iterdir()}


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
