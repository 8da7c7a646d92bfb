"""The base model on JAX: Tunix's Qwen2 or Qwen3 with the Hub's weights, frozen, and places for an adapter on it.

graph    the model's structure with the adapter's places, built without computing anything (`nnx.eval_shape`)
base     the frozen weights, in the compute dtype: a copy on each device, or split over all of them (FSDP)
adapter  the trained matrices in float32, always a copy on each device (see `tpu_adapter`)

Nothing here knows packs. JAX and Tunix are imported inside functions: the package imports without them.
"""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from fintune_kit.errors import UserError
from fintune_kit.recipes import LoraRecipe

AXIS = "fsdp"
"""Tunix's name of the mesh axis over which packs, and with FSDP weights, are spread."""

_QWEN3_THETA = 1_000_000
"""Tunix 0.1.7 rotates every Qwen3 with this and never reads its own `rope_theta`."""


@dataclass(frozen=True)
class TpuModel:
    """A base that adapters can be put on."""

    graph: Any
    """`nnx.GraphDef` of base and adapter together."""
    base: Any
    """`nnx.State` of the frozen weights."""
    quiet_graph: Any
    """The same without dropout, for evaluation."""
    adapter_shapes: Any
    """`nnx.State` of the adapter's shapes, without values."""
    dtype: str
    """Of the weights and of the computation."""

    def without_dropout(self) -> "TpuModel":
        """The same weights, evaluated."""
        return replace(self, graph=self.quiet_graph)


def make_mesh(devices: Sequence[Any]) -> Any:
    """A mesh of one row of devices, in the axes that Tunix names; the second one has a single device."""
    import jax
    import numpy as np

    return jax.sharding.Mesh(np.array(devices).reshape(-1, 1), (AXIS, "tp"))


def load_model(
    folder: Path,
    *,
    config: Any,
    lora: LoraRecipe,
    mesh: Any,
    dtype: str,
    checkpointing: bool,
    split_weights: bool = False,
) -> TpuModel:
    """Loads a base from safetensors onto a mesh.

    Args:
        folder: with `*.safetensors` in the Hub's names.
        config: the transformers config, `qwen2` or `qwen3`.
        lora: where adapters go; `dropout` is part of the graph.
        dtype: `float32` or `bfloat16`.
        checkpointing: repeat each block's forward pass in the backward pass.
        split_weights: FSDP; else each device holds all weights.

    Raises:
        UserError: no safetensors there, or a rotation that Tunix does not know.
    """
    import jax.numpy as jnp
    from flax import nnx

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no *.safetensors; expected the base model's weights: check FINTUNE_MODEL")
    tunix_config = to_tunix(config, dtype=dtype, checkpointing=checkpointing, split_weights=split_weights)
    weights = _part(config, "params").create_model_from_safe_tensors(
        str(folder),
        tunix_config,
        mesh,
        getattr(jnp, dtype),
        # The fast reader takes a whole file to have the dtype of its first tensor.
        mode="optimized" if all(_has_one_dtype(path) for path in files) else "original",
    )
    graph, adapter_shapes = abstract_model(config, tunix_config=tunix_config, lora=lora)
    quiet = replace(lora, dropout=0.0)
    return TpuModel(
        graph=graph,
        base=nnx.split(weights)[1],
        quiet_graph=abstract_model(config, tunix_config=tunix_config, lora=quiet)[0] if lora.dropout else graph,
        adapter_shapes=adapter_shapes,
        dtype=dtype,
    )


def abstract_model(config: Any, *, tunix_config: Any, lora: LoraRecipe) -> tuple[Any, Any]:
    """The structure of base and adapter, and the adapter's shapes, without a single value."""
    import qwix
    from flax import nnx

    places = qwix.LoraProvider(
        module_path=f".*/({'|'.join(map(re.escape, lora.target_modules))})",
        rank=lora.rank,
        alpha=float(lora.alpha),
        dropout=lora.dropout,
    )

    def build() -> Any:
        model = _architecture(config)(tunix_config, rngs=nnx.Rngs(params=0))
        return qwix.apply_lora_to_model(model, places, rngs=nnx.Rngs(params=0, dropout=0), **model.get_model_input())

    graph, adapter, _ = nnx.split(nnx.eval_shape(build), nnx.LoRAParam, ...)
    return graph, adapter


