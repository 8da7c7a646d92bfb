"""One model from base and adapter: dequantized weights plus the adapter's update, as safetensors that need no PEFT.

    W = dequantize(NF4 blocks) + alpha / rank * B @ A

The adapter was trained on the quantized base, so it is merged into exactly that base: into the original weights it
would correct an error that is not there. How far the merged model's logits are from the quantized one with its adapter
is measured and stated.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.errors import UserError
from fintune_kit.hardware import find_machine
from fintune_kit.publish.gguf_file import Weight, write_gguf
from fintune_kit.recipes import Recipe
from fintune_kit.train.artifacts import check_adapter
from fintune_kit.train.model import load_adapter, load_base, load_config
from fintune_kit.train.outcome import save_tokenizer
from fintune_kit.workspace import MANIFEST, read_manifest, replacing_folder, sha256_of, versions, write_json

Form = Literal["safetensors", "f16", "q8_0"]
FORMS: tuple[Form, ...] = ("safetensors", "f16", "q8_0")
SHARD_BYTES = 4 * 2**30
_PROBE: list[Message] = [
    Message(role="user", content="Profit rose 12 % to EUR 3.4 million. Positive, neutral or negative?"),
    Message(role="assistant", content="positive"),
]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How the merged model's logits compare with those of the quantized base and its adapter, on one conversation."""

    largest_difference: float
    """In any logit of any position."""
    largest_logit: float
    """For scale."""
    same_next_token: float
    """Share of positions whose likeliest next token is the same."""


def export(
    recipe: Recipe, *, base: str | Path, adapter: Path, out: Path, form: Form = "safetensors", dtype: str = "float16"
) -> dict[str, Any]:
    """Writes the merged model: a folder that `transformers` loads, or a GGUF file in one for llama.cpp and Ollama.

    Args:
        base: hub id or folder of the base model.
        adapter: stage 3's folder.
        out: folder to write.
        form: `safetensors`, or GGUF as `f16` or `q8_0`.
        dtype: of safetensors weights, `float16`, `bfloat16` or `float32`.

    Returns:
        What `export.json` in the folder holds: files with their SHA-256, parity, versions.

    Raises:
        UserError: the adapter is damaged or for another base, or the form is unknown.
    """
    if form not in FORMS:
        raise UserError(f"there is no form {form!r}; expected one of {', '.join(FORMS)}: check --form")
    config = load_config(base)
    check_adapter(adapter, base_config=config)
    machine = find_machine()
    device = "cuda:0" if machine.cards else "cpu"
    model = load_adapter(
        load_base(base, dtype=machine.dtype, quantization=recipe.train.quantization, device=device), adapter
    )
    encoder = ChatEncoder.load(adapter)
    reference = _probe_logits(model.get_base_model(), encoder, device)
    weights = merged_weights(model)
    with replacing_folder(out) as folder:
        if form == "safetensors":
            config.dtype = dtype
            config.save_pretrained(str(folder))
            save_tokenizer(encoder.tokenizer, folder)
            write_shards(weights, folder, dtype=getattr(torch, dtype))
            parity = _parity(reference, folder, encoder)
        else:
            path = folder / f"{_name(recipe, base)}-{form}.gguf"
            write_gguf(path, weights, config=config, tokenizer=encoder.tokenizer, form=form, name=_name(recipe, base))
            parity = None
        record = {
            "form": form,
            "base": read_manifest(adapter, stage="adapter")["base"],
            "adapter": sha256_of(adapter / MANIFEST),
            "parity": vars(parity) if parity else None,
            "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            "versions": versions(),
        }
        write_json(folder / MANIFEST, {"stage": "export", **record})
    return record


def merged_weights(model: Any) -> dict[str, Weight]:
    """Every weight of the merged model by its name in transformers; each is computed when it is read.

    Args:
        model: a PEFT model, its base quantized or not.
    """
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    weights: dict[str, Weight] = {}
    merged: list[str] = []
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            inner = module.get_base_layer()
            weights[f"{name}.weight"] = Weight((inner.out_features, inner.in_features), partial(_merge, module))
            if inner.bias is not None:
                weights[f"{name}.bias"] = _as_it_is(inner.bias)
            merged.append(f"{name}.")
        elif not name.startswith(tuple(merged)) and not (name == "lm_head" and base.config.tie_word_embeddings):
            own = module.named_parameters(prefix=name, recurse=False)
            weights |= {key: _as_it_is(parameter) for key, parameter in own}
    return weights


def _merge(layer: Any) -> Tensor:
    from peft.utils.integrations import dequantize_module_weight

    (active,) = layer.active_adapters
    update = layer.get_delta_weight(active).detach().float()
    return (dequantize_module_weight(layer.get_base_layer()).detach().float() + update).cpu()


def _as_it_is(parameter: Tensor) -> Weight:
    return Weight(tuple(parameter.shape), lambda: parameter.detach().float().cpu())


def write_shards(weights: dict[str, Weight], folder: Path, *, dtype: torch.dtype) -> None:
    """Safetensors of at most four GiB each, with the index that transformers reads where there are several."""
    shards: list[list[str]] = [[]]
    size = total = 0
    for name, weight in weights.items():
        needed = math.prod(weight.shape) * dtype.itemsize
        if shards[-1] and size + needed > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size, total = size + needed, total + needed
    places: dict[str, str] = {}
    for number, shard in enumerate(tqdm(shards, desc="merging", unit=" files", leave=False), start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        tensors = {name: weights[name].read().to(dtype).contiguous() for name in shard}
        save_file(tensors, str(folder / file), metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


@torch.inference_mode()
def _probe_logits(causal_lm: Any, encoder: ChatEncoder, device: str) -> Tensor:
    causal_lm.eval()
    (example,) = encoder.encode([_PROBE])
    ids = torch.from_numpy(example.tokens.astype("int64"))[None].to(device)
    half = causal_lm.dtype is not torch.float32
    with torch.autocast(device.split(":")[0], dtype=causal_lm.dtype if half else torch.bfloat16, enabled=half):
        return causal_lm(input_ids=ids, use_cache=False).logits[0].float().cpu()


def _parity(reference: Tensor, folder: Path, encoder: ChatEncoder) -> Parity:
    """Loads what was written, as a user would, and compares."""
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, trust_remote_code=False)
    logits = _probe_logits(merged, encoder, "cpu")
    return Parity(
        largest_difference=float((logits - reference).abs().max()),
        largest_logit=float(reference.abs().max()),
        same_next_token=float((logits.argmax(-1) == reference.argmax(-1)).float().mean()),
    )


def _name(recipe: Recipe, base: str | Path) -> str:
    model = recipe.name if recipe.base == "tiny" else str(base).rstrip("/").split("/")[-1]
    return f"{model}-finance".lower()
