"""Before training: does this card compute a pack as it computes the pack's examples one by one?

    one pack of the user's, some of its examples supervised
        --> as training runs it: laid out, in our blocks, the head in chunks     loss, gradient of the adapter
        --> each of these examples alone, by transformers and PEFT               loss, gradient of the adapter

Both in the precision of the plan. They agree to its rounding, or something here computes wrongly: a kernel, a driver, a
version of a library. Then PEFT's own layers and PyTorch's plain attention are tried, which are slower.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from fintune_kit.chat.examples import IGNORE
from fintune_kit.errors import UserError
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.train.batch import lay_out
from fintune_kit.train.blocks.recompute import blocks_of, recompute_blocks
from fintune_kit.train.guards import device_for_messages

log = logging.getLogger(__name__)

Pack = Mapping[str, NDArray[np.integer]]
"""The columns of one pack, `[length]` each."""
EXAMPLES = 6
"""Examples that are compared. Each costs a forward and a backward pass of its own."""
TOLERANCES = {"float32": (1e-4, 1e-3), "float16": (5e-3, 0.05), "bfloat16": (2e-2, 0.2)}
"""Relative, of the loss and of the gradient, by dtype: several times the difference of two correct computations."""
SCALES = (2.0**6, 1.0, 2.0**-6)
"""Factors on a loss in float16, where small gradients vanish without one. The first without an overflow counts."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a pack is from its examples alone, relative to these."""

    loss: float
    gradient: float
    dtype: str

    @property
    def holds(self) -> bool:
        """Whether both differ by rounding only. A value that is not finite never does."""
        of_loss, of_gradient = TOLERANCES[self.dtype]
        return self.loss <= of_loss and self.gradient <= of_gradient

    def describe(self) -> str:
        """In words."""
        of_loss, of_gradient = TOLERANCES[self.dtype]
        return (
            f"a pack's loss is {self.loss:.1e} and its gradient {self.gradient:.1e} off from its examples alone, "
            f"expected at most {of_loss:.0e} and {of_gradient:.0e} in {self.dtype}"
        )


def make_sure_of_packs(model: Any, pack: Pack, *, dtype: str, device: str) -> Agreement:
    """Checks a model on a pack, and falls back to slower layers and kernels where ours compute something else.

    The adapter is as before afterwards, and so are the random numbers.

    Args:
        model: a PEFT model that reads packs, before its first step.
        pack: a real one, with supervised tokens.
        dtype: of autocast, or `float32`.

    Raises:
        UserError: the slower ones compute something else too.
    """
    found = compare(model, pack, dtype=dtype, device=device)
    if in_all_processes(found.holds):
        return found
    log.warning(
        "%s: PEFT's own layers and PyTorch's plain attention are used from here on, which is slower", found.describe()
    )
    use_plain_kernels(model)
    found = compare(model, pack, dtype=dtype, device=device)
    if not in_all_processes(found.holds):
        raise UserError(
            f"{found.describe()}, with PEFT's own layers too: packs are not exact on {device} with this PyTorch; "
            f"install the versions of requirements.txt, or pack again with --no-share-prefixes"
        )
    return found


def pack_with_answers(rows: Any) -> Pack:
    """The first pack that supervises something.

    Args:
        rows: of the training split.
    """
    arrays = rows.with_format("numpy")
    indices = (index for index in range(len(arrays)) if (arrays[index]["shift_labels"] != IGNORE).any())
    pack = arrays[next(indices, 0)]
    return {name: pack[name] for name in COLUMNS}


def in_all_processes(holds: bool) -> bool:
    """Whether something holds in every process. If one alone ran other layers, the rest could wait for it for ever."""
    if not (dist.is_available() and dist.is_initialized()):
        return holds
    agreed = torch.tensor(int(holds), device=device_for_messages())
    dist.all_reduce(agreed, dist.ReduceOp.MIN)
    return bool(agreed)


def use_plain_kernels(model: Any) -> None:
    """Lets PEFT's own layers run, and PyTorch's plain attention, in this process."""
    for block in model.get_base_model().packed_blocks:
        block.switch_off("the self-check found other numbers")
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)


def compare(model: Any, pack: Pack, *, dtype: str, device: str) -> Agreement:
    """The pack beside some of its examples alone.

    It holds two gradients of the adapter at most, because the gradients of examples add up in place.
    """
    adapter = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training, blocks = model.training, blocks_of(model)
    model.eval()
    recompute_blocks(blocks, len(blocks))  # so that the check needs less memory than a step
    drawn = draw_zero_matrices(adapter)
    try:
        for scale in SCALES if dtype == "float16" else (1.0,):
            found = _compare_scaled(model, pack, adapter=adapter, scale=scale, dtype=dtype, device=device)
            if in_all_processes(math.isfinite(found.gradient)):
                break
    finally:
        model.train(was_training)
        recompute_blocks(blocks, 0)
        for parameter in drawn:
            parameter.data.zero_()
        for parameter in adapter:
            parameter.grad = None
    return found


