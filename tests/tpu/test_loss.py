import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fintune_kit.chat.examples import IGNORE

pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")

import jax
import jax.numpy as jnp

from fintune_kit.tpu.loss import summed_cross_entropy


def draw(*, packs: int = 3, length: int = 13, width: int = 8, words: int = 50):
    """Hidden states, head, labels and weights; the packs supervise 0, 4 and all positions."""
    draw = np.random.default_rng(0)
    hidden = draw.normal(size=(packs, length, width)).astype(np.float32)
    head = draw.normal(size=(words, width)).astype(np.float32)
    labels = draw.integers(0, words, (packs, length)).astype(np.int32)
    labels[0] = IGNORE
    labels[1, [0, 1, 2, 3, 5, 6, 7, 8, 10]] = IGNORE
    weights = np.where(labels == IGNORE, 0, draw.integers(1, 9, labels.shape)).astype(np.int32)
    return hidden, head, labels, weights


@pytest.mark.parametrize("chunk", [1, 4, 5, 13, 100])
def test_the_head_in_chunks_equals_pytorch_at_once(chunk):
    hidden, head, labels, weights = draw()
    there = torch.tensor(hidden, requires_grad=True)
    logits = (there @ torch.tensor(head).T).flatten(0, 1)
    losses = F.cross_entropy(logits, torch.tensor(labels).long().flatten(), ignore_index=IGNORE, reduction="none")
    expected = (losses * torch.tensor(weights).flatten()).sum()
    (3 * expected).backward()

    def loss(states):
        return summed_cross_entropy(states, head, labels, weights=weights, chunk=chunk)

    value, gradient = jax.value_and_grad(lambda h: 3 * loss(h))(jnp.asarray(hidden))
    assert float(value) == pytest.approx(3 * expected.item(), rel=1e-5)
    assert float(loss(hidden)) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(np.asarray(gradient), there.grad.numpy(), rtol=1e-4, atol=1e-5)
    assert not np.asarray(gradient)[0].any(), "nothing is supervised there"


def test_no_supervised_token_gives_a_loss_of_zero():
    hidden, head, labels, weights = draw()
    labels = np.full_like(labels, IGNORE)
    assert float(summed_cross_entropy(hidden, head, labels, weights=weights, chunk=4)) == 0


def test_the_logits_of_all_positions_never_exist():
    hidden, head, labels, weights = draw(length=64)
    function = jax.jit(jax.grad(lambda h: summed_cross_entropy(h, head, labels, weights=weights, chunk=4)))
    program = function.lower(hidden).compile().as_text()
    assert "f32[3,4,50]" in program, "no chunk of logits was found; the guard looks for the wrong thing"
    assert "[3,64,50]" not in program
    assert "[192,50]" not in program
