"""Shared by the TPU benchmarks: the compiler for a v5e-8 without one, and a recipe's step in shapes."""

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the machine at hand; the topology below is only described
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu would ask Google's metadata server what it runs on
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")  # and whom it works with


def described_mesh() -> Any:
    """The eight devices of a v5e-8 as libtpu describes them: programs are compiled for them, and cannot run."""
    from jax.experimental import topologies

    from fintune_kit.tpu.base import make_mesh

    return make_mesh(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices)


def lower_step(model: Any, *, recipe: Any, micro_batch: int, accumulation: int) -> Any:
    """The recipe's optimizer step, traced for a model without values: ready for the compiler."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from fintune_kit.pack.tree import COLUMNS
    from fintune_kit.plan.cards import HEAD_CHUNK
    from fintune_kit.tpu.step import adam, everywhere, make_step, spread

    def placed(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere(model.mesh))

    float32 = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), model.adapter_shapes)
    adapter = jax.tree.map(placed, float32)
    moments = jax.tree.map(placed, jax.eval_shape(adam().init, float32))
    size = (accumulation, micro_batch * model.mesh.size, recipe.pack.max_length)
    packs = dict.fromkeys(COLUMNS, jax.ShapeDtypeStruct(size, jnp.int32, sharding=spread(model.mesh)))
    step = make_step(model, recipe=recipe.train, head_chunk=HEAD_CHUNK, seed=recipe.seed, dropout=recipe.lora.dropout)
    compiled = jax.jit(step, donate_argnums=(0, 1), out_shardings=everywhere(model.mesh))
    return compiled.lower(adapter, moments, model.base, packs, np.float32(0), np.int32(0))


def config_of(folder: Path) -> Any:
    """The transformers config in a folder."""
    from fintune_kit.train.model import load_config

    return load_config(folder)
