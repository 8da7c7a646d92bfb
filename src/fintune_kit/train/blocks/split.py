"""A frozen base that one card cannot hold, shared out among the processes, still in 4 bits.

    at rest       process 0 [ part 0 ]      process 1 [ part 1 ]          of each weight and its scales, as bytes
    to multiply   both      [ part 0 | part 1 ]  gathered, unpacked, used, dropped; once forward, once backward

FSDP does the same with parameters. Here they never change, so nothing is sent back for them. Our blocks read their
weights themselves (`linear.Linear.weight`), so they need no hook. Adapter, embeddings and norms are whole in every
process. All processes must multiply with the same weights in the same order, or they wait for ever.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from fintune_kit.train.blocks.weights import four_bit_layers


class SplitWeight:
    """This process's part of a 4-bit weight."""

    def __init__(self, layer: Any, *, rank: int, processes: int) -> None:
        """
        Args:
            layer: a `Linear4bit` whose scales are unpacked (`weights.unnest_scales`). It keeps nothing of its weight.
        """
        state = layer.weight.quant_state
        packed, scales = layer.weight.data.reshape(-1).view(torch.uint8), state.absmax.reshape(-1).view(torch.uint8)
        self._packed_bytes, self._bytes = len(packed), len(packed) + len(scales)
        missing = -self._bytes % (4 * processes)  # so that a part is a whole number of float32 values
        whole = torch.cat([packed, scales, packed.new_zeros(missing)])
        self._part = whole.chunk(processes)[rank].clone()
        self._processes, self._state = processes, state
        layer.weight.data = layer.weight.data.new_empty(0)
        state.absmax = state.absmax.new_empty(0)

    def whole(self) -> Tensor:
        """`[outputs, inputs]` in the compute dtype, gathered from all processes and unpacked."""
        from bitsandbytes.functional import QuantState, dequantize_4bit

        together = self._part
        if self._processes > 1:
            together = self._part.new_empty(self._processes * len(self._part))
            gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # its name before PyTorch 2.13
            gather(together, self._part)
        state = self._state
        scales = together[self._packed_bytes : self._bytes].view(torch.float32)
        whole = QuantState(
            absmax=scales,
            shape=state.shape,
            code=state.code,
            blocksize=state.blocksize,
            quant_type=state.quant_type,
            dtype=state.dtype,
        )
        weight: Tensor = dequantize_4bit(together[: self._packed_bytes].view(-1, 1), whole)
        return weight


class _Product(torch.autograd.Function):
    """`x W'`, which gathers the weight again in the backward pass instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, split: SplitWeight) -> Tensor:
        ctx.split = split
        weight = split.whole()
        return x.to(weight.dtype) @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        weight = ctx.split.whole()
        return gradients[0].to(weight.dtype) @ weight, None


def split_weights(model: nn.Module, *, rank: int, processes: int) -> None:
    """Leaves each process its part of the 4-bit weights of a model.

    Args:
        model: after `weights.keep_ready`, the same in all processes.
    """
    for _, _, layer in list(four_bit_layers(model)):
        layer.split_weight = SplitWeight(layer, rank=rank, processes=processes)
        layer.forward = _forward_of(layer)


def is_split(model: nn.Module) -> bool:
    """Whether the processes hold a model's weights together, and must run in step."""
    return any(hasattr(module, "split_weight") for module in model.modules())


def _forward_of(layer: Any) -> Any:
    """The forward pass of a layer, for the case that PEFT's own layers run."""

    def forward(x: Tensor) -> Tensor:
        product: Tensor = _Product.apply(x, layer.split_weight)
        return product if layer.bias is None else product + layer.bias

    return forward
