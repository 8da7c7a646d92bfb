"""How far each export of a real model is from the adapter as it was trained: losses and choices, one line for each.

    python benchmarks/evaluate_export.py --base DIR [--adapter DIR] [--questions 60] [--out results/export-cpu.json]

`--base` is a folder with a real Qwen; `--adapter` any LoRA adapter on it. Without one, an adapter with random matrices
of the size that training leaves is made: it changes every layer, and is worth nothing. The choices are those of general
questions. `q4_k_m` and `q5_k_m` are measured where llama.cpp's quantizer is installed.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer

from fintune_kit.errors import UserError
from fintune_kit.publish.export import export
from fintune_kit.publish.quantizer import find_quantizer
from fintune_kit.recipes import LoraRecipe, p100
from fintune_kit.train.artifacts import save_tokenizer
from fintune_kit.train.model import add_adapter, load_base
from fintune_kit.workspace import Workspace, versions, write_json, write_manifest

CASES = (
    {"form": "safetensors", "dtype": "bfloat16", "merge_base": "nf4"},
    {"form": "safetensors", "dtype": "bfloat16", "merge_base": "16bit"},
    {"form": "safetensors", "dtype": "float16", "merge_base": "nf4"},
    {"form": "q8_0", "merge_base": "nf4"},
    {"form": "q4_k_m", "merge_base": "nf4"},
)


def main() -> None:
    """Exports each case, and writes what each says of itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("results/export-cpu.json"))
    arguments = parser.parse_args()
    recipe = replace(p100(), lora=LoraRecipe(rank=16, alpha=32, dropout=0.0))
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter = arguments.adapter or random_adapter(folder / "adapter", arguments.base, recipe.lora)
        for case in CASES:
            if case["form"] == "q4_k_m" and not has_quantizer():
                continue
            record = export(
                recipe,
                Workspace(folder),
                base=arguments.base,
                adapter=adapter,
                out=folder / "export",
                max_questions=arguments.questions,
                **case,
            )
            title = " ".join(str(value) for value in case.values())
            found[title] = {name: result["changed"] for name, result in record["measured"].items()}
            found[title] |= {"good": record["good"], "questions": record["questions"]}
            print(title, json.dumps(found[title]), flush=True)
    write_json(arguments.out, {"exports": found, "versions": versions()})


def has_quantizer() -> bool:
    """Whether llama.cpp's quantizer is installed."""
    try:
        find_quantizer()
    except UserError:
        return False
    return True


def random_adapter(folder: Path, base: Path, lora: LoraRecipe) -> Path:
    """An adapter with small random B matrices."""
    model = add_adapter(load_base(base, dtype="float32", quantization="none", device="cpu"), lora, seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.005)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    save_tokenizer(AutoTokenizer.from_pretrained(base), folder)
    write_manifest(folder, stage="adapter", inputs={}, counts={}, base=base.name, recipe={})
    return folder


if __name__ == "__main__":
    main()
