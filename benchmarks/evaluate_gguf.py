"""Our GGUF files in llama.cpp: the same tokenization and the same greedy tokens as the merged model in transformers.

    python benchmarks/evaluate_gguf.py --llama LLAMA_PYTHON [--out results/evaluate-gguf.json]

`--llama` is the interpreter of an environment with `llama-cpp-python`. The model is the smoke recipe's tiny base with a
random adapter that changes every matrix.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fintune_kit.publish.export import export
from fintune_kit.recipes import smoke
from fintune_kit.tiny import tiny_base
from fintune_kit.train.artifacts import save_tokenizer
from fintune_kit.train.model import add_adapter, load_base
from fintune_kit.workspace import Workspace, versions, write_json, write_manifest

TEXTS = (
    "What is a call option?",
    "Categorize: WELLSPRING PHARMACY #310 RX COPAY $15.00",
    "Profit rose 12 % - naïve?\n\nA second line, indented:\n    EBITDA 1,234.5",
    "Hello  world 1234 \t it's we'll",
    "Ünï cödé: 中文, 日本語, emoji 📈.",
    "- a list\n- of two\n",
)
NEW_TOKENS = 24


def main() -> None:
    """Exports, runs both, writes what agreed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/evaluate-gguf.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, adapter = make_adapter(folder)
        merged = export(smoke(), base=base, adapter=adapter, out=folder / "safetensors", dtype="float32")
        prompts, expected = run_transformers(folder / "safetensors")
        (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
        record = {"new_tokens": NEW_TOKENS, "prompts": len(TEXTS), "merged_parity": merged["parity"]}
        for form in ("f16", "q8_0"):
            export(smoke(), base=base, adapter=adapter, out=folder / form, form=form)
            (file,) = (folder / form).glob("*.gguf")
            peer = Path(__file__).with_name("evaluate_gguf_peer.py")
            out = folder / f"{form}.json"
            subprocess.run([arguments.llama, peer, file, folder / "prompts.json", out, str(NEW_TOKENS)], check=True)
            record[form] = compare(json.loads(out.read_text(encoding="utf-8")), prompts, expected)
    write_json(arguments.out, record | {"versions": versions()})
    print(json.dumps(record, indent=2))


def make_adapter(folder: Path) -> tuple[Path, Path]:
    """The tiny base, and an adapter folder as training would have left it."""
    base, adapter = tiny_base(Workspace(folder), seed=3), folder / "adapter"
    model = add_adapter(load_base(base, dtype="float32", quantization="nf4", device="cpu"), smoke().lora, seed=4)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(adapter))
    save_tokenizer(AutoTokenizer.from_pretrained(base), adapter)
    write_manifest(adapter, stage="adapter", inputs={}, counts={}, base="base", recipe=smoke().as_dict())
    return base, adapter


def run_transformers(folder: Path) -> tuple[list[dict], list[list[int]]]:
    """Prompts with their token ids, and the greedy tokens after each."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    prompts, expected = [], []
    for text in TEXTS:
        message = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt)["input_ids"]
        out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
        expected.append(out[0, len(ids) :].tolist())
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0]
        prompts.append({"text": prompt, "ids": ids, "logits": logits.tolist()})
    return prompts, expected


def compare(found: dict, prompts: list[dict], expected: list[list[int]]) -> dict:
    """What agreed: tokenization, greedy tokens before the first that differs, logits of the prompts' positions.

    A random model's logits are nearly flat, so q8_0's rounding (of weights, and in llama.cpp of activations) soon turns
    a greedy choice; the logits tell rounding from a fault.
    """
    ours = np.concatenate([np.array(prompt["logits"]) for prompt in prompts])
    theirs = np.concatenate([np.array(logits) for logits in found["logits"]])
    agreed = []
    for tokens, wanted in zip(found["tokens"], expected, strict=True):
        differing = [number for number, (a, b) in enumerate(zip(tokens, wanted, strict=True)) if a != b]
        agreed.append(differing[0] if differing else len(wanted))
    return {
        "same_tokenization": sum(found["same_tokenization"]),
        "logit_correlation": round(float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]), 6),
        "same_next_token": round(float((ours.argmax(1) == theirs.argmax(1)).mean()), 4),
        "greedy_tokens_before_the_first_difference": agreed,
        "distinct_tokens": len({token for wanted in expected for token in wanted}),
        "llama_cpp_python": found["version"],
    }


if __name__ == "__main__":
    main()
