"""TRL's `SFTTrainer` on packs, a whole optimizer step at a time.

Four things are ours: the order of the packs, the optimizer step on packs (`step.py`), adapters that stay in float32,
and sealed checkpoints. The loop, the optimizer, the schedule, mixed precision and the start of several processes are
TRL's, transformers' and accelerate's.
"""

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.mix import even_order
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.plan.plan import Plan
from fintune_kit.recipes import TrainRecipe
from fintune_kit.train.callbacks import Clock
from fintune_kit.train.checkpoints import explaining_a_full_disk, partial_folder, seal
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.model import adapter_parameters
from fintune_kit.train.step import StepMemory, StepRunner

log = logging.getLogger(__name__)


def step_order(strata: np.ndarray, *, epochs: int, seed: int, packs_per_step: int) -> np.ndarray:
    """The order in which packs are read. It is a pure function, so a resumed run reads the same packs.

        [ step 1: 0 1 2 3 | step 2: 4 5 6 2 | step 3: 0 5 1 -1 ]     7 packs, 2 epochs, 4 packs a step

    The first pass reads the packs in the order on disk, which is mixed already (`pack.mix`). Each later pass has
    another mixed order. The last step is padded with -1, an empty pack, so that all steps have the same shape.

    Args:
        strata: `[packs, strata]` the number of examples of each stratum in each pack.

    Returns:
        int64 `[steps * packs_per_step]`, indices of packs.
    """
    passes = [np.arange(len(strata))]
    passes += [even_order(strata, seed=[seed, epoch]) for epoch in range(1, epochs)]
    order = np.concatenate(passes)
    missing = -len(order) % packs_per_step
    return np.concatenate([order, np.full(missing, -1)])


def in_training_order(packs: Dataset, order: np.ndarray) -> Dataset:
    """The packs in training order, without a copy in memory. -1 becomes a pack without supervised tokens."""
    length = len(packs[0]["input_ids"])
    empty = {
        "input_ids": [packs[0]["input_ids"][-1:] * length],
        "position_ids": [[0] * length],
        "subtree_end": [list(range(1, length + 1))],
        "shift_labels": [[IGNORE] * length],
        "loss_weight": [[0] * length],
    }
    packs = packs.select_columns(list(COLUMNS))
    with_empty = concatenate_datasets([packs, Dataset.from_dict(empty, features=packs.features)])
    return with_empty.select(np.where(order < 0, len(packs), order)).with_format("numpy")


