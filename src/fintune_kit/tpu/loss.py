"""The loss on JAX: the same sums as in `train/loss.py`, with shapes that never change.

The supervised positions of each pack are sorted to the front. The head runs on these only, a chunk at a time, and the
pack with the most of them decides the number of chunks. A chunk's gradient is computed while its logits exist:

    hidden [B, L, H] --sort--> supervised first --chunk--> [B, C, H] @ head.T -> logits [B, C, V] float32 -> loss, slope

The sort is within each pack, so nothing moves from one device to another.
"""

from functools import cache
from typing import Any

from fintune_kit.chat.examples import IGNORE


def summed_cross_entropy(hidden: Any, head: Any, labels: Any, *, weights: Any, chunk: int) -> Any:
    """Cross-entropy summed over supervised positions, `chunk` positions of each pack at a time.

    Args:
        hidden: `[B, L, H]`, the last hidden states.
        head: `[V, H]`; it is frozen and gets no gradient.
        labels: `[B, L]` int32; -100 is not supervised.
        weights: `[B, L]` int32; how often each label counts.
        chunk: positions of a pack whose logits exist at once.

    Returns:
        A float32 scalar.
    """
    return _function()(hidden, head, labels, weights, min(chunk, labels.shape[1]))


@cache
def _function() -> Any:
    """The function with its own gradient. It is made at the first call, because it needs JAX."""
    import jax

    def _primal(hidden: Any, head: Any, labels: Any, weights: Any, chunk: int) -> Any:
        return _by_chunk(hidden, head, labels, weights, chunk=chunk, with_gradient=False)[0]

    def _forward(hidden: Any, head: Any, labels: Any, weights: Any, chunk: int) -> tuple[Any, Any]:
        return _by_chunk(hidden, head, labels, weights, chunk=chunk, with_gradient=True)

    def _backward(_chunk: int, gradient: Any, cotangent: Any) -> tuple[Any, None, None, None]:
        return (gradient * cotangent).astype(gradient.dtype), None, None, None

    function = jax.custom_vjp(_primal, nondiff_argnums=(4,))
    function.defvjp(_forward, _backward)
    return function


def _by_chunk(hidden: Any, head: Any, labels: Any, weights: Any, *, chunk: int, with_gradient: bool) -> tuple[Any, Any]:
    """(the loss, its gradient with respect to `hidden`)."""
    import jax
    import jax.numpy as jnp

    length = labels.shape[1]
    supervised = labels != IGNORE
    padded = -(-length // chunk) * chunk
    order = jnp.argsort(~supervised, axis=1, stable=True)
    order = jnp.pad(order, ((0, 0), (0, padded - length)), constant_values=length - 1)
    sorted_labels = jnp.take_along_axis(labels, order, axis=1)
    sorted_labels = jnp.where(jnp.arange(padded) < supervised.sum(axis=1, keepdims=True), sorted_labels, IGNORE)

    def _add_chunk(number: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        total, gradient = carried
        chosen = jax.lax.dynamic_slice_in_dim(order, number * chunk, chunk, axis=1)
        targets = jax.lax.dynamic_slice_in_dim(sorted_labels, number * chunk, chunk, axis=1)
        wanted = targets != IGNORE
        targets = jnp.where(wanted, targets, 0)[..., None]
        counts = jnp.where(wanted, jnp.take_along_axis(weights, chosen, axis=1), 0).astype(jnp.float32)
        states = jnp.take_along_axis(hidden, chosen[..., None], axis=1)
        logits = jnp.einsum("bch,vh->bcv", states, head).astype(jnp.float32)
        normalizer = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        losses = (normalizer - jnp.take_along_axis(logits, targets, axis=-1))[..., 0]
        total += (counts * losses).sum()
        if with_gradient:
            slope = jnp.exp(logits - normalizer) - (jnp.arange(head.shape[0]) == targets)
            part = jnp.einsum("bcv,vh->bch", slope.astype(head.dtype), head)
            part = (part * counts[..., None]).astype(hidden.dtype)
            gradient = jax.lax.dynamic_update_slice_in_dim(gradient, part, number * chunk, axis=1)
        return total, gradient

    chunks = -(-supervised.sum(axis=1).max() // chunk)
    width = padded if with_gradient else 0
    start = (jnp.float32(0), jnp.zeros((*hidden.shape[:1], width, hidden.shape[2]), hidden.dtype))
    total, gradient = jax.lax.fori_loop(0, chunks, _add_chunk, start)
    if with_gradient:
        gradient = jnp.take_along_axis(gradient, jnp.argsort(order[:, :length], axis=1)[..., None], axis=1)
    return total, gradient