def _compare_scaled(model: Any, pack: Pack, *, adapter: list[Any], scale: float, dtype: str, device: str) -> Agreement:
    """The same with both losses multiplied by a scale."""
    paths = supervised_paths(pack)

    def run(forward: Callable[[], Tensor]) -> float:
        return _loss_backward(forward, scale=scale, dtype=dtype, device=device)

    ours = run(lambda: _of_pack(model, pack, paths, device=device))
    of_pack = [_taken_gradient(parameter) for parameter in adapter]
    alone = sum(run(lambda path=path: _of_example(model, pack, path, device=device)) for path in paths)  # type: ignore[misc]
    of_examples = [_taken_gradient(parameter) for parameter in adapter]
    gradient = _furthest_apart(model, of_pack, of_examples)
    return Agreement(loss=abs(ours - alone) / abs(alone), gradient=gradient, dtype=dtype)


def _furthest_apart(model: Any, found: list[Tensor], expected: list[Tensor]) -> float:
    """The relative difference of the gradients of A, or that of B if it is larger: B is small, and so are the gradients
    of A, which would not show among those of B.

    Returns:
        Infinity where a value is not finite, and where gradients are expected to be zero: that compares nothing.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    differences = []
    for is_first in (True, False):
        indices = [index for index, name in enumerate(names) if ("lora_A" in name) == is_first]
        off = sum(float((found[i] - expected[i]).double().square().sum()) for i in indices)
        size = sum(float(expected[i].double().square().sum()) for i in indices)
        if indices:
            differences.append(math.sqrt(off / size) if size else math.inf)
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def draw_zero_matrices(adapter: list[Any]) -> list[Any]:
    """Fills matrices that are all zero with small random values, the same ones each time: with zero B matrices, A would
    have no gradient. Returns these matrices.

    The values are so small that the adapter changes a layer's output by about a fiftieth, as in training. Larger ones
    would multiply large activations into numbers that float16 rounds too coarsely to compare.
    """
    generator = torch.Generator().manual_seed(0)
    zero = [parameter for parameter in adapter if not bool(parameter.any())]
    for parameter in zero:
        parameter.data.copy_(0.002 * torch.randn(parameter.shape, generator=generator, dtype=torch.float32))
    return zero


def supervised_paths(pack: Pack) -> list[NDArray[np.int64]]:
    """The positions of some examples of a pack, from the root to the last token: the ancestors of a leaf.

    Returns:
        At most `EXAMPLES` of those that supervise something, from the first to the last one in the pack.
    """
    ends, labels = np.asarray(pack["subtree_end"]), np.asarray(pack["shift_labels"])
    leaves = np.flatnonzero(ends == np.arange(len(ends)) + 1)
    paths = [np.flatnonzero(ends[: leaf + 1] > leaf) for leaf in leaves]
    paths = [path for path in paths if (labels[path] != IGNORE).any()]
    if not paths:
        raise UserError("the pack for the self-check supervises nothing; expected answers in it: run notebook 02 again")
    chosen = np.unique(np.linspace(0, len(paths) - 1, EXAMPLES).round().astype(int))
    return [paths[index] for index in chosen]


def _of_pack(model: Any, pack: Pack, paths: list[NDArray[np.int64]], *, device: str) -> Tensor:
    """The pack as training runs it; only the chosen examples are supervised."""
    labels, weights = np.full_like(pack["shift_labels"], IGNORE), np.zeros_like(pack["loss_weight"])
    for path in paths:
        labels[path] = np.asarray(pack["shift_labels"])[path]
        weights[path] += 1  # a token that several of them predict counts as often
    changed = {**pack, "shift_labels": labels, "loss_weight": weights}
    columns = {name: np.asarray(column)[None] for name, column in changed.items()}
    loss: Tensor = model(micro_batch=lay_out(columns).to(device)).loss
    return loss


def _of_example(model: Any, pack: Pack, path: NDArray[np.int64], *, device: str) -> Tensor:
    """One example alone: none of our attention, blocks, layout or loss."""
    causal_lm = model.get_base_model()
    tokens, labels = (
        torch.from_numpy(np.asarray(pack[name], np.int64)[path]) for name in ("input_ids", "shift_labels")
    )
    states = causal_lm.model(input_ids=tokens[None].to(device), use_cache=False).last_hidden_state[0]
    supervised = labels != IGNORE
    head = causal_lm.lm_head.weight
    logits = states[supervised.to(device)].to(head.dtype) @ head.T
    exact = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(exact), labels[supervised].to(device), reduction="sum")


def _loss_backward(forward: Any, *, scale: float, dtype: str, device: str) -> float:
    """Adds the gradient of a summed loss, times a scale, to those of the adapter, and returns the loss."""
    half = dtype in ("float16", "bfloat16")
    with torch.autocast(device.split(":")[0], dtype=getattr(torch, dtype), enabled=half):
        loss = forward()
    (loss * scale).backward()
    return float(loss.detach())


def _taken_gradient(parameter: Any) -> Tensor:
    """The gradient of a matrix, which then has none; zeros if it has none already."""
    gradient: Tensor = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    parameter.grad = None
    return gradient.detach()
