"""Opens a GGUF file in llama.cpp (the package cyllama) and writes what it read. Imports nothing of ours.

PYTHON read_llama.py FILE.gguf TEXTS.json OUT.json          texts: prompts as transformers wrote them
PYTHON read_llama.py --quantize FILE.gguf TARGET.gguf TYPE  with llama.cpp's quantizer, TYPE as a number
"""

import importlib.metadata
import json
import math
import sys
from pathlib import Path

from cyllama.llama import llama_cpp

NEW_TOKENS = 12


class Model(llama_cpp.LlamaModel):
    """cyllama 0.2.18 asks its own model for this number and lacks it."""

    @property
    def n_vocab(self) -> int:
        return self.get_vocab().n_vocab


def main() -> None:
    """Reads or quantizes."""
    llama_cpp.disable_logging()
    llama_cpp.ggml_backend_load_all()
    if sys.argv[1] == "--quantize":
        settings = llama_cpp.LlamaModelQuantizeParams()
        settings.ftype = int(sys.argv[4])
        llama_cpp.model_quantize(sys.argv[2], sys.argv[3], settings)
        return
    file, texts, out = sys.argv[1:]
    model = Model(file)
    found: dict = {"ids": [], "loss": [], "greedy": [], "version": importlib.metadata.version("cyllama")}
    for text in json.loads(Path(texts).read_text(encoding="utf-8")):
        ids = list(model.get_vocab().tokenize(text, False, True))
        predicted = [next_logits(model, ids[:end]) for end in range(1, len(ids))]
        losses = [log_normalizer(row) - row[token] for row, token in zip(predicted, ids[1:], strict=True)]
        found["ids"].append(ids)
        found["loss"].append(sum(losses) / len(losses))
        given = list(ids)
        for _ in range(NEW_TOKENS):
            last = next_logits(model, given)
            given.append(max(range(len(last)), key=last.__getitem__))
        found["greedy"].append(given[len(ids) :])
    Path(out).write_text(json.dumps(found), encoding="utf-8")


def next_logits(model: object, ids: list[int]) -> list[float]:
    """The logits after some tokens, in a fresh context."""
    settings = llama_cpp.LlamaContextParams()
    settings.n_ctx = 256
    context = llama_cpp.LlamaContext(model, settings)
    batch = llama_cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
    batch.add_sequence(ids, 0, False)  # logits of the last position only
    context.decode(batch)
    return context.get_logits()


def log_normalizer(row: list[float]) -> float:
    """log of the summed exponentials."""
    top = max(row)
    return top + math.log(sum(math.exp(value - top) for value in row))


if __name__ == "__main__":
    main()
