"""Activations that are computed again in the backward pass instead of being kept: the cheap ones, or whole blocks.

Most of what a block keeps costs almost nothing to compute again. Of one position of Qwen2.5-3B in half precision:

    kept by a block      all   selective
    residual stream     16.4        16.4   kB, float32
    norms' outputs                    8.2   what the adapters read, once for all that share it
    adapters' inputs    69.9         3.6   after dropout, with its noise, for each of seven; kept: the low-rank middle
    attention           25.6         9.2   keys and values for each query head and chunk; kept: both once, queries, mix
    gate and up         88.1        44.0   and their product, which is a multiplication away

A whole block (`recompute_blocks`) keeps only its input, and repeats a third of the arithmetic. Both use PyTorch's
checkpointing, which repeats dropout's noise too: the loss is the same to the last bit, and a gradient's sum is taken in
another order at most.
"""

import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ADAPTER = "default"


def recompute_cheap_parts(model: PeftModel) -> None:
    """Adapters' inputs, gated products and attention's inner values are not kept, in every block.

    The model must have exactly one adapter, plain LoRA, and stay in that state.
    """
    assert list(model.peft_config) == [ADAPTER], list(model.peft_config)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            _recompute_adapter_input(module)
    for block in blocks_of(model):
        block.mlp.forward = types.MethodType(_gated_forward, block.mlp)
        block.self_attn.recompute_attention = True  # read by `attention.tree_attention`


def recompute_blocks(blocks: Sequence[Any], count: int) -> None:
    """The first `count` blocks keep only their input, all others keep what they always keep. May be called again.

    The first ones, because their activations would have to be kept longest.
    """
    for index, block in enumerate(blocks):
        if not hasattr(block, "keeps_its_input_only"):
            block.forward = _switchable(block, block.forward)
        block.keeps_its_input_only = index < count


def blocks_of(model: Any) -> list[Any]:
    """The decoder's blocks."""
    return list(model.get_base_model().model.layers)


def _switchable(block: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    again = _checkpointed(function)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (again if block.keeps_its_input_only else function)(*args, **kwargs)

    return forward


def _checkpointed(function: Callable[..., Any], *, noisy: bool = True) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=noisy, **kwargs)

    return forward


def _recompute_adapter_input(layer: LoraLayer) -> None:
    """Moves dropout into the first adapter matrix, and repeats both in the backward pass."""
    down = layer.lora_A[ADAPTER]
    down.dropout = layer.lora_dropout[ADAPTER]  # a child, so that `train` and `eval` reach it
    layer.lora_dropout[ADAPTER] = nn.Identity()
    ordinary = down.forward
    noisy = isinstance(down.dropout, nn.Dropout)
    down.forward = _checkpointed(lambda hidden: ordinary(down.dropout(hidden)), noisy=noisy)


def _gated_forward(self: Any, hidden: Tensor) -> Tensor:
    """Qwen's MLP, keeping `gate` and `up` but not their product, which two parts of the last projection read."""
    gate, up = self.gate_proj(hidden), self.up_proj(hidden)

    def product(gate: Tensor, up: Tensor) -> Tensor:
        activated: Tensor = self.act_fn(gate) * up
        return activated

    out = self.down_proj
    if not isinstance(out, LoraLayer) or not torch.is_grad_enabled():
        return out(_checkpointed(product, noisy=False)(gate, up)) if torch.is_grad_enabled() else out(product(gate, up))
    down, up_again = out.lora_A[ADAPTER], out.lora_B[ADAPTER]
    frozen = out.base_layer(_checkpointed(product, noisy=False)(gate, up))
    low = _checkpointed(lambda gate, up: nn.Linear.forward(down, down.dropout(product(gate, up))))(gate, up)
    return frozen + up_again(low) * out.scaling[ADAPTER]
