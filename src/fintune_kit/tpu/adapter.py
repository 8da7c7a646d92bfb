"""The adapter on JAX, under PEFT's names and with PEFT's first values.

    PEFT   base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight   [rank, inputs]
           base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight   [outputs, rank]
    JAX    layers.0.attn.o_proj.w_lora_a                                    [layers, heads, head size, rank]
           layers.0.attn.o_proj.w_lora_b                                    [layers, rank, outputs]

The same numbers in the same order, a transpose and a reshape apart; on JAX all layers lie in one array.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe
from fintune_kit.train.model import peft_config

Matrices = dict[str, NDArray[np.float32]]
"""An adapter by PEFT's names."""

WEIGHTS = "adapter_model.safetensors"


def first_values(shape: ModelShape, *, lora: LoraRecipe, seed: int) -> Matrices:
    """What PEFT's `get_peft_model` draws under this seed, without a model: A from Kaiming's uniform distribution, B
    zero. PEFT draws each matrix once more than it keeps, and so do we.
    """
    import torch
    from torch import nn

    made: Matrices = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in range(shape.layers):
            for name, (inputs, outputs) in shape.projections.items():
                if name not in lora.target_modules:
                    continue
                a = nn.Linear(inputs, lora.rank, bias=False)
                b = nn.Linear(lora.rank, outputs, bias=False)
                nn.init.kaiming_uniform_(a.weight, a=math.sqrt(5))
                nn.init.zeros_(b.weight)
                made[_peft_name(layer, name, "A")] = a.weight.detach().numpy()
                made[_peft_name(layer, name, "B")] = b.weight.detach().numpy()
    return made


def to_jax(matrices: Mapping[str, NDArray[np.float32]], shapes: Any, *, sharding: Any) -> Any:
    """Puts PEFT's matrices into the adapter's places.

    Args:
        shapes: `TpuModel.adapter_shapes`.
        sharding: where each value lies.

    Returns:
        `nnx.State` of float32.
    """
    import jax
    from flax import nnx

    leaves, used = [], 0
    for path, variable in nnx.to_flat_state(shapes):
        layers = [matrices[_name_of(path, layer)].T for layer in range(variable.shape[0])]
        value = np.ascontiguousarray(np.stack(layers)).reshape(variable.shape)
        leaves.append((path, variable.replace(jax.device_put(value, sharding))))
        used += len(layers)
    assert used == len(matrices), "the adapter and the model have other places"
    return nnx.from_flat_state(leaves)


def from_jax(state: Any) -> Matrices:
    """An adapter, or anything of its shape such as the optimizer's moments, under PEFT's names."""
    import jax
    from flax import nnx

    made = {}
    for path, variable in nnx.to_flat_state(state):
        a = str(path[-1]).endswith("_a")
        for layer, value in enumerate(np.asarray(jax.device_get(variable.get_value()), dtype=np.float32)):
            matrix = value.reshape(-1, value.shape[-1]) if a else value.reshape(value.shape[0], -1)
            made[_name_of(path, layer)] = np.ascontiguousarray(matrix.T)
    return made


def write_peft(matrices: Matrices, folder: Path, base: str, *, lora: LoraRecipe) -> int:
    """Leaves `adapter_model.safetensors` and `adapter_config.json`, and returns the number of parameters."""
    config = peft_config(lora)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(str(folder))
    save_matrices(matrices, folder / WEIGHTS)
    return sum(matrix.size for matrix in matrices.values())


def save_matrices(matrices: Matrices, path: Path) -> None:
    """Writes safetensors as PEFT does."""
    save_file(matrices, path, metadata={"format": "pt"})


def load_matrices(path: Path) -> Matrices:
    """What `save_matrices` wrote."""
    found: Matrices = load_file(path)
    return found


def _name_of(path: tuple[Any, ...], layer: int) -> str:
    projection, value = path[-2:]
    return _peft_name(layer, projection, "A" if str(value).endswith("_lora_a") else "B")


def _peft_name(layer: int, projection: str, letter: str) -> str:
    block = "mlp" if projection in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return f"base_model.model.model.layers.{layer}.{block}.{projection}.lora_{letter}.weight"
