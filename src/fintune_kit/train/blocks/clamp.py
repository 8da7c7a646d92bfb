"""Clamps the input and the output of a layer: values beyond a limit become the limit, and infinity too.

float16 ends at 65,504. A larger sum is infinite there, and a single infinite value spoils the loss. Gradients pass
through unchanged, here as in our own layers (`packed.GatedMLP.bounded`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Clamp(torch.autograd.Function):
    """Clamps values. Their gradient passes through unchanged."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor, limit: float) -> Tensor:
        return values.clamp(-limit, limit)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], None


@contextmanager
def clamping(layer: nn.Module, *, limit: float) -> Iterator[None]:
    """Clamps the first input and the output of a layer while the context is open."""
    hooks = (
        layer.register_forward_pre_hook(lambda _layer, inputs: (_Clamp.apply(inputs[0], limit), *inputs[1:])),
        layer.register_forward_hook(lambda _layer, _inputs, output: _Clamp.apply(output, limit)),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
