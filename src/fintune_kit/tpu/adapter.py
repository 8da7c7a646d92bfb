"""The adapter on JAX, with PEFT's names and PEFT's initial values.

    PEFT   base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight   [rank, inputs]
           base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight   [outputs, rank]
    JAX    layers.0.attn.o_proj.w_lora_a                                    [layers, heads, head size, rank]
           layers.0.attn.o_proj.w_lora_b                                    [layers, rank, outputs]

The numbers are the same, but the matrices are transposed and reshaped. On JAX one array holds all layers.
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
from fintune_kit.train.artifacts import matrix_name
from fintune_kit.train.model import peft_config

Matrices = dict[str, NDArray[np.float32]]
"""The matrices of an adapter by PEFT's names, float32."""

WEIGHTS = "adapter_model.safetensors"


def first_values(shape: ModelShape, *, lora: LoraRecipe, seed: int) -> Matrices:
    """The initial values of PEFT's `get_peft_model` for this seed, without a model.

    A is drawn from Kaiming's uniform distribution, B is 0. PEFT draws each matrix twice and keeps the second one, and
    so do we.
    """
    import torch
    from torch import nn

    matrices: Matrices = {}
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
                matrices[matrix_name(layer, name, "A")] = a.weight.detach().numpy()
                matrices[matrix_name(layer, name, "B")] = b.weight.detach().numpy()
    return matrices


def to_jax(matrices: Mapping[str, NDArray[np.float32]], shapes: Any, *, sharding: Any) -> Any:
    """Converts PEFT's matrices into JAX's arrays.

    Args:
        matrices: by PEFT's names, one for each layer and projection.
        shapes: `TpuModel.adapter_shapes`.
        sharding: the devices of each value.

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
    assert used == len(matrices), "the adapter has matrices that the model lacks"
    return nnx.from_flat_state(leaves)


def from_jax(state: Any) -> Matrices:
    """Converts an adapter, or moments of the same shape, into matrices by PEFT's names."""
    import jax
    from flax import nnx

    matrices = {}
    for path, variable in nnx.to_flat_state(state):
        a = str(path[-1]).endswith("_a")
        for layer, value in enumerate(np.asarray(jax.device_get(variable.get_value()), dtype=np.float32)):
            matrix = value.reshape(-1, value.shape[-1]) if a else value.reshape(value.shape[0], -1)
            matrices[_name_of(path, layer)] = np.ascontiguousarray(matrix.T)
    return matrices


def write_peft(matrices: Matrices, folder: Path, base: str, *, lora: LoraRecipe) -> int:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, and returns the number of parameters.

    Args:
        base: the name of the base in the config.
    """
    config = peft_config(lora)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(str(folder))
    save_matrices(matrices, folder / WEIGHTS)
    return sum(matrix.size for matrix in matrices.values())


def save_matrices(matrices: Matrices, path: Path) -> None:
    """Writes matrices as safetensors, like PEFT."""
    save_file(matrices, path, metadata={"format": "pt"})


def load_matrices(path: Path) -> Matrices:
    """Reads matrices that `save_matrices` wrote."""
    found: Matrices = load_file(path)
    return found


def _name_of(path: tuple[Any, ...], layer: int) -> str:
    projection, value = path[-2:]
    return matrix_name(layer, projection, "A" if str(value).endswith("_lora_a") else "B")
