"""Stage 3 from end to end: packs in, a run's log, its checkpoints and the adapter out.

packed/  ->  run/      plan.json   what is learned (recipe, packs, base) and how this machine does it
                       log.jsonl   a line a step
                       checkpoints/
                       best/       the adapter with the lowest held-out loss so far
                       manifest.json, when the last step is done
         ->  adapter/  adapter_model.safetensors, adapter_config.json, the tokenizer's files, manifest.json
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from peft import PeftModel

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.errors import UserError
from fintune_kit.hardware import find_machine
from fintune_kit.pack.store import Packed, PackedSplit, open_packed
from fintune_kit.plan.counts import PackCounts
from fintune_kit.plan.devices import device_of
from fintune_kit.plan.plan import Plan, make_plan
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import Recipe
from fintune_kit.train.blocks.packed import use_packed_blocks
from fintune_kit.train.blocks.weights import keep_ready
from fintune_kit.train.callbacks import Clock, StepLog, read_log
from fintune_kit.train.checkpoints import partial_folder
from fintune_kit.train.estimate import FirstSteps
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.model import accumulate_in_half, add_adapter, check_dtypes, load_base, load_config
from fintune_kit.train.outcome import Outcome, TrainedAdapter, finish, finished_before
from fintune_kit.train.preflight import preflight
from fintune_kit.train.run_folder import identity_of, lower_memory, open_run, plan_of_run
from fintune_kit.train.step import StepMemory
from fintune_kit.train.trainer import PackTrainer, in_training_order, step_order, training_arguments
from fintune_kit.train.validation import (
    Validator,
    load_best_adapter,
    losses_of_packs,
    mean_loss,
    save_best_adapter,
    tasks_of,
    validation_schedule,
)
from fintune_kit.workspace import MANIFEST, newest_checkpoint, step_of


def plan_here(recipe: Recipe, *, packed: Packed, base: str | Path, processes: int | None = None) -> Plan:
    """The plan for this machine, from the packs and the base model's config.

    Args:
        processes: how many are to run; None for one a card.
    """
    counts = PackCounts.of_manifest(packed.manifest)
    device = device_of(find_machine(), processes=processes)
    return make_plan(recipe, shape=ModelShape.of(load_config(base)), counts=counts, device=device)


def train(
    recipe: Recipe,
    *,
    packed: Path,
    base: str | Path,
    run: Path,
    adapter: Path,
    budget_seconds: float | None = None,
    minutes_between_checkpoints: float = 20.0,
    stop_after: int | None = None,
    fresh: bool = False,
    report_to: str = "none",
) -> Outcome:
    """Trains, or goes on from the newest whole checkpoint.

    Args:
        packed: stage 2's folder.
        base: hub id or folder of the base model.
        run: log, plan and checkpoints.
        adapter: where the adapter goes when the last step is done.
        budget_seconds: stop while there is time to save; None for no limit.
        stop_after: stop after this many optimizer steps of the whole run, with a checkpoint; None runs to the end.
        fresh: forget what `run` holds.
        report_to: `none`, `tensorboard` or `wandb`; they are given the numbers of `log.jsonl`.

    Raises:
        UserError: the packs do not fit the recipe, the machine cannot run it, or `run` holds another run.
    """
    # first of all: loading counts against the budget
    clock = Clock(
        minutes_between_checkpoints=minutes_between_checkpoints, budget_seconds=budget_seconds, stop_after=stop_after
    )
    encoder, packs = open_inputs(recipe, packed=packed, base=base)
    machine = find_machine()
    processes = PartialState(cpu=not machine.cards)
    plan = plan_here(recipe, packed=packs, base=base, processes=processes.num_processes)
    if plan.processes != processes.num_processes:
        raise UserError(
            f"{processes.num_processes} processes were started, expected {plan.processes}, which a step of "
            f"{plan.packs_per_step} pack(s) can be shared among: start it with --processes {plan.processes}"
        )
    if processes.is_main_process:
        preflight(machine, recipe.train, plan)
    with processes.main_process_first():
        if processes.is_main_process:
            open_run(run, identity=identity_of(recipe, packed=packed, base=base), plan=plan, fresh=fresh)
    plan = plan_of_run(run, plan)
    if (run / MANIFEST).is_file() and (adapter / MANIFEST).is_file():
        return finished_before(run, plan=plan)

    device = f"cuda:{processes.local_process_index}" if machine.cards else "cpu"
    model = load_for_training(recipe, plan, base=base, device=device)
    validator = make_validator(recipe, plan, model=model, packs=packs, run=run, device=device, processes=processes)
    order = step_order(
        packs.train.strata, epochs=recipe.train.epochs, seed=recipe.seed, packs_per_step=plan.packs_per_step
    )
    log = run / "log.jsonl"
    guard = NonFiniteGuard()
    trainer = PackTrainer(
        model=model,
        tokenizer=encoder.tokenizer,
        packs=in_training_order(packs.train.rows, order),
        arguments=training_arguments(
            recipe.train, plan, output=partial_folder(run / "checkpoints"), seed=recipe.seed, report_to=report_to
        ),
        checkpoints=run / "checkpoints",
        clock=clock,
        guard=guard,
        memory=StepMemory(micro_batch=plan.micro_batch, blocks=plan.recompute.blocks),
        note_memory=partial(_note_memory, run, processes),
        callbacks=[
            validator,
            step_log(
                log, packs.train, order=order, plan=plan, recipe=recipe, guard=guard, validation_of=validator.record_of
            ),
            FirstSteps(plan, read=partial(read_log, log)),
        ],
    )
    steps_done = _train_on(trainer, validator=validator, checkpoint=newest_checkpoint(run / "checkpoints"), log=log)
    check_dtypes(model, dtype=plan.dtype, quantization=recipe.train.quantization)
    finished = validator.stopped_early or steps_done == plan.optimizer_steps
    if not (finished and processes.is_main_process):
        return Outcome(finished=finished, steps_done=steps_done, plan=plan, log=read_log(log), validation_loss=None)
    if recipe.train.keep == "best":
        load_best_adapter(model, run)
    loss, tokens = mean_loss(
        model, packs.validation.rows, micro_batch=plan.micro_batch, device=device, dtype=plan.dtype
    )
    trained = TrainedAdapter(write=partial(_write_peft, model), validation=(loss, tokens), machine=machine.name)
    return finish(
        trained, recipe=recipe, plan=plan, encoder=encoder, packed=packed, base=base, run=run, adapter=adapter
    )


def _train_on(trainer: PackTrainer, *, validator: Validator, checkpoint: Path | None, log: Path) -> int:
    """Trains from a checkpoint, or from the start; returns the optimizer steps that are done."""
    if checkpoint is None:
        trainer.train()
        return trainer.state.global_step
    done = step_of(checkpoint)
    validator.resume([record for record in read_log(log) if record["step"] <= done])
    if validator.stopped_early:  # the run was over, and was killed before its adapter was written
        trainer.load_adapter_of(checkpoint)
        return done
    trainer.train(resume_from_checkpoint=str(checkpoint))
    return trainer.state.global_step


def _note_memory(run: Path, processes: PartialState, memory: StepMemory) -> None:
    if processes.is_main_process:
        lower_memory(run, micro_batch=memory.micro_batch, blocks=memory.blocks)


def make_validator(
    recipe: Recipe,
    plan: Plan,
    *,
    model: PeftModel,
    packs: Packed,
    run: Path,
    device: str,
    processes: PartialState,
) -> Validator:
    """What measures the held-out loss while the run trains; several processes measure some packs each."""
    rank, count = processes.process_index, processes.num_processes

    def losses_of(chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        found = np.zeros((2, len(chosen)))
        found[:, rank::count] = losses_of_packs(
            model, packs.validation.rows, chosen[rank::count], device=device, dtype=plan.dtype
        )
        if count > 1:
            found = reduce(torch.from_numpy(found).to(device), "sum").cpu().numpy()
        return found[0], found[1].astype(np.int64)

    def save_best(step: int, loss: float) -> None:
        if processes.is_main_process:
            save_best_adapter(model, run, step=step, loss=loss)

    return Validator(
        validation_schedule(recipe.train, packed=packs, optimizer_steps=plan.optimizer_steps),
        tasks=tasks_of(packs),
        losses_of=losses_of,
        save_best=save_best if recipe.train.keep == "best" else None,
        patience=recipe.train.patience,
    )


def load_for_training(recipe: Recipe, plan: Plan, *, base: str | Path, device: str) -> PeftModel:
    """The frozen base with a new adapter, recomputing what the plan says."""
    quantization = recipe.train.quantization
    model = load_base(base, dtype=plan.dtype, quantization=quantization, device=device, head_chunk=plan.head_chunk)
    model = add_adapter(model, recipe.lora, seed=recipe.seed)
    check_dtypes(model, dtype=plan.dtype, quantization=quantization)
    keep_ready(model, dense=plan.dense_weights)
    use_packed_blocks(model.get_base_model(), dtype=getattr(torch, plan.dtype))
    accumulate_in_half(recipe.train.half_accumulation)
    return model


def step_log(
    path: Path,
    split: PackedSplit,
    *,
    order: np.ndarray,
    plan: Plan,
    recipe: Recipe,
    guard: NonFiniteGuard,
    validation_of: Callable[[int], dict[str, Any]] = lambda _step: {},
) -> StepLog:
    """The step log of a run: what each optimizer step holds is known before it runs."""
    return StepLog(
        path,
        supervised_tokens=_by_step(split.supervised_tokens, order, plan.packs_per_step),
        examples=_by_step(split.examples, order, plan.packs_per_step),
        positions=plan.packs_per_step * recipe.pack.max_length,
        guard=guard,
        validation_of=validation_of,
    )


def _by_step(of_packs: np.ndarray, order: np.ndarray, packs_per_step: int) -> list[int]:
    """Sums a count of each pack over the packs of each step; -1 in the order is an empty pack."""
    counts = np.append(np.asarray(of_packs), 0)[order]
    return [int(total) for total in counts.reshape(-1, packs_per_step).sum(axis=1)]


def open_inputs(recipe: Recipe, *, packed: Path, base: str | Path) -> tuple[ChatEncoder, Packed]:
    """The tokenizer and the packs, every byte checked.

    Raises:
        UserError: the packs were made with another tokenizer, or for another length than the recipe's.
    """
    encoder = ChatEncoder.load(recipe.tokenizer or base)
    packs = open_packed(packed, fingerprint=encoder.fingerprint, verify=True)
    length = packs.manifest["max_length"]
    if length != recipe.pack.max_length:
        raise UserError(
            f"{packed} holds packs of {length} positions, the recipe {recipe.name!r} expects {recipe.pack.max_length}: "
            f"run notebook 02 again with this recipe"
        )
    return encoder, packs


def _write_peft(model: Any, folder: Path, base: str) -> int:
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's; ours is written with the scores
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
