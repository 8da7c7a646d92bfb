"""One optimizer step on this process's packs: forward and backward passes of its micro-batches, then clipping.

    packs of the step --> micro-batch 1, 2, ... (the CPU lays out the next one while this one is computed)
                          forward, backward --> gradients, summed over the processes --> clipped

If memory runs out, the step is repeated with a smaller micro-batch. If a scaled gradient overflows, the step is
repeated at half the scale. The result stays the same, to rounding: each loss is divided by the supervised tokens of the
whole step, and dropout's noise is a function of the seed, the step and the pack.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import distributed as dist

from fintune_kit.chat.examples import IGNORE
from fintune_kit.errors import UserError
from fintune_kit.train.batch import MicroBatch, lay_out
from fintune_kit.train.blocks.recompute import blocks_of, recompute_blocks
from fintune_kit.train.blocks.split import is_split
from fintune_kit.train.guards import NonFiniteGuard, device_for_messages
from fintune_kit.train.model import adapter_parameters

log = logging.getLogger(__name__)

Columns = Mapping[str, NDArray[np.integer]]
"""The columns of some packs, `[packs, length]` each."""
BUCKET_BYTES = 64 * 2**20
"""Size of one message, in which gradients are summed over the processes."""


@dataclass(kw_only=True)
class StepMemory:
    """How much of a step is on a card at once. It is lowered when memory runs out."""

    micro_batch: int
    """Packs in one forward pass."""
    blocks: int
    """Blocks that keep only their input, and are computed again in the backward pass."""


class StepRunner:
    """Runs the forward and backward passes of optimizer steps."""

    def __init__(
        self,
        model: nn.Module,
        *,
        accelerator: Any,
        guard: NonFiniteGuard,
        memory: StepMemory,
        max_grad_norm: float,
        seed: int,
        note: Callable[[StepMemory], None] = lambda _memory: None,
    ) -> None:
        """
        Args:
            model: a PEFT model that reads packs, with its adapter in float32.
            accelerator: accelerate's, which scales losses in float16.
            memory: used by the first step. A change stays for all later steps.
            max_grad_norm: gradients are clipped to this norm.
            seed: of dropout's noise.
            note: called after each change of `memory`.
        """
        self.memory = memory
        self._adapter = list(adapter_parameters(model).values())
        self._blocks = blocks_of(model)
        self._in_step = is_split(model)
        self._accelerator, self._guard = accelerator, guard
        self._max_grad_norm, self._seed, self._note = max_grad_norm, seed, note
        self._device: torch.device = accelerator.device
        self._reader = ThreadPoolExecutor(max_workers=1)
        recompute_blocks(self._blocks, memory.blocks)

    def run(self, model: nn.Module, packs: Columns, *, step: int) -> tuple[Tensor, Tensor]:
        """Leaves the step's clipped gradient in the adapter. A gradient that is not finite is removed.

        Args:
            model: prepared by the accelerator.
            packs: of this process.
            step: optimizer steps done, for the noise.

        Returns:
            (this process's share of the loss, the norm of the gradient before clipping).

        Raises:
            UserError: one pack does not fit, or several steps in a row had no finite gradient.
        """
        self._guard.begin_step()
        tokens = self._sum(int(packs["loss_weight"].sum()))
        while True:
            self._forget_gradients()
            loss = self._sum_of_micro_batches(model, packs, step=step, tokens=tokens)
            if loss is None and self._in_step:
                self._give_up(len(packs["shift_labels"]))
            if self._sum(int(loss is None)):  # in any process
                self._need_less_memory(len(packs["shift_labels"]))
                continue
            assert loss is not None
            sum_gradients(self._adapter)
            norm = self._accelerator.clip_grad_norm_(self._adapter, self._max_grad_norm)
            scaler = self._accelerator.scaler
            if scaler is not None and self._guard.wants_repeat(loss=loss, norm=norm):
                scaler.update()  # halves the scale
                continue
            if not self._guard.accepts(norm):
                self._forget_gradients()  # without gradients the optimizer changes neither weights nor its own state
            return loss, norm

    def _sum_of_micro_batches(self, model: nn.Module, packs: Columns, *, step: int, tokens: int) -> Tensor | None:
        """Runs all micro-batches and returns the summed loss, or None if memory ran out."""
        total = torch.zeros((), device=self._device)
        try:
            for first, batch in self._micro_batches(packs):
                noise = noise_seed(self._seed, step=step, process=self._accelerator.process_index, pack=first)
                loss = model(micro_batch=batch, noise_seed=noise).loss / max(1, tokens)
                self._accelerator.backward(loss)
                total += loss.detach()
        except torch.OutOfMemoryError:
            return None
        return total

    def _micro_batches(self, packs: Columns) -> Iterator[tuple[int, MicroBatch]]:
        """(index of its first pack, micro-batch on the device). Packs without supervised tokens are left out.

        They are kept if processes share the weights out: then all processes need the same number of micro-batches.
        """
        wanted = np.flatnonzero((packs["shift_labels"] != IGNORE).any(axis=1) | self._in_step)
        size = self.memory.micro_batch
        parts = [wanted[first : first + size] for first in range(0, len(wanted), size)]
        coming = [self._reader.submit(self._read, packs, part) for part in parts[:1]]
        for number, part in enumerate(parts):
            batch = coming.pop().result()
            if number + 1 < len(parts):
                coming.append(self._reader.submit(self._read, packs, parts[number + 1]))
            yield int(part[0]), batch.to(self._device)

    def _read(self, packs: Columns, part: NDArray[np.integer]) -> MicroBatch:
        batch = lay_out({name: column[part] for name, column in packs.items()})
        return batch.pinned() if self._device.type == "cuda" else batch

    def _need_less_memory(self, packs: int) -> None:
        """Halves the micro-batch. If it is a single pack already, recomputes more blocks.

        Args:
            packs: the number of packs in this process's step, a multiple of the micro-batch.

        Raises:
            UserError: all blocks are recomputed already.
        """
        self._forget_gradients()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        count, memory = len(self._blocks), self.memory
        if memory.micro_batch == 1 and memory.blocks == count:
            raise UserError(
                f"out of memory with one pack and all {count} blocks recomputed; expected the plan to fit: take a "
                f"smaller base or --max-length, or close what else uses the card; checkpoints are kept"
            )
        if memory.micro_batch > 1:
            memory.micro_batch = max(size for size in range(1, memory.micro_batch // 2 + 1) if packs % size == 0)
        else:
            memory.blocks = min(count, memory.blocks + max(1, count // 4))
        recompute_blocks(self._blocks, memory.blocks)
        log.warning(
            "out of memory: from here on %d pack(s) at once and %d of %d blocks recomputed; the step is repeated",
            memory.micro_batch,
            memory.blocks,
            count,
        )
        self._note(memory)

    def _give_up(self, packs: int) -> NoReturn:
        """Ends the run, because memory ran out while other processes wait for this one's part of a weight.

        Raises:
            UserError: always. Before that, the next start is told to use less memory in a step.
        """
        self._need_less_memory(packs)
        raise UserError(
            "out of memory, with a base that is shared out among the processes, where a step cannot be repeated; "
            "expected the plan to fit: run the same command again, which goes on from the newest checkpoint with less "
            "in memory"
        )

    def _forget_gradients(self) -> None:
        for parameter in self._adapter:
            parameter.grad = None

    def _sum(self, count: int) -> int:
        """A count, summed over the processes."""
        if self._accelerator.num_processes == 1:
            return count
        total = torch.tensor(count, device=device_for_messages())
        dist.all_reduce(total)
        return int(total)


def noise_seed(seed: int, *, step: int, process: int, pack: int) -> int:
    """The seed of dropout's noise for a micro-batch. It is a pure function, so a repeated step draws the same noise."""
    return int(np.random.SeedSequence([seed, step, process, pack]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sums the gradients of all processes, so that each process has the sum. A missing gradient counts as zero.

    It runs once in a step, after all micro-batches, so no process waits for another one that ran out of memory.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
