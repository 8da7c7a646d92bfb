"""The model on JAX: Tunix's frozen Qwen2 or Qwen3 with an adapter. It has one block, which runs once for each layer.

graph    the structure of the model with the adapter and a single block, built without computing anything
base     the frozen weights in the compute dtype; the blocks' weights are stacked (see `base`)
adapter  the trained matrices in float32, stacked, with a copy on each device (see `adapter`)

A scan runs over the stacked weights, so the compiler sees one block for any number of layers. JAX and Tunix are
imported inside functions, so that the package can be imported without them.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fintune_kit.plan.memory import Recompute
from fintune_kit.recipes import LoraRecipe
from fintune_kit.tpu.attention import ATTENDED, attend_over_packs, block_of, make_kernels, tree_mask
from fintune_kit.tpu.base import AXIS, load_weights, one_block, to_tunix


@dataclass(frozen=True, kw_only=True)
class TpuModel:
    """A base model with the structure of an adapter."""

    graph: Any
    """`nnx.GraphDef` of base and adapter, with one block."""
    quiet_graph: Any
    """The same without dropout, for evaluation."""
    base: Any
    """`nnx.State` of the frozen weights; before they are loaded, of their shapes and shardings."""
    adapter_shapes: Any
    """`nnx.State` of the adapter's shapes, without values."""
    mesh: Any
    dtype: str
    """The dtype of the weights and of the computation."""
    rank: int
    head_dim: int
    recompute: Recompute
    """The blocks that are computed again in the backward pass."""

    def without_dropout(self) -> "TpuModel":
        """The same model for evaluation."""
        return replace(self, graph=self.quiet_graph)

    @property
    def base_places(self) -> Any:
        """`PartitionSpec` of each frozen weight."""
        import jax

        return jax.tree.map(lambda leaf: leaf.sharding.spec, self.base)


def make_model(
    config: Any, *, lora: LoraRecipe, mesh: Any, dtype: str, recompute: Recompute, split_weights: bool = False
) -> TpuModel:
    """The structure of base and adapter, without a single value.

    Args:
        config: the transformers config, `qwen2` or `qwen3`.
        lora: the adapter. Its `dropout` is a part of the graph.
        dtype: `float32` or `bfloat16`.
        split_weights: FSDP; else each device holds all weights.

    Raises:
        UserError: Tunix does not support the base's rotation.
    """
    import jax
    from flax import nnx

    tunix_config = to_tunix(config, dtype=dtype, split_weights=split_weights)
    graph, adapter, base = _structure(config, tunix_config, lora=lora)
    quiet = _structure(config, tunix_config, lora=replace(lora, dropout=0.0))[0] if lora.dropout else graph
    places = nnx.get_named_sharding(base, mesh)
    layers = config.num_hidden_layers

    def _stacked(path: Any, leaf: Any, place: Any = None) -> Any:
        if path[0].key == "layers":
            axes = None if place is None else jax.sharding.PartitionSpec(None, *place.spec)
            place = None if place is None else jax.sharding.NamedSharding(mesh, axes)
            return jax.ShapeDtypeStruct((layers, *leaf.shape), leaf.dtype, sharding=place)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    return TpuModel(
        graph=graph,
        quiet_graph=quiet,
        base=jax.tree.map_with_path(_stacked, base, places),
        adapter_shapes=jax.tree.map_with_path(_stacked, adapter),
        mesh=mesh,
        dtype=dtype,
        rank=lora.rank,
        head_dim=tunix_config.head_dim,
        recompute=recompute,
    )


def load_model(folder: Path, *, config: Any, split_weights: bool = False, **how: Any) -> TpuModel:
    """`make_model` with the weights from a folder.

    Raises:
        UserError: the folder holds no safetensors, or Tunix does not support the base's rotation.
    """
    empty = make_model(config, split_weights=split_weights, **how)
    tunix_config = to_tunix(config, dtype=empty.dtype, split_weights=split_weights)
    return replace(empty, base=load_weights(folder, config=config, tunix_config=tunix_config, shapes=empty.base))


