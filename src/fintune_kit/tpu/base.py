"""Loads a base model's weights for JAX: the Hub's safetensors with Tunix's loader, then the blocks are stacked.

    Tunix   layers.0.mlp.gate_proj.kernel [H, F], layers.1...   ->   layers.0.mlp.gate_proj.kernel [layers, H, F]

With stacked weights, one compiled block is used for all layers (`model.hidden_states`). Each device holds all weights
or, with FSDP, a part of each block's weights. JAX and Tunix are imported inside functions, so that the package can be
imported without them.
"""

import gc
import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from fintune_kit.errors import UserError, first_line

AXIS = "fsdp"
"""Tunix's name of the mesh axis over which packs are spread and, with FSDP, also weights."""


def make_mesh(devices: Sequence[Any]) -> Any:
    """A mesh of devices with Tunix's two axes. The second axis has length 1."""
    import jax
    import numpy as np

    return jax.sharding.Mesh(np.array(devices).reshape(-1, 1), (AXIS, "tp"))


def load_weights(folder: Path, *, config: Any, tunix_config: Any, shapes: Any) -> Any:
    """Loads a base from safetensors onto the devices.

    Args:
        folder: holds `*.safetensors` with the Hub's names.
        config: the transformers config.
        tunix_config: from `to_tunix`.
        shapes: `TpuModel.base` without values: shape, dtype and sharding of each weight.

    Returns:
        `nnx.State` with these shapes.

    Raises:
        UserError: the folder holds no safetensors.
    """
    from flax import nnx

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no *.safetensors; expected the base model's weights: check FINTUNE_MODEL")
    mesh = next(variable.sharding for _, variable in nnx.to_flat_state(shapes)).mesh
    create = _part(config, "params").create_model_from_safe_tensors
    # The fast reader takes a whole file to have the dtype of its first tensor.
    mode = "optimized" if all(_has_one_dtype(path) for path in files) else "original"
    state = nnx.split(create(str(folder), tunix_config, mesh, tunix_config.param_dtype, mode=mode))[1]
    single = {path: variable.get_value() for path, variable in nnx.to_flat_state(state)}
    del state
    gc.collect()  # the model's parts refer to each other, so only this frees the weights before they are stacked
    return _stack_blocks(single, shapes=shapes)


def weights_folder(base: str | Path) -> Path:
    """The folder with a base's safetensors. A base on the Hub is downloaded.

    Raises:
        UserError: the download failed.
    """
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(base), allow_patterns=["*.safetensors", "*.json"]))
    except (OSError, ValueError) as error:
        raise UserError(
            f"the weights of {str(base)!r} could not be loaded ({first_line(error)}); expected "
            f"safetensors there: check the name, or turn the internet on"
        ) from error


def to_tunix(config: Any, *, dtype: str, split_weights: bool) -> Any:
    """A transformers config as Tunix's config.

    Raises:
        UserError: Tunix does not support the scaling of the positions.
    """
    import jax.numpy as jnp

    rotation = config.rope_parameters
    if rotation.get("rope_type", "default") != "default":
        raise UserError(
            f"the base rotates positions with {rotation['rope_type']!r}; expected 'default', the only one on a TPU: "
            f"take a base without it, or train on a GPU"
        )
    library = _part(config, "model")
    return library.ModelConfig(
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        embed_dim=config.hidden_size,
        hidden_dim=config.intermediate_size,
        num_heads=config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        rope_theta=rotation["rope_theta"],
        norm_eps=config.rms_norm_eps,
        use_tied_embedding=bool(config.tie_word_embeddings),
        shd_config=_places(library, split_weights=split_weights),
        dtype=getattr(jnp, dtype),
        param_dtype=getattr(jnp, dtype),
    )


def one_block(config: Any, tunix_config: Any) -> Any:
    """Tunix's model with a single block, which stands for all of them."""
    from flax import nnx

    architecture = getattr(_part(config, "model"), {"qwen2": "Qwen2", "qwen3": "Qwen3"}[config.model_type])
    return architecture(replace(tunix_config, num_layers=1), rngs=nnx.Rngs(params=0))


def _places(library: Any, *, split_weights: bool) -> Any:
    """Which axis of which weight is split over the devices: Tunix's choice for the blocks, or none. Embedding and head
    are whole on each device: they are read at once, where a block's weights are gathered one block at a time.
    """
    axes = library.ShardingConfig.get_default_sharding()
    named = {name: getattr(axes, name) for name in axes.__slots__}
    kept = (lambda name: not name.startswith("emb_")) if split_weights else (lambda name: name.startswith("act_"))
    return library.ShardingConfig(**{n: axis if kept(n) else (None,) * len(axis) for n, axis in named.items()})


def _stack_blocks(single: dict[Any, Any], *, shapes: Any) -> Any:
    """Stacks the weights of all blocks, one array for each weight of a block.

    It removes each weight from `single` before the next one is stacked, so only one of them is in memory twice.
    """
    import jax
    import jax.numpy as jnp
    from flax import nnx

    stacked = []
    for path, variable in nnx.to_flat_state(shapes):
        if path[0] != "layers":
            value = single.pop(path)
        else:
            parts = [single.pop(("layers", layer, *path[2:])) for layer in range(variable.shape[0])]
            value = jax.jit(lambda *parts: jnp.stack(parts), out_shardings=variable.sharding)(*parts)
            value.block_until_ready()
        assert (value.shape, value.dtype) == (variable.shape, variable.dtype), path
        stacked.append((path, variable.replace(value)))
    assert not single, f"weights without a place: {sorted(single)}"
    return nnx.from_flat_state(stacked)


def _part(config: Any, part: str) -> Any:
    return importlib.import_module(f"tunix.models.{config.model_type}.{part}")


def _has_one_dtype(path: Path) -> bool:
    with safe_open(path, framework="np") as tensors:
        return len({tensors.get_slice(name).get_dtype() for name in tensors.keys()}) == 1  # noqa: SIM118
