"""Attention by blocks beside PyTorch's own, with the mask of the pack."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fintune_kit.tpu.attention import attend, block_of, make_kernels, tree_mask
from fintune_kit.train import attention

ENDS = [512] * 100 + [228] * 128 + [300] * 72 + [384] * 84 + [512] * 128
"""A prefix of 100 tokens with four branches, the last of which begins where a block of 128 does."""


def test_the_kernel_runs_where_it_can():
    assert block_of(length=2048, head_dim=128, platform="tpu") == 512
    assert block_of(length=640, head_dim=256, platform="tpu") == 128
    assert block_of(length=2000, head_dim=128, platform="tpu") is None
    assert block_of(length=2048, head_dim=64, platform="tpu") is None
    assert block_of(length=2048, head_dim=128, platform="cpu") is None


def test_the_mask_is_the_one_of_the_pack():
    pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")
    ends = np.array([[9, 9, 9, 6, 6, 6, 9, 9, 9], [1, 3, 3, 9, 9, 9, 9, 9, 9]], np.int32)
    assert np.asarray(tree_mask(ends)).tolist() == attention.tree_mask(torch.tensor(ends))[:, 0].tolist()


def test_blocks_in_which_nobody_sees_anybody_are_skipped():
    pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")
    (kernel,) = make_kernels(np.array([ENDS], np.int32), block=128, interpret=True)
    computed = np.asarray(kernel.fwd_mask_info.block_mask)[0] > 0
    assert computed.astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 1],  # the last branch sees the prefix and itself
    ]


@pytest.mark.parametrize("by_blocks", [True, False], ids=["by blocks", "dense"])
def test_attention_and_its_gradients_are_those_of_pytorch(by_blocks):
    jax = pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")
    draw = np.random.default_rng(0)
    ends = np.array([ENDS, list(range(1, 257)) + [512] * 256], np.int32)
    parts = [draw.normal(size=(2, 512, heads, 128)).astype(np.float32) for heads in (4, 2, 2)]
    slope = draw.normal(size=(2, 512, 4, 128)).astype(np.float32)

    query, key, value = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in parts)
    expected = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.repeat_interleave(2, dim=2).transpose(1, 2),
        value.repeat_interleave(2, dim=2).transpose(1, 2),
        attn_mask=attention.tree_mask(torch.tensor(ends)),
    ).transpose(1, 2)
    (expected * torch.tensor(slope)).sum().backward()

    def product(*parts):
        seen = make_kernels(ends, block=128, interpret=True) if by_blocks else tree_mask(ends)
        found = attend(*parts, seen=seen)
        return (found * slope).sum(), found

    (_, found), gradients = jax.jit(jax.value_and_grad(product, argnums=(0, 1, 2), has_aux=True))(*parts)
    np.testing.assert_allclose(np.asarray(found), expected.detach().numpy(), atol=1e-5)
    for gradient, there in zip(gradients, (query, key, value), strict=True):
        np.testing.assert_allclose(np.asarray(gradient), there.grad.numpy(), atol=1e-4)
