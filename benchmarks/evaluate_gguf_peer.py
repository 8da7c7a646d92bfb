"""Greedy tokens of a GGUF file in llama.cpp; runs in an environment with `llama-cpp-python`.

LLAMA_PYTHON evaluate_gguf_peer.py FILE.gguf PROMPTS.json OUT.json NEW_TOKENS
"""

import importlib.metadata
import itertools
import json
import sys
from pathlib import Path

from llama_cpp import Llama


def main() -> None:
    """Tokenizes and continues each prompt."""
    file, prompts, out, new_tokens = sys.argv[1:]
    model = Llama(file, n_ctx=512, n_threads=1, verbose=False, logits_all=True)
    found: dict = {
        "tokens": [],
        "same_tokenization": [],
        "logits": [],
        "version": importlib.metadata.version("llama-cpp-python"),
    }
    for prompt in json.loads(Path(prompts).read_text(encoding="utf-8")):
        own = model.tokenize(prompt["text"].encode(), add_bos=False, special=True)
        found["same_tokenization"].append(list(own) == prompt["ids"])
        model.reset()
        model.eval(prompt["ids"])
        found["logits"].append(model.scores[: len(prompt["ids"])].tolist())
        model.reset()
        tokens = model.generate(prompt["ids"], temp=0.0, repeat_penalty=1.0)
        found["tokens"].append([int(token) for token in itertools.islice(tokens, int(new_tokens))])
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
