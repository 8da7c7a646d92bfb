"""The form of the frozen 4-bit weights in memory during training.

packed         as bitsandbytes stores them, but with the scales of the scales unpacked once: each use needs two kernels
               less, and each weight 3/64 of a byte more
unpacked       once, into the dtype of the products: no use has to unpack them, but they need four times the memory
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def keep_ready(model: nn.Module, *, dense: bool) -> None:
    """Prepares the 4-bit weights of a model for many uses. No value changes.

    Args:
        dense: whether all weights are unpacked now.
    """
    for parent, name, layer in list(four_bit_layers(model)):
        if dense:
            setattr(parent, name, _unpacked(layer))
        else:
            unnest_scales(layer.weight.quant_state)


def four_bit_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """(parent module, attribute of the parent, layer) for each 4-bit linear layer."""
    from bitsandbytes.nn import Linear4bit

    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, Linear4bit):
                yield parent, name, child


def unnest_scales(state: Any) -> None:
    """Unpacks the 8-bit scales of a bitsandbytes `QuantState` into float32, in place. Else each use does this."""
    if not state.nested:
        return
    from bitsandbytes.functional import dequantize_blockwise

    state.absmax = (dequantize_blockwise(state.absmax, state.state2) + state.offset).float()
    state.nested, state.state2, state.offset = False, None, None


def _unpacked(layer: Any) -> nn.Linear:
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    with torch.device("meta"):
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, dtype=weight.dtype)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return plain.train(layer.training)