def stack_columns(packs: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of some packs, `[packs, length]` each, as arrays: accelerate leaves these on the CPU."""
    return {name: np.stack([pack[name] for pack in packs]) for name in COLUMNS}


def stack_packs(packs: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """The columns of some packs as int64 tensors, `[packs, length]` each."""
    return {name: torch.from_numpy(np.stack([pack[name] for pack in packs])).long() for name in COLUMNS}


def training_arguments(
    recipe: TrainRecipe, plan: Plan, *, output: Path, seed: int, report_to: str = "none"
) -> SFTConfig:
    """The recipe and the plan as TRL's arguments. They say one epoch, because the order holds all passes already."""
    return SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=plan.packs_per_step // plan.processes,  # a whole step, see `step.py`
        gradient_accumulation_steps=1,
        num_train_epochs=1,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=math.ceil(recipe.warmup_ratio * plan.optimizer_steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=recipe.optimizer,
        fp16=plan.dtype == "float16",
        bf16=plan.dtype == "bfloat16",  # if unset, TRL turns it on
        activation_checkpointing=False,  # `blocks.recompute` does it, for as many blocks as the plan says
        use_cpu=plan.device == "cpu",
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a loss that is not finite is logged as another number
        save_strategy="no",  # the clock decides when to save
        report_to=report_to,
        remove_unused_columns=False,  # else our own columns are dropped silently
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=0,
        dataloader_pin_memory=False,  # micro-batches are pinned, see `step.py`
        max_length=None,
        packing=False,  # the packs are ready
    )


@contextmanager
def _kept_from_trl(model: PeftModel) -> Iterator[None]:
    """Restores the model's adapter and its forward after the block, because TRL's constructor changes both.

    TRL rounds the adapters of a quantized model to bfloat16, which a gradient scaler cannot unscale. And it gives the
    model another forward, whose kernels need Triton.
    """
    forward_over_packs = model.get_base_model().forward
    float32_adapter = {name: value.detach().clone() for name, value in adapter_parameters(model).items()}
    yield
    for name, parameter in adapter_parameters(model).items():
        parameter.data = float32_adapter[name]
    model.get_base_model().forward = forward_over_packs


class PackTrainer(SFTTrainer):
    """Trains on packs. The model must be able to read them (`loss.enable_packs`)."""

    def __init__(
        self,
        *,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        packs: Dataset,
        arguments: SFTConfig,
        checkpoints: Path,
        identity: Mapping[str, Any],
        clock: Clock,
        guard: NonFiniteGuard,
        memory: StepMemory,
        note_memory: Callable[[StepMemory], None] = lambda _memory: None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """
        Args:
            packs: in training order (`in_training_order`).
            arguments: from `training_arguments`.
            checkpoints: the folder of sealed checkpoints.
            identity: of the run; each checkpoint holds it.
            clock: decides when to save and stop; it is told how long a save took.
            guard: decides whether a step's gradient may be applied.
            memory: how much of a step is on the card at once.
            note_memory: called after memory ran out and `memory` was lowered.
        """
        with _kept_from_trl(model):
            super().__init__(
                model=model,
                args=arguments,
                train_dataset=packs,
                processing_class=tokenizer,
                data_collator=stack_columns,
                callbacks=[clock, *callbacks],
            )
        self.remove_callback(PrinterCallback)
        self._checkpoints, self._identity, self._clock, self._guard = checkpoints, identity, clock, guard
        # No DDP wrapper: a step sums its gradients itself, after its last micro-batch.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        self._steps = StepRunner(
            self.model,
            accelerator=self.accelerator,
            guard=guard,
            memory=memory,
            max_grad_norm=arguments.max_grad_norm,
            seed=arguments.seed,
            note=note_memory,
        )
        self._norm = torch.zeros(())

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Trains as the base class does. A signal stops it after the running step, with a checkpoint."""
        with self._clock.catching_signals():
            return super().train(*arguments, **options)

    def load_adapter_of(self, checkpoint: Path) -> None:
        """Loads the adapter of a checkpoint into the model, without training further."""
        self._load_from_checkpoint(str(checkpoint))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def training_step(
        self, model: nn.Module, inputs: dict[str, np.ndarray], num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        """One whole optimizer step. transformers' loop sees a single batch; `StepRunner` cuts it into micro-batches."""
        model.train()
        loss, self._norm = self._steps.run(model, inputs, step=self.state.global_step)
        # The log takes the mean over processes, but this loss is a share of a sum.
        return loss * self.accelerator.num_processes

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Returns the norm before clipping. The step has clipped already."""
        return self._norm

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """Returns None, because the step counts its supervised tokens itself."""

    def floating_point_ops(self, inputs: dict[str, np.ndarray]) -> int:
        """Returns 0; `plan.time` estimates the operations."""
        return 0

    def _get_output_dir(self, trial: Any) -> str:
        return str(partial_folder(self._checkpoints))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes a checkpoint in the partial folder, then seals it."""
        started = time.monotonic()
        partial = partial_folder(self._checkpoints)
        if self.is_world_process_zero():
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        step = self.state.global_step
        with explaining_a_full_disk(self._checkpoints, step=step):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                seal(partial / f"checkpoint-{step}", self._checkpoints, step=step, identity=self._identity)
        self.accelerator.wait_for_everyone()
        self._clock.note_save(time.monotonic() - started)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Loads the scale of the loss where this plan scales it. A checkpoint from float16 has one, others do not."""
        if self.accelerator.scaler is not None:
            super()._load_scaler(checkpoint)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: `publish.model_card` writes the model card after the evaluation."""
