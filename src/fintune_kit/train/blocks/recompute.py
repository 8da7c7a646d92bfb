"""Saves memory: some blocks keep only their input, and are computed again in the backward pass.

Usually a block keeps its residual stream, gate and up, and the tensors that attention needs (`packed.py`). If memory is
short, the first blocks keep only their input, and repeat a third of their arithmetic. Dropout draws the same noise
again: from a seed or, if PEFT's own layers run, from the saved state of the generator.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recompute_blocks(blocks: Sequence[Any], count: int) -> None:
    """Lets the first `count` blocks keep only their input. A later call may change the count.

    It is the first blocks, because their activations would be kept for the longest time.
    """
    for index, block in enumerate(blocks):
        if not hasattr(block, "keeps_its_input_only"):
            block.forward = _switchable(block, block.forward)
        block.keeps_its_input_only = index < count


def blocks_of(model: Any) -> list[Any]:
    """The decoder's blocks of a PEFT model."""
    return list(model.get_base_model().model.layers)


def _switchable(block: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def _forward(*args: Any, **kwargs: Any) -> Any:
        if block.keeps_its_input_only and torch.is_grad_enabled():
            packed = getattr(block, "packed_block", None)
            seeded = packed is not None and packed.parts is not None
            return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=not seeded, **kwargs)
        return function(*args, **kwargs)

    return _forward
