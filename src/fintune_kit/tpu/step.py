"""One optimizer step on JAX, compiled once for the whole run: gradients of all micro-batches, clipping, AdamW.

It is a function without state, and does the same as `train.trainer.PackTrainer`. All shapes are those of the packs, and
the learning rate and the step's number are arguments. So the compiler never runs again.

    device 0   packs of micro-batch 1, 2, ... -> its gradient \\
    ...                                                        sum -> clipping, AdamW, the same on all devices
    device 7   packs of micro-batch 1, 2, ... -> its gradient /

Each device computes all its packs alone (`jax.shard_map`). The gradients are summed once in a step.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.recipes import TrainRecipe
from fintune_kit.tpu.base import AXIS
from fintune_kit.tpu.loss import summed_cross_entropy
from fintune_kit.tpu.model import TpuModel, hidden_states

Step = Callable[[Any, Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """The shapes of a step: `[accumulation, packs, length]`. The packs are spread over the devices."""

    accumulation: int
    packs: int
    """The packs of one micro-batch on all devices together."""
    length: int


def adam() -> Any:
    """AdamW's moments, with transformers' values. The step applies weight decay and learning rate itself."""
    import optax

    return optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


def make_step(model: TpuModel, *, recipe: TrainRecipe, head_chunk: int, seed: int, dropout: float) -> Step:
    """The step as a function of (adapter, moments, base, packs, learning rate, number of the step).

    Returns:
        A function that returns (adapter, moments, {"loss", "grad_norm"}). If the gradient's norm is not finite, it
        returns adapter and moments unchanged.
    """
    import jax
    import jax.numpy as jnp
    import optax

    gradient_of = make_gradient(model, head_chunk=head_chunk, seed=seed, dropout=dropout)

    def _step(adapter: Any, moments: Any, base: Any, packs: Any, rate: Any, number: Any) -> tuple[Any, Any, Any]:
        loss, gradient = gradient_of(adapter, base, packs, number)
        norm = optax.tree.norm(gradient)
        clipped = jax.tree.map(lambda g: g * jnp.minimum(1.0, recipe.max_grad_norm / (norm + 1e-6)), gradient)
        direction, later = adam().update(clipped, moments)
        moved = jax.tree.map(lambda p, d: p - rate * (d + recipe.weight_decay * p), adapter, direction)
        sound = jnp.isfinite(norm)
        adapter, moments = jax.tree.map(lambda new, old: jnp.where(sound, new, old), (moved, later), (adapter, moments))
        return adapter, moments, {"loss": loss, "grad_norm": norm}

    return _step


def make_gradient(
    model: TpuModel, *, head_chunk: int, seed: int, dropout: float
) -> Callable[[Any, Any, Any, Any], tuple[Any, Any]]:
    """A function of (adapter, base, packs, number of the step) that returns the step's mean loss and its gradient.

    `packs` holds the columns of the whole optimizer step, int32 `[accumulation, packs, length]`.
    """
    import jax
    import jax.numpy as jnp

    def _on_one_device(adapter: Any, base: Any, packs: Any, number: Any) -> tuple[Any, Any]:
        tokens = jax.lax.psum(packs["loss_weight"].sum(), AXIS)
        tokens = jnp.maximum(tokens, 1).astype(jnp.float32)
        key = jax.random.fold_in(_noise_of_step(seed, number), jax.lax.axis_index(AXIS))

        def _add_micro_batch(carried: tuple[Any, Any], given: tuple[Any, Any]) -> tuple[tuple[Any, Any], None]:
            (total, gradient), (columns, index) = carried, given
            noise = jax.random.fold_in(key, index) if dropout else None

            def _share_of_loss(matrices: Any) -> Any:
                summed = _summed_loss(model, matrices, base, columns, noise=noise, head_chunk=head_chunk)
                return summed / tokens  # of the whole step, so that each token counts the same

            loss, part = jax.value_and_grad(_share_of_loss)(adapter)
            return (total + loss, jax.tree.map(jnp.add, gradient, part)), None

        start = (jnp.float32(0), jax.tree.map(jnp.zeros_like, adapter))
        indices = jnp.arange(packs["shift_labels"].shape[0])
        (loss, gradient), _ = jax.lax.scan(_add_micro_batch, start, (packs, indices))
        return jax.lax.psum((loss, gradient), AXIS)

    return _on_each_device(_on_one_device, model)


def make_loss(model: TpuModel, *, head_chunk: int) -> Callable[[Any, Any, Any], Any]:
    """A compiled function of (adapter, base, packs) that returns the summed cross-entropy, without dropout.

    `packs` holds the columns of some packs, int32 `[1, packs, length]`.
    """
    import jax

    def _loss_of(adapter: Any, base: Any, packs: Any, _number: Any) -> Any:
        columns = {name: column[0] for name, column in packs.items()}
        summed = _summed_loss(model.without_dropout(), adapter, base, columns, noise=None, head_chunk=head_chunk)
        return jax.lax.psum(summed, AXIS)

    return jax.jit(lambda adapter, base, packs: _on_each_device(_loss_of, model)(adapter, base, packs, 0))


def compile_step(step: Step, *, mesh: Any, adapter: Any, moments: Any, base: Any, shape: StepShape) -> Any:
    """Compiles the step for these shapes and shardings. The compiled step refuses any others.

    Raises:
        UserError: by the compiler, the step does not fit into a device's memory.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    size = (shape.accumulation, shape.packs, shape.length)
    column = jax.ShapeDtypeStruct(size, jnp.int32, sharding=spread(mesh))
    packs = dict.fromkeys(COLUMNS, column)
    function = jax.jit(step, donate_argnums=(0, 1), out_shardings=everywhere(mesh))
    lowered = function.lower(adapter, moments, base, packs, np.float32(0), np.int32(0))
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise too_large(str(error)) or error from None


