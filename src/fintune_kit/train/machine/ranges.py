"""Before training in float16: do the activations of a pack come near its largest value, 65,504?

    of each block     gated product      silu(gate) * up, the input of down_proj     float16
                      MLP output         the output of down_proj                     float16
                      residual stream    after the block                             float32 (`model.load_base`)

One pack of the user's is computed once, without gradients. A block that comes near is clamped from then on, because an
infinite value would spoil the loss of its whole step. `run/activations.json` holds the largest values.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from fintune_kit.train.attention import dense_mask
from fintune_kit.train.blocks.recompute import blocks_of
from fintune_kit.train.guards import device_for_messages
from fintune_kit.train.machine.self_check import Pack

log = logging.getLogger(__name__)

FLOAT16_MAX = 65_504.0
NEAR = FLOAT16_MAX / 2
"""Blocks that reach this are clamped: activations may double during training."""


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest absolute values of one block. Infinity and NaN are possible."""

    gated_product: float
    mlp_output: float
    residual_stream: float

    @property
    def is_near(self) -> bool:
        """Whether a value in float16 comes near its end, or is beyond. NaN is not: an earlier block has caused it."""
        return self.gated_product >= NEAR or self.mlp_output >= NEAR


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The largest values of all blocks, and the blocks that are clamped since."""

    blocks: tuple[Largest, ...]
    clamped: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file; a value that is not finite is None."""
        names = ("gated_product", "mlp_output", "residual_stream")
        columns = {name: [_finite(getattr(block, name)) for block in self.blocks] for name in names}
        return {"float16_max": FLOAT16_MAX, "clamped_blocks": list(self.clamped), "largest_by_block": columns}


def keep_in_range(model: Any, pack: Pack, *, device: str) -> Activations:
    """Computes a pack in float16, and clamps the blocks whose activations come near the end of its range.

    An overflow hides what follows it, so the pack is computed again after each new clamp.

    Args:
        model: a PEFT model that reads packs, with `use_packed_blocks`.
        pack: a real one.
        device: of the model.
    """
    clamped: list[int] = []
    while True:
        found = largest_activations(model, pack, device=device)
        near = [index for index in _near_anywhere(found) if index not in clamped]
        if not near:
            return Activations(blocks=tuple(found), clamped=tuple(sorted(clamped)))
        log.warning("%s", describe(found, near))
        for index in near:
            model.get_base_model().packed_blocks[index].clamp(FLOAT16_MAX)
        clamped += near


def describe(found: list[Largest], near: list[int]) -> str:
    """The warning about blocks that come near the end of float16."""
    largest = max(value for i in near for value in (found[i].gated_product, found[i].mlp_output) if value >= NEAR)
    reached = f"reaches {largest:,.0f}, near" if math.isfinite(largest) else "goes beyond"
    return (
        f"the MLP of block(s) {', '.join(map(str, near))} {reached} the end of float16 at {FLOAT16_MAX:,.0f}: larger "
        f"values are clamped there; a card with bfloat16 has no such limit"
    )


def largest_activations(model: Any, pack: Pack, *, device: str) -> list[Largest]:
    """The largest activations of each block on one pack, by transformers' and PEFT's own layers in float16.

    These can be watched, and they compute the same numbers as our blocks.
    """
    seen: dict[tuple[int, str], Tensor] = {}

    def note(index: int, name: str) -> Callable[[Any], None]:
        def keep(value: Any) -> None:
            seen[index, name] = value.detach().abs().amax()

        return keep

    hooks = []
    for index, block in enumerate(blocks_of(model)):
        product, output, stream = (note(index, name) for name in ("gated_product", "mlp_output", "residual_stream"))
        down = block.mlp.down_proj
        hooks += [
            down.register_forward_pre_hook(lambda _layer, inputs, keep=product: keep(inputs[0])),
            down.register_forward_hook(lambda _layer, _inputs, value, keep=output: keep(value)),
            block.register_forward_hook(lambda _block, _inputs, value, keep=stream: keep(value)),
        ]
    try:
        _run(model, pack, device=device)
    finally:
        for hook in hooks:
            hook.remove()
    values = dict(zip(seen, torch.stack([value.float() for value in seen.values()]).tolist(), strict=True))
    return [
        Largest(**{name: values[index, name] for name in ("gated_product", "mlp_output", "residual_stream")})
        for index in range(len(blocks_of(model)))
    ]


def _run(model: Any, pack: Pack, *, device: str) -> None:
    """The hidden states of a pack, in evaluation. With a mask of this form, transformers' own blocks run."""
    causal_lm, was_training = model.get_base_model(), model.training
    tokens, positions, ends = (
        torch.from_numpy(np.asarray(pack[name], np.int64)[None]).to(device)
        for name in ("input_ids", "position_ids", "subtree_end")
    )
    mask = dense_mask(ends, implementation=causal_lm.config._attn_implementation)
    model.eval()
    with torch.no_grad(), torch.autocast(device.split(":")[0], dtype=torch.float16):
        causal_lm.model(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False)
    model.train(was_training)


def _near_anywhere(found: list[Largest]) -> list[int]:
    """The blocks that come near in any process, because all processes must compute the same."""
    near = torch.tensor([block.is_near for block in found], dtype=torch.int32)
    if dist.is_available() and dist.is_initialized():
        near = near.to(device_for_messages())
        dist.all_reduce(near, dist.ReduceOp.MAX)
    return [index for index, is_near in enumerate(near.tolist()) if is_near]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
