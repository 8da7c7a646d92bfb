"""Merges an adapter into its base, one tensor at a time, and writes safetensors files.

W = base weight (dequantized NF4 blocks, or the original 16-bit matrix) + alpha / rank * B @ A
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from fintune_kit.publish.gguf_file import Weight
from fintune_kit.workspace import read_json, write_json

SHARD_BYTES = 4 * 2**30


def merged_weights(model: Any) -> dict[str, Weight]:
    """All weights of the merged model by their names in transformers. Each is computed when it is read.

    Args:
        model: a PEFT model. Its base may be quantized.
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
                weights[f"{name}.bias"] = _unchanged(inner.bias)
            merged.append(f"{name}.")
        elif not name.startswith(tuple(merged)) and not (name == "lm_head" and base.config.tie_word_embeddings):
            own = module.named_parameters(prefix=name, recurse=False)
            weights |= {key: _unchanged(parameter) for key, parameter in own}
    return weights


def write_shards(weights: dict[str, Weight], folder: Path, *, dtype: torch.dtype) -> None:
    """Writes safetensors files of at most four GiB each and, for several files, the index that transformers reads."""
    shards: list[list[str]] = [[]]
    size = total = 0
    for name, weight in weights.items():
        needed = math.prod(weight.shape) * dtype.itemsize
        if shards[-1] and size + needed > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size, total = size + needed, total + needed
    file_of: dict[str, str] = {}
    for index, shard in enumerate(tqdm(shards, desc="merging", unit=" files", leave=False), start=1):
        file = f"model-{index:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        tensors = {name: weights[name].read().to(dtype).contiguous() for name in shard}
        save_file(tensors, str(folder / file), metadata={"format": "pt"})
        file_of |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": file_of})


def write_config(config: Any, folder: Path, *, dtype: str) -> None:
    """Writes `config.json` with the old and the new names of values that transformers 5 renamed.

    transformers 4, vLLM and others read `rope_theta` and `torch_dtype`. If a config has only `rope_parameters`, they
    silently use a rope_theta of 10,000 instead of 1,000,000.
    """
    config.save_pretrained(str(folder))
    values = read_json(folder / "config.json")
    rope = values.get("rope_parameters") or {}
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        values["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    values |= {"dtype": dtype, "torch_dtype": dtype}
    values.pop("quantization_config", None)
    write_json(folder / "config.json", values)


def _merge(layer: Any) -> Tensor:
    from peft.utils.integrations import dequantize_module_weight

    (active,) = layer.active_adapters
    update = layer.get_delta_weight(active).detach().float()
    return (dequantize_module_weight(layer.get_base_layer()).detach().float() + update).cpu()


def _unchanged(parameter: Tensor) -> Weight:
    return Weight(tuple(parameter.shape), lambda: parameter.detach().float().cpu())
