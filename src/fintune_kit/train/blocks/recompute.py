"""Whole blocks that are computed again in the backward pass instead of being kept.

A block keeps its residual stream, gate and up, and what attention needs (`packed.py`). Where memory is short, the first
blocks keep their input only, and repeat a third of their arithmetic. Dropout draws the same noise again: from a seed,
or, where PEFT's own layers run, from the state of the generator.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recompute_blocks(blocks: Sequence[Any], count: int) -> None:
    """The first `count` blocks keep their input only, all others what a block keeps. May be called again.

    The first ones, because their activations would have to be kept longest.
    """
    for index, block in enumerate(blocks):
        if not hasattr(block, "keeps_its_input_only"):
            block.forward = _switchable(block, block.forward)
        block.keeps_its_input_only = index < count


def blocks_of(model: Any) -> list[Any]:
    """The decoder's blocks of a PEFT model."""
    return list(model.get_base_model().model.layers)


def _switchable(block: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        if block.keeps_its_input_only and torch.is_grad_enabled():
            packed = getattr(block, "packed_block", None)
            seeded = packed is not None and packed.parts is not None
            return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=not seeded, **kwargs)
        return function(*args, **kwargs)

    return forward