def hidden_states(model: TpuModel, *, base: Any, adapter: Any, packs: Any, noise: Any = None) -> tuple[Any, Any]:
    """The last hidden states, and the head's matrix. It runs on one device of the mesh, inside `jax.shard_map`.

    Args:
        base, adapter: this device's part of them. They are arguments, so that a compiled step contains no weights.
        packs: the columns of this device's packs, int32 `[B, L]`.
        noise: the PRNG key of the adapter's dropout; None without dropout.

    Returns:
        (`[B, L, H]` in the compute dtype, `[V, H]`). Tunix also computes logits. Nothing reads them, so the compiler
        leaves them out.
    """
    from flax import nnx

    module = nnx.merge(model.graph, adapter, base)
    repeated = _repeated(module.layers[0], model=model, places=model.base_places["layers"][0], noise=noise)
    module.layers = (repeated,)  # Tunix calls each layer as a function
    platform = model.mesh.devices.flat[0].platform
    block = block_of(length=packs["input_ids"].shape[1], head_dim=model.head_dim, platform=platform)
    ends = packs["subtree_end"]
    seen = tree_mask(ends) if block is None else make_kernels(ends, block=block)
    module(packs["input_ids"], packs["position_ids"], None, seen, output_hidden_states=True)
    (hidden,) = nnx.pop(module, nnx.Intermediate)["all_hidden_states"].get_value()
    tied = module.config.use_tied_embedding
    head = module.embedder.input_embedding.get_value() if tied else module.lm_head.w.get_value().T
    return hidden, head.astype(model.dtype)


def _structure(config: Any, tunix_config: Any, *, lora: LoraRecipe) -> tuple[Any, Any, Any]:
    """(graph, adapter, base) of the model with one block, as shapes without values."""
    import qwix
    from flax import nnx

    places = qwix.LoraProvider(
        module_path=f".*/({'|'.join(map(re.escape, lora.target_modules))})",
        rank=lora.rank,
        alpha=float(lora.alpha),
        dropout=lora.dropout,
    )

    def _build() -> Any:
        model = one_block(config, tunix_config)
        attend_over_packs(model)
        return qwix.apply_lora_to_model(model, places, rngs=nnx.Rngs(params=0, dropout=0), **model.get_model_input())

    return nnx.split(nnx.eval_shape(_build), nnx.LoRAParam, ...)


def _repeated(block: Any, *, model: TpuModel, places: Any, noise: Any) -> Callable[..., tuple[None, Any]]:
    """A function that runs a block once for each of its stacked weights. Tunix calls it like a block."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    graph, adapters, weights = nnx.split(block, nnx.LoRAParam, ...)

    def _run(hidden: Any, *given: Any, **named: Any) -> tuple[None, Any]:
        def _run_one(hidden: Any, of_block: tuple[Any, Any, Any]) -> tuple[Any, None]:
            number, matrices, frozen = of_block
            # In the compute dtype, as with autocast. The cast gives the gradients in float32.
            cast = jax.tree.map(lambda matrix: matrix.astype(model.dtype), matrices)
            current = nnx.merge(graph, cast, jax.tree.map(_brought_together, frozen, places))
            if noise is not None:
                current.set_attributes(qwix_rngs=nnx.Rngs(dropout=jax.random.fold_in(noise, number)))
            return current(hidden, *given, **named)[1], None

        repeat = jax.checkpoint(_run_one, prevent_cse=False, policy=_kept(model))
        layers = jax.tree.leaves(adapters)[0].shape[0]
        return None, jax.lax.scan(repeat, hidden, (jnp.arange(layers), adapters, weights))[0]

    return _run


def _brought_together(weight: Any, place: Any) -> Any:
    """The whole weight of a block. If each device holds a part, the parts are gathered, also in the backward pass.

    Args:
        place: the `PartitionSpec` of the stacked weights, which have one more axis in front.
    """
    import jax

    if AXIS not in place:
        return weight
    return jax.lax.all_gather(weight, AXIS, axis=place.index(AXIS) - 1, tiled=True)


def _kept(model: TpuModel) -> Callable[..., Any]:
    """The policy for the backward pass: keep a block's products with weights, or nothing.

    To keep everything would take 29.8 GiB for the 3B, and would save no product.
    """
    import jax

    policies = jax.checkpoint_policies
    if model.recompute.blocks:
        return policies.nothing_saveable

    def products(primitive: Any, *shapes: Any, **how: Any) -> bool:
        """Whether it is a product with frozen weights. Attention has batch axes, and the adapter is narrow."""
        if primitive is not jax.lax.dot_general_p:
            return False
        (contracted, _), (batched, _) = how["dimension_numbers"]
        inner = math.prod(shapes[0].shape[axis] for axis in contracted)
        return not batched and model.rank not in (inner, math.prod(shapes[1].shape) // inner)

    return policies.save_from_both_policies(products, policies.save_only_these_names(ATTENDED))
