import json

import pytest

from fintune_kit.errors import UserError
from fintune_kit.plan.shapes import SHAPES, ModelShape, find_shape
from fintune_kit.recipes import p100

PUBLISHED = {
    "Qwen2.5-0.5B": (0.49, 0.36),
    "Qwen2.5-1.5B": (1.54, 1.31),
    "Qwen2.5-3B": (3.09, 2.77),
    "Qwen2.5-7B": (7.61, 6.53),
    "Qwen2.5-14B": (14.7, 13.1),
    "Qwen3-0.6B": (0.6, 0.44),
    "Qwen3-1.7B": (1.7, 1.4),
    "Qwen3-4B": (4.0, 3.6),
    "Qwen3-8B": (8.2, 6.95),
    "Qwen3-14B": (14.8, 13.2),
}
"""Billions of parameters by the model cards: all, and without embeddings."""


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 300,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_add_up_to_the_parameters_on_the_model_card(name):
    every, inner = PUBLISHED[name]
    shape = SHAPES[name]
    assert shape.linear_parameters / 1e9 == pytest.approx(inner, rel=0.02)
    assert (shape.linear_parameters + shape.embedding_parameters) / 1e9 == pytest.approx(every, rel=0.02)


def test_the_adapter_of_the_recipe_has_the_published_number_of_values():
    assert SHAPES["Qwen2.5-3B"].linear_parameters == 2_774_532_096
    assert SHAPES["Qwen2.5-3B"].adapter_parameters(p100().lora) == 119_734_272


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", "Qwen2.5-3B"),
        ("Qwen/Qwen2.5-14B", "Qwen2.5-14B"),
        ("Qwen/Qwen3-4B", "Qwen3-4B"),
        ("Qwen/Qwen3-4B-Instruct-2507", "Qwen3-4B"),
        ("Qwen/Qwen3-0.6B-Base", "Qwen3-0.6B"),
    ],
)
def test_a_published_model_is_known_by_its_name(base, name):
    assert find_shape(base) == SHAPES[name]


@pytest.mark.parametrize("base", ["Qwen/Qwen2.5-72B", "someone/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct-AWQ"])
def test_another_model_is_not_guessed(base):
    assert find_shape(base) is None


def test_a_folder_is_read_from_its_config(tmp_path):
    config = {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "intermediate_size": 11008,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_shape(tmp_path) == SHAPES["Qwen2.5-3B"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"head_dim": 64}))
    assert find_shape(tmp_path).head_dim == 64


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", "{}", "null", '"text"', SIZES | {"num_attention_heads": 0}, SIZES | {"hidden_size": "many"},
     SIZES | {"vocab_size": -1}, SIZES | {"num_hidden_layers": 0}, "[" * 100_000],
    ids=lambda content: str(content)[-40:],
)  # fmt: skip
def test_a_config_without_the_sizes_of_a_model_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(
        UserError, match=r"config\.json does not hold the sizes of a model \(.+\); expected the config of"
    ):
        find_shape(tmp_path)


def test_the_table_agrees_with_the_published_configs(shared_data):
    folders = sorted((shared_data / "qwen-configs").iterdir())
    assert len(folders) >= 6
    for folder in folders:
        assert find_shape(folder) == find_shape(f"Qwen/{folder.name}"), folder.name


def test_transformers_configs_have_the_same_sizes(shared_data):
    from transformers import AutoConfig

    folder = shared_data / "qwen-configs" / "Qwen3-1.7B"
    assert ModelShape.of(AutoConfig.from_pretrained(folder)) == SHAPES["Qwen3-1.7B"]
