import json

from fintune_kit.recipes import p100, smoke
from fintune_kit.tiny import SIZES, base_of, build_tokenizer, tiny_base, tokenizer_of
from fintune_kit.workspace import Workspace, sha256_of


def test_the_tokenizer_has_qwens_rules():
    tokenizer = build_tokenizer(["profit rose 12% in 2024"] * 3, vocab_size=300)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id, "a masked pad would unteach stopping"
    digits = tokenizer.tokenize("2024")
    assert digits == ["2", "0", "2", "4"], "Qwen reads digits one by one"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are Qwen")


def test_the_tiny_base_is_the_same_for_the_same_seed(tmp_path):
    one = tiny_base(Workspace(tmp_path / "a"), seed=1)
    two = tiny_base(Workspace(tmp_path / "b"), seed=1)
    other = tiny_base(Workspace(tmp_path / "c"), seed=2)
    assert sha256_of(one) == sha256_of(two)
    assert sha256_of(one / "tokenizer.json") == sha256_of(other / "tokenizer.json")
    assert sha256_of(one / "model.safetensors") != sha256_of(other / "model.safetensors")


def test_its_sizes_are_known_without_making_it(tmp_path):
    config = json.loads((tiny_base(Workspace(tmp_path), seed=1) / "config.json").read_text())
    assert {name: config[name] for name in SIZES} == SIZES


def test_another_seed_makes_it_anew(tmp_path):
    workspace = Workspace(tmp_path)
    before = sha256_of(tiny_base(workspace, seed=1) / "model.safetensors")
    assert sha256_of(tiny_base(workspace, seed=2) / "model.safetensors") != before


def test_it_is_made_once(tmp_path):
    workspace = Workspace(tmp_path)
    made = (tiny_base(workspace, seed=1) / "manifest.json").stat().st_mtime_ns
    assert (tiny_base(workspace, seed=1) / "manifest.json").stat().st_mtime_ns == made


def test_a_real_recipe_names_its_model(tmp_path):
    assert base_of(p100(), Workspace(tmp_path)) == "Qwen/Qwen2.5-3B-Instruct"
    assert tokenizer_of(p100(), Workspace(tmp_path)) == "Qwen/Qwen2.5-3B-Instruct"
    assert base_of(smoke(), Workspace(tmp_path)) == tmp_path / "base"
