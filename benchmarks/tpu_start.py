"""From the start of a TPU session's training process to its first step, in seconds, up to the device.

    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
        .venv-tpu/bin/python benchmarks/tpu_start.py --config FOLDER_WITH_CONFIG_JSON [--packed DIR]

Without the weights and without the devices: what reading them and compiling takes, only a TPU can tell.
"""

import argparse
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()


def main() -> None:
    """Prints a line a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--packed", type=Path)
    arguments = parser.parse_args()

    import jax

    from fintune_kit.pack.store import open_packed
    from fintune_kit.recipes import tpu_v5e8
    from fintune_kit.train import tpu  # noqa: F401 - all that training imports
    from fintune_kit.train.cost import ModelShape
    from fintune_kit.train.model import load_config
    from fintune_kit.train.tpu.adapter import first_values
    from fintune_kit.train.tpu.model import abstract_model, make_mesh, to_tunix

    recipe, config = tpu_v5e8(), load_config(arguments.config)
    tunix_config = to_tunix(config, dtype="bfloat16", checkpointing=True, split_weights=False)
    say("imports", since=BEGAN)
    if arguments.packed:
        began = time.perf_counter()
        packs = open_packed(arguments.packed, verify=True)
        say(f"{len(packs.train)} packs opened, every byte checked", since=began)
    began = time.perf_counter()
    graph, shapes = abstract_model(config, tunix_config=tunix_config, lora=recipe.lora)
    say("structure of base and adapter", since=began)
    began = time.perf_counter()
    first_values(ModelShape.of(config), lora=recipe.lora, seed=recipe.seed)
    say("the adapter's first values", since=began)
    began = time.perf_counter()
    lower(graph, shapes, config=config, tunix_config=tunix_config, mesh=make_mesh(jax.devices()))
    say("the step, traced and handed to the compiler", since=began)
    say("all of it", since=BEGAN)


def lower(graph: Any, shapes: Any, *, config: Any, tunix_config: Any, mesh: Any) -> None:
    """Traces the step of the recipe: 10 micro-batches of one pack on each of eight devices."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from fintune_kit.pack.tree import COLUMNS
    from fintune_kit.recipes import tpu_v5e8
    from fintune_kit.train.tpu.model import TpuModel, _architecture
    from fintune_kit.train.tpu.step import adam, make_step, spread

    recipe = tpu_v5e8()
    base = nnx.split(nnx.eval_shape(lambda: _architecture(config)(tunix_config, rngs=nnx.Rngs(params=0))))[1]
    base = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), base)
    adapter = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), shapes)
    model = TpuModel(graph=graph, base=base, quiet_graph=graph, adapter_shapes=shapes, dtype="bfloat16")
    step = make_step(model, recipe=recipe.train, head_chunk=256, seed=0, dropout=recipe.lora.dropout)
    column = jax.ShapeDtypeStruct((10, 8, recipe.pack.max_length), jnp.int32, sharding=spread(mesh))
    packs = dict.fromkeys(COLUMNS, column)
    moments = jax.eval_shape(adam().init, adapter)
    jax.jit(step, donate_argnums=(0, 1)).lower(adapter, moments, base, packs, np.float32(0), np.int32(0))


def say(what: str, *, since: float) -> None:
    """One line."""
    print(f"{time.perf_counter() - since:8.1f} s  {what}", flush=True)


if __name__ == "__main__":
    main()