def hidden_states(
    model: TpuModel, *, base: Any, adapter: Any, input_ids: Any, position_ids: Any, mask: Any, noise: Any = None
) -> tuple[Any, Any]:
    """The last hidden states, and the head's matrix.

    Args:
        base, adapter: their values; arguments, so that a compiled step holds no weights.
        input_ids, position_ids: int32 `[B, L]`.
        mask: bool `[B, L, L]`.
        noise: PRNG key of the adapter's dropout; None where the graph has none.

    Returns:
        (`[B, L, H]` in the compute dtype, `[V, H]`). The logits that Tunix computes beside them are nobody's input, so
        the compiler leaves them out.
    """
    import jax
    from flax import nnx

    # In the compute dtype, as autocast does it: the gradients arrive in float32 through the cast.
    adapter = jax.tree.map(lambda leaf: leaf.astype(model.dtype), adapter)
    base = jax.tree.map(lambda leaf: leaf, base)  # variables of this trace; nnx.remat refuses those of an outer one
    module = nnx.merge(model.graph, adapter, base)
    if noise is not None:
        module.set_attributes(qwix_rngs=nnx.Rngs(dropout=noise))
    module(input_ids, position_ids, None, mask, output_hidden_states=True)
    (hidden,) = nnx.pop(module, nnx.Intermediate)["all_hidden_states"].get_value()
    tied = module.config.use_tied_embedding
    head = module.embedder.input_embedding.get_value() if tied else module.lm_head.w.get_value().T
    return hidden, head.astype(model.dtype)


def weights_folder(base: str | Path) -> Path:
    """The folder with a base's safetensors: its own, or what the Hub gives.

    Raises:
        UserError: the Hub does not give them.
    """
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(base), allow_patterns=["*.safetensors", "*.json"]))
    except (OSError, ValueError) as error:
        raise UserError(
            f"the weights of {str(base)!r} could not be loaded ({str(error).strip().splitlines()[0]}); expected "
            f"safetensors there: check the name, or turn the internet on"
        ) from error


def to_tunix(config: Any, *, dtype: str, checkpointing: bool, split_weights: bool) -> Any:
    """A transformers config in Tunix's words.

    Raises:
        UserError: the positions are scaled in a way that Tunix does not compute.
    """
    import jax.numpy as jnp

    rotation = config.rope_parameters
    if rotation.get("rope_type", "default") != "default":
        raise UserError(
            f"the base rotates positions with {rotation['rope_type']!r}; expected 'default', the only one on a TPU: "
            f"take a base without it, or train on a GPU"
        )
    if config.model_type == "qwen3" and rotation["rope_theta"] != _QWEN3_THETA:
        raise UserError(
            f"the base rotates positions with rope_theta {rotation['rope_theta']:g}; Tunix computes every Qwen3 with "
            f"{_QWEN3_THETA:g}: take another base, or train on a GPU"
        )
    library = _part(config, "model")
    sharding = library.ShardingConfig.get_default_sharding()
    if not split_weights:
        whole = {name: (None,) * len(axes) for name, axes in _axes(sharding).items() if not name.startswith("act_")}
        sharding = library.ShardingConfig(**{**_axes(sharding), **whole})
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
        shd_config=sharding,
        remat_config=library.RematConfig.DECODER if checkpointing else library.RematConfig.NONE,
        dtype=getattr(jnp, dtype),
        param_dtype=getattr(jnp, dtype),
    )


def _architecture(config: Any) -> Any:
    return getattr(_part(config, "model"), {"qwen2": "Qwen2", "qwen3": "Qwen3"}[config.model_type])


def _part(config: Any, part: str) -> Any:
    return importlib.import_module(f"tunix.models.{config.model_type}.{part}")


def _axes(sharding: Any) -> dict[str, tuple[str | None, ...]]:
    return {name: getattr(sharding, name) for name in sharding.__slots__}


def _has_one_dtype(path: Path) -> bool:
    with safe_open(path, framework="np") as tensors:
        return len({tensors.get_slice(name).get_dtype() for name in tensors.keys()}) == 1  # noqa: SIM118
