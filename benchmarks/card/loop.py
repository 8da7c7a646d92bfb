"""Our optimizer step on a card, without the trainer around it: its time, its profile and its memory.

Model, step and optimizer are those of a real run (`train.step`, `train.blocks`). TRL and `datasets` are not needed.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.card.world import Columns, Result, Setting, peak_gib, quantization


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the steps are carried out."""

    dtype: str
    micro_batch: int
    blocks: int
    """Blocks that are computed again in the backward pass."""
    dense_weights: bool = False
    packs_per_step: int = 4


class Loop:
    """A model with a new adapter, and its optimizer steps."""

    def __init__(self, setting: Setting, way: Way, *, base: Path, dropout: float = 0.05) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        from fintune_kit.recipes import LoraRecipe
        from fintune_kit.train.blocks.packed import use_packed_blocks
        from fintune_kit.train.blocks.weights import keep_ready
        from fintune_kit.train.guards import NonFiniteGuard
        from fintune_kit.train.model import add_adapter, choose_kernels, load_base
        from fintune_kit.train.step import StepMemory, StepRunner

        self.setting, self.way, self.steps_done = setting, way, 0
        rank = 4 if setting.rehearse else 64
        model = load_base(base, dtype=way.dtype, quantization=quantization(), device=setting.device)
        model = add_adapter(model, LoraRecipe(rank=rank, alpha=2 * rank, dropout=dropout), seed=0)
        if quantization() == "nf4":
            keep_ready(model, dense=way.dense_weights)
        use_packed_blocks(model.get_base_model(), dtype=getattr(torch, way.dtype))
        choose_kernels(half_accumulation=False)
        mixed = {"float16": "fp16", "bfloat16": "bf16", "float32": "no"}[way.dtype]
        AcceleratorState._reset_state(reset_partial_state=True)  # one process tries several precisions
        accelerator = Accelerator(mixed_precision=mixed, cpu=setting.device == "cpu")
        self.adapter = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = accelerator.prepare(make_optimizer(self.adapter))
        self.plain_model = model
        self.model = accelerator.prepare_model(model, evaluation_mode=True).train()
        memory = StepMemory(micro_batch=way.micro_batch, blocks=way.blocks)
        self.runner = StepRunner(
            model, accelerator=accelerator, guard=NonFiniteGuard(), memory=memory, max_grad_norm=1.0, seed=0
        )

    def step(self, packs: Columns) -> float:
        """One whole optimizer step; returns its loss."""
        loss, _ = self.runner.run(self.model, packs, step=self.steps_done)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps_done += 1
        return float(loss)

    def run(self, packs: Columns, *, steps: int) -> Result:
        """Some steps, timed one by one. The first one warms up and is not counted."""
        import torch

        if self.setting.device != "cpu":
            torch.cuda.reset_peak_memory_stats()  # what was needed to load is not meant
        size = self.way.packs_per_step
        losses, seconds = [], []
        for number in range(steps):
            chosen = np.arange(number * size, (number + 1) * size) % len(packs["input_ids"])
            part = {name: column[chosen] for name, column in packs.items()}
            began = time.perf_counter()
            losses.append(self.step(part))
            wait(self.setting.device)
            seconds.append(time.perf_counter() - began)
        a_pack = float(np.median(seconds[1:])) / size
        return {
            "losses": losses,
            "seconds_a_step": seconds,
            "seconds_a_pack": a_pack,
            "positions_a_second": packs["input_ids"].shape[1] / a_pack,
            "peak_gib": peak_gib(),
            "quantization": quantization(),
            "after_running_out_of_memory": vars(self.runner.memory),
        }


def make_optimizer(adapter: list[Any]) -> Any:
    """The recipe's paged 8-bit AdamW where bitsandbytes is there, else PyTorch's."""
    import torch

    if quantization() == "nf4":
        import bitsandbytes as bnb

        return bnb.optim.PagedAdamW8bit(adapter, lr=2e-4, weight_decay=0.01)
    return torch.optim.AdamW(adapter, lr=2e-4, weight_decay=0.01)


def wait(device: str) -> None:
    """Until the card has done what it was given."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def busy_and_wall(loop: Loop, packs: Columns) -> Result:
    """One step of a single pack under the profiler: how long the card computed, beside the clock."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    one = {name: column[:1] for name, column in packs.items()}
    loop.step(one)
    began = time.perf_counter()
    loop.step(one)
    wait(loop.setting.device)
    wall = time.perf_counter() - began
    on_card = torch.cuda.is_available()
    watched = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_card else [ProfilerActivity.CPU]
    with profile(activities=watched) as recorded:
        loop.step(one)
        wait(loop.setting.device)
    kernels = [event for event in recorded.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    spans = sorted((event.time_range.start, event.time_range.end) for event in kernels)
    by_name = sorted(
        recorded.key_averages(), key=lambda e: -(e.self_device_time_total if on_card else e.self_cpu_time_total)
    )
    top = {e.key: (e.self_device_time_total if on_card else e.self_cpu_time_total) / 1000 for e in by_name[:15]}
    return {
        "wall_seconds": wall,
        "busy_seconds": covered(spans) / 1e6,
        "kernels": len(kernels),
        "milliseconds_by_kernel": top,
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of intervals that are sorted by their start."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
