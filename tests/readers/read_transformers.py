"""Opens artifacts in the transformers and peft of the interpreter, and writes what it read. Imports nothing of ours.

PYTHON read_transformers.py ARTIFACTS OUT.json

For each of the adapter on its base and the merged model: the tokens of some texts, the loss of each, greedy tokens.
"""

import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 12


def main() -> None:
    """Reads both and writes the findings."""
    artifacts, out = Path(sys.argv[1]), Path(sys.argv[2])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    messages = json.loads((artifacts / "messages.json").read_text(encoding="utf-8"))
    base = AutoModelForCausalLM.from_pretrained(artifacts / "base", torch_dtype=torch.float32)
    models = {
        "adapter": (PeftModel.from_pretrained(base, artifacts / "adapter"), artifacts / "adapter"),
        "merged": (
            AutoModelForCausalLM.from_pretrained(artifacts / "merged", torch_dtype=torch.float32),
            artifacts / "merged",
        ),
    }
    found = {name: read(model.eval(), folder, messages) for name, (model, folder) in models.items()}
    found["dtype"] = str(AutoModelForCausalLM.from_pretrained(artifacts / "merged", torch_dtype="auto").dtype)
    found["versions"] = {name: importlib.metadata.version(name) for name in ("transformers", "peft", "torch")}
    out.write_text(json.dumps(found), encoding="utf-8")


@torch.no_grad()
def read(model: torch.nn.Module, folder: Path, conversations: list) -> dict:
    """Tokens, losses and greedy tokens of some conversations."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: dict = {"ids": [], "loss": [], "greedy": [], "special": tokenizer.all_special_tokens}
    for messages in conversations:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        found["ids"].append(ids[0].tolist())
        found["loss"].append(float(model(input_ids=ids, labels=ids).loss))
        given = ids
        for _ in range(NEW_TOKENS):
            given = torch.cat([given, model(input_ids=given).logits[:, -1:].argmax(-1)], dim=1)
        found["greedy"].append(given[0, ids.shape[1] :].tolist())
    return found


if __name__ == "__main__":
    main()
