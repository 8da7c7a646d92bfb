"""One optimizer step on JAX, compiled once for the whole run: gradients of all micro-batches, clipping, AdamW.

What `trainer.PackTrainer` does with TRL's loop, as one function without state. All shapes are those of the packs, the
learning rate and the step's number come in as values, so nothing ever makes the compiler run again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fintune_kit.chatml import IGNORE
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.recipes import TrainRecipe
from fintune_kit.train.tpu_loss import summed_cross_entropy, tree_mask
from fintune_kit.train.tpu_model import AXIS, TpuModel, hidden_states

Step = Callable[[Any, Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """The shapes of a step: `[accumulation, packs, length]`, the packs spread over the mesh."""

    accumulation: int
    packs: int
    """Of one micro-batch on all devices together."""
    length: int


def adam() -> Any:
    """AdamW's moments, with the values that transformers uses; decay and learning rate are applied in the step."""
    import optax

    return optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


def summed_loss(model: TpuModel, adapter: Any, base: Any, packs: Any, *, noise: Any, head_chunk: int) -> Any:
    """Cross-entropy summed over the supervised tokens of some packs.

    Args:
        packs: the four columns, int32 `[B, L]` each.
        noise: PRNG key of the dropout, or None.
    """
    hidden, head = hidden_states(
        model,
        base=base,
        adapter=adapter,
        input_ids=packs["input_ids"],
        position_ids=packs["position_ids"],
        mask=tree_mask(packs["subtree_end"]),
        noise=noise,
    )
    return summed_cross_entropy(hidden, head, packs["shift_labels"], chunk=head_chunk)


def make_step(model: TpuModel, *, recipe: TrainRecipe, head_chunk: int, seed: int, dropout: float) -> Step:
    """The step as a plain function of (adapter, moments, base, packs, learning rate, number of the step).

    `packs` holds the four columns of the whole optimizer step, int32 `[accumulation, packs, length]`.

    Returns:
        A function that gives (adapter, moments, {"loss", "grad_norm"}). Where the gradient's norm is not finite,
        adapter and moments come back as they were.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def step(adapter: Any, moments: Any, base: Any, packs: Any, rate: Any, number: Any) -> tuple[Any, Any, Any]:
        tokens = jnp.maximum((packs["shift_labels"] != IGNORE).sum(), 1).astype(jnp.float32)
        key = jax.random.fold_in(jax.random.key(seed), number)

        def one_micro_batch(carried: tuple[Any, Any], given: tuple[Any, Any]) -> tuple[tuple[Any, Any], None]:
            (total, gradient), (columns, index) = carried, given
            noise = jax.random.fold_in(key, index) if dropout else None

            def share(matrices: Any) -> Any:
                summed = summed_loss(model, matrices, base, columns, noise=noise, head_chunk=head_chunk)
                return summed / tokens  # of the whole step: a token counts the same whatever stands beside it

            loss, part = jax.value_and_grad(share)(adapter)
            return (total + loss, jax.tree.map(jnp.add, gradient, part)), None

        start = (jnp.float32(0), jax.tree.map(jnp.zeros_like, adapter))
        indices = jnp.arange(packs["shift_labels"].shape[0])
        (loss, gradient), _ = jax.lax.scan(one_micro_batch, start, (packs, indices))

        norm = optax.tree.norm(gradient)
        clipped = jax.tree.map(lambda g: g * jnp.minimum(1.0, recipe.max_grad_norm / (norm + 1e-6)), gradient)
        direction, later = adam().update(clipped, moments)
        moved = jax.tree.map(lambda p, d: p - rate * (d + recipe.weight_decay * p), adapter, direction)
        sound = jnp.isfinite(norm)
        adapter, moments = jax.tree.map(lambda new, old: jnp.where(sound, new, old), (moved, later), (adapter, moments))
        return adapter, moments, {"loss": loss, "grad_norm": norm}

    return step


def compile_step(step: Step, *, mesh: Any, adapter: Any, moments: Any, base: Any, shape: StepShape) -> Any:
    """Compiles the step for these shapes and places; what comes back refuses any other."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    size = (shape.accumulation, shape.packs, shape.length)
    column = jax.ShapeDtypeStruct(size, jnp.int32, sharding=spread(mesh))
    packs = dict.fromkeys(COLUMNS, column)
    function = jax.jit(step, donate_argnums=(0, 1), out_shardings=whole)
    return function.lower(adapter, moments, base, packs, np.float32(0), np.int32(0)).compile()


def spread(mesh: Any) -> Any:
    """Where a step's packs lie: those of a micro-batch spread over all devices."""
    import jax

    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, AXIS, None))
