"""Artifacts as a user would have them, small in everything but the tokenizer, which is the real one."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from fintune_kit.publish.export import export
from fintune_kit.recipes import LoraRecipe, Recipe, smoke
from fintune_kit.train.artifacts import save_tokenizer
from fintune_kit.train.model import add_adapter, load_base
from fintune_kit.workspace import Workspace, write_manifest

CONVERSATIONS = [
    [{"role": "user", "content": "What is a call option?"}],
    [
        {"role": "system", "content": "Only reply with positive, neutral or negative."},
        {"role": "user", "content": "Profit rose 12 % - naïve?\n\nA second line:\n    EBITDA 1,234.5"},
    ],
    [{"role": "user", "content": "Ünï cödé: 中文, 日本語, emoji 📈. it's we'll  1234 \t\n- a list\n- of two\n"}],
]
RECIPE = replace(smoke(), lora=LoraRecipe(rank=16, alpha=32, dropout=0.0))
RECIPE = replace(RECIPE, train=replace(RECIPE.train, quantization="none"))


def make_artifacts(folder: Path, *, tokenizer: Path, forms: tuple[str, ...]) -> None:
    """Writes `base/`, `adapter/`, `merged/`, a folder for each GGUF type, and `messages.json`.

    rope_theta is a million, as in Qwen, so that a reader that takes 10,000 gives another loss.
    """
    real = AutoTokenizer.from_pretrained(tokenizer)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        eos_token_id=real.eos_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder / "base")
    values = json.loads((folder / "base" / "config.json").read_text())  # as published: readable by all
    values["rope_theta"] = values.pop("rope_parameters")["rope_theta"]
    (folder / "base" / "config.json").write_text(json.dumps(values))
    save_tokenizer(real, folder / "base")
    make_adapter(folder, RECIPE, real)
    workspace = Workspace(folder)
    export(RECIPE, workspace, base=folder / "base", out=folder / "merged", dtype="float32", max_questions=0)
    for form in forms:
        export(RECIPE, workspace, base=folder / "base", out=folder / form, form=form, max_questions=0)  # type: ignore[arg-type]
    (folder / "messages.json").write_text(json.dumps(CONVERSATIONS), encoding="utf-8")


def make_adapter(folder: Path, recipe: Recipe, tokenizer: object) -> None:
    """An adapter whose every matrix counts, as training leaves it."""
    model = add_adapter(
        load_base(folder / "base", dtype="float32", quantization="none", device="cpu"), recipe.lora, seed=1
    )
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)
    adapter = folder / "adapter"
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(str(adapter), save_embedding_layers=False)
    (adapter / "README.md").unlink()
    save_tokenizer(tokenizer, adapter)
    write_manifest(adapter, stage="adapter", inputs={}, counts={}, base="base", recipe=recipe.as_dict())