def too_large(said: str) -> UserError | None:
    """Our sentence for XLA's error about a program that does not fit into a device; None for any other error."""
    found = re.search(r"RESOURCE_EXHAUSTED: .*?\(([\d.]+)G\) exceeds available HBM \(([\d.]+)G\)", said, re.DOTALL)
    return found and UserError(
        f"a step would take more than {found[1]} GiB of a device; expected at most its {found[2]} GiB: take a smaller "
        f"model (FINTUNE_MODEL) or shorter packs"
    )


def spread(mesh: Any) -> Any:
    """The sharding of a step's packs: each micro-batch is spread over all devices."""
    import jax

    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, AXIS, None))


def everywhere(mesh: Any) -> Any:
    """The sharding of the adapter and its moments: a copy on each device."""
    import jax

    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def _on_each_device(function: Callable[..., Any], model: TpuModel) -> Callable[..., Any]:
    """Lets each device run a function of (adapter, base, packs, number) on its own packs.

    The function must end with a sum over the devices, so that all of them return the same.
    """
    import jax

    whole = jax.sharding.PartitionSpec()
    return jax.shard_map(
        function,
        mesh=model.mesh,
        in_specs=(whole, model.base_places, spread(model.mesh).spec, whole),
        out_specs=whole,
        check_vma=False,  # else JAX sums the adapter's gradient over the devices too, and it is summed twice
    )


def _summed_loss(model: TpuModel, adapter: Any, base: Any, packs: Any, *, noise: Any, head_chunk: int) -> Any:
    """Cross-entropy summed over the supervised tokens of this device's packs, int32 `[B, L]` a column."""
    hidden, head = hidden_states(model, base=base, adapter=adapter, packs=packs, noise=noise)
    labels, weights = packs["shift_labels"], packs["loss_weight"]
    return summed_cross_entropy(hidden, head, labels, weights=weights, chunk=head_chunk)


def _noise_of_step(seed: int, number: Any) -> Any:
    """The PRNG key of a step's dropout, for the device's own generator (`rbg`).

    With JAX's default generator, the compiler needs 346 s instead of 32 s for one block of the 3B
    (`benchmarks/NOTES.md`).
    """
    import jax

    return jax.random.fold_in(jax.random.key(seed, impl="rbg"), number)
