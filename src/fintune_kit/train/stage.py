"""Stage 3 from end to end: it reads packs, and writes the log, the checkpoints and the adapter of a run.

packed/  ->  run/      plan.json        recipe, packs and base, and the plan for this machine
                       sessions.jsonl   a line for each session
                       activations.json, in float16: how near a pack comes to the end of its range
                       log.jsonl        a line for each step
                       checkpoints/
                       best/            the adapter with the lowest validation loss so far
                       manifest.json, after the last step
         ->  adapter/  adapter_model.safetensors, adapter_config.json, the tokenizer's files, manifest.json
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from peft import PeftModel

from fintune_kit.errors import UserError
from fintune_kit.hardware import Machine, find_machine
from fintune_kit.pack.store import Packed
from fintune_kit.plan.counts import PackCounts
from fintune_kit.plan.devices import device_of
from fintune_kit.plan.engines import find_device
from fintune_kit.plan.plan import Plan, make_plan
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import Recipe
from fintune_kit.train.blocks.packed import use_packed_blocks
from fintune_kit.train.blocks.split import split_weights
from fintune_kit.train.blocks.weights import keep_ready
from fintune_kit.train.callbacks import Clock
from fintune_kit.train.checkpoints import partial_folder
from fintune_kit.train.estimate import FirstSteps
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.job import Job, open_job
from fintune_kit.train.machine.other_card import as_device, behave_as, other_card
from fintune_kit.train.machine.ranges import keep_in_range
from fintune_kit.train.machine.self_check import make_sure_of_packs, pack_with_answers
from fintune_kit.train.model import (
    adapter_parameters,
    add_adapter,
    check_dtypes,
    choose_kernels,
    load_base,
    load_config,
)
from fintune_kit.train.outcome import Outcome, TrainedAdapter, finish, finished_before
from fintune_kit.train.preflight import preflight
from fintune_kit.train.record.log import NAME as LOG
from fintune_kit.train.record.log import StepLog, read_log
from fintune_kit.train.run_folder import go_on, lower_memory, open_run, plan_of_run
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
from fintune_kit.workspace import Workspace, newest_checkpoint, step_of, write_json

log = logging.getLogger(__name__)


def plan_here(
    recipe: Recipe, *, packed: Packed, base: str | Path, processes: int | None = None, device_name: str | None = None
) -> Plan:
    """The plan for this machine, from the packs and the base model's config.

    Args:
        processes: the number of processes; None for one on each card.
        device_name: plan for this device instead of the machine's own (`machine.other_card`).
    """
    counts = PackCounts.of_manifest(packed.manifest)
    machine = find_machine()
    device = other_card(device_name, machine) if device_name else device_of(machine, processes=processes)
    return make_plan(recipe, shape=ModelShape.of(load_config(base)), counts=counts, device=device)


def train(
    recipe: Recipe,
    workspace: Workspace,
    *,
    packed: Path | None = None,
    base: str | Path | None = None,
    budget_seconds: float | None = None,
    minutes_between_checkpoints: float = 20.0,
    stop_after: int | None = None,
    fresh: bool = False,
    device_name: str | None = None,
    report_to: str = "none",
) -> Outcome:
    """Trains, or resumes from the newest whole checkpoint. Writes `run/` and `adapter/` of the workspace.

    Args:
        packed: stage 2's folder; None takes that of the workspace or of an attached input.
        base: hub id or folder of the base model; None takes the recipe's.
        budget_seconds: time for this call, saving included; None for no limit.
        minutes_between_checkpoints: a killed run loses about this much work at most.
        stop_after: stop with a checkpoint after this many optimizer steps of the whole run; None runs to the end.
        fresh: delete what `run/` holds.
        device_name: train as on this device (`machine.other_card`); None for this machine's own.
        report_to: `none`, `tensorboard` or `wandb`, which then also get the numbers of `log.jsonl`.

    Raises:
        MissingInputError: the packs are missing or unfinished.
        UserError: the packs do not fit the recipe, the machine cannot run the plan, or `run/` holds another run.
    """
    # The clock starts first, because loading counts against the budget.
    clock = Clock(
        minutes_between_checkpoints=minutes_between_checkpoints, budget_seconds=budget_seconds, stop_after=stop_after
    )
    job = open_job(recipe, workspace, packed=packed, base=base)
    machine, processes = _start(device_name)
    plan = _begin(job, machine, processes, fresh=fresh, device_name=device_name)
    if earlier := finished_before(job, plan=plan):
        return earlier
    _begin_session(job, plan, machine, processes)
    device = f"cuda:{processes.local_process_index}" if machine.cards else "cpu"
    model = load_for_training(recipe, plan, base=job.base, device=device, rank=processes.process_index)
    _try_a_pack(model, job=job, plan=plan, device=device, writes=processes.is_main_process)
    validator = make_validator(job, plan, model=model, device=device, processes=processes)
    trainer = _make_trainer(
        job, plan, model=model, clock=clock, validator=validator, processes=processes, report_to=report_to
    )
    steps_done = _train_on(trainer, validator=validator, run=job.run)
    check_dtypes(model, dtype=plan.dtype, quantization=recipe.train.quantization)
    finished = validator.stopped_early or steps_done == plan.optimizer_steps
    together = finished and (processes.is_main_process or plan.split_weights)
    validation = _validate(model, job=job, plan=plan, device=device) if together else None
    if validation is None or not processes.is_main_process:
        records = read_log(job.run / LOG)
        return Outcome(finished=finished, steps_done=steps_done, plan=plan, log=records, validation_loss=None)
    trained = TrainedAdapter(write=partial(_write_peft, model), validation=validation, machine=machine.name)
    return finish(trained, job=job, plan=plan)


def _begin_session(job: Job, plan: Plan, machine: Machine, processes: PartialState) -> None:
    """Restores the log and notes the session, in the first process. The others wait, because they read the log.

    Raises:
        UserError: the base or a file of the newest checkpoint is not that of the run.
    """
    with processes.main_process_first():
        if processes.is_main_process:
            go_on(job.run, base=job.base, plan=plan, machine=machine.name)


def _try_a_pack(model: PeftModel, *, job: Job, plan: Plan, device: str, writes: bool) -> None:
    """Computes a pack before training: it must stay within the range of its dtype, and agree with its examples alone.

    Args:
        writes: whether this process writes `run/activations.json`.

    Raises:
        UserError: this machine computes packs wrongly.
    """
    pack = pack_with_answers(job.packs.train.rows)
    if plan.dtype == "float16":
        activations = keep_in_range(model, pack, device=device)
        if writes:
            write_json(job.run / "activations.json", activations.as_dict())
    make_sure_of_packs(model, pack, dtype=plan.dtype, device=device)


def _start(device_name: str | None) -> tuple[Machine, PartialState]:
    """The machine, or the card that it is to behave as, and this process among those that train."""
    machine = find_machine()
    if device_name is None:
        return machine, PartialState(cpu=not machine.cards)
    machine = as_device(machine, other_card(device_name, machine))
    processes = PartialState(cpu=not machine.cards)
    behave_as(find_device(device_name), index=processes.local_process_index)
    return machine, processes


def _begin(job: Job, machine: Machine, processes: PartialState, *, fresh: bool, device_name: str | None = None) -> Plan:
    """Makes the plan, tests the machine and opens the folder of the run.

    Raises:
        UserError: the machine cannot run the plan, or the folder holds another run.
    """
    plan = plan_here(
        job.recipe, packed=job.packs, base=job.base, processes=processes.num_processes, device_name=device_name
    )
    if plan.processes != processes.num_processes:
        raise UserError(
            f"{processes.num_processes} processes were started, expected {plan.processes}, because a step of "
            f"{plan.packs_per_step} pack(s) can be divided among these: start with --processes {plan.processes}"
        )
    preflight(machine, job.recipe.train, plan, index=processes.local_process_index)
    with processes.main_process_first():
        if processes.is_main_process:
            open_run(job.run, identity=job.identity, plan=plan, fresh=fresh)
    if not (job.run / "plan.json").is_file():
        raise UserError(
            f"{job.run} holds no plan.json after the first process wrote one; expected the folder that all machines "
            f"share: name one with --out"
        )
    return plan_of_run(job.run, plan)


def _make_trainer(
    job: Job,
    plan: Plan,
    *,
    model: PeftModel,
    clock: Clock,
    validator: Validator,
    processes: PartialState,
    report_to: str,
) -> PackTrainer:
    """The trainer of a run, with its callbacks."""
    recipe, packs, checkpoints = job.recipe, job.packs.train, job.run / "checkpoints"
    order = step_order(packs.strata, epochs=recipe.train.epochs, seed=recipe.seed, packs_per_step=plan.packs_per_step)
    guard = NonFiniteGuard()
    steps = step_log(job, order=order, plan=plan, guard=guard, validation_of=validator.record_of)
    return PackTrainer(
        model=model,
        tokenizer=job.encoder.tokenizer,
        packs=in_training_order(packs.rows, order),
        arguments=training_arguments(
            recipe.train, plan, output=partial_folder(checkpoints), seed=recipe.seed, report_to=report_to
        ),
        checkpoints=checkpoints,
        identity=job.identity if processes.is_main_process else {},  # the others write no checkpoint
        clock=clock,
        guard=guard,
        memory=StepMemory(micro_batch=plan.micro_batch, blocks=plan.recompute.blocks),
        note_memory=partial(_note_memory, job.run, writes=processes.is_main_process or plan.split_weights),
        callbacks=[validator, steps, FirstSteps(plan, read=partial(read_log, job.run / LOG))],
    )


def _train_on(trainer: PackTrainer, *, validator: Validator, run: Path) -> int:
    """Trains from the newest checkpoint or from the start, and returns the number of optimizer steps that are done."""
    checkpoint = newest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        trainer.train()
        return trainer.state.global_step
    done = step_of(checkpoint)
    validator.resume(read_log(run / LOG))  # it ends with the checkpoint's step
    if validator.stopped_early:  # the run had stopped early, and was killed before its adapter was written
        trainer.load_adapter_of(checkpoint)
        return done
    trainer.train(resume_from_checkpoint=str(checkpoint))
    return trainer.state.global_step


def _validate(model: PeftModel, *, job: Job, plan: Plan, device: str) -> tuple[float, int]:
    """The mean loss of the last or best adapter on the whole validation split, and its supervised tokens."""
    if job.recipe.train.keep == "best" and load_best_adapter(model, job.run) is None:
        log.warning("no validation loss was measured, so the adapter of the last step is exported as the best one")
    rows = job.packs.validation.rows
    return mean_loss(model, rows, micro_batch=plan.micro_batch, device=device, dtype=plan.dtype)


def _note_memory(run: Path, memory: StepMemory, *, writes: bool) -> None:
    if writes:
        lower_memory(run, micro_batch=memory.micro_batch, blocks=memory.blocks)


def make_validator(job: Job, plan: Plan, *, model: PeftModel, device: str, processes: PartialState) -> Validator:
    """The callback that measures the validation loss during the run. Each process measures its share of the packs."""
    recipe, packs = job.recipe.train, job.packs
    rank, count = processes.process_index, processes.num_processes
    if plan.split_weights:  # all processes must multiply with the same weights at the same time
        rank, count = 0, 1

    def _losses_of(chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        found = np.zeros((2, len(chosen)))
        found[:, rank::count] = losses_of_packs(
            model, packs.validation.rows, chosen[rank::count], device=device, dtype=plan.dtype
        )
        if count > 1:
            found = reduce(torch.from_numpy(found).to(device), "sum").cpu().numpy()
        return found[0], found[1].astype(np.int64)

    def _save_best(step: int, loss: float) -> None:
        if processes.is_main_process:
            save_best_adapter(model, job.run, step=step, loss=loss)
        processes.wait_for_everyone()  # each of them may read it at the end

    return Validator(
        validation_schedule(recipe, packed=packs, optimizer_steps=plan.optimizer_steps),
        tasks=tasks_of(packs),
        losses_of=_losses_of,
        save_best=_save_best if recipe.keep == "best" else None,
        patience=recipe.patience,
    )


def load_for_training(recipe: Recipe, plan: Plan, *, base: str | Path, device: str, rank: int = 0) -> PeftModel:
    """The frozen base with a new adapter, in the plan's dtype and memory layout.

    Args:
        base: hub id or folder.
        device: `cpu`, `cuda:0`, ...
        rank: of this process, for a base that the processes share out.

    Raises:
        UserError: the base is missing, or its type is not supported.
    """
    quantization = recipe.train.quantization
    model = load_base(base, dtype=plan.dtype, quantization=quantization, device=device, head_chunk=plan.head_chunk)
    model = add_adapter(model, recipe.lora, seed=recipe.seed)
    check_dtypes(model, dtype=plan.dtype, quantization=quantization)
    keep_ready(model, dense=plan.dense_weights)
    if plan.split_weights:
        split_weights(model, rank=rank, processes=plan.processes)
    use_packed_blocks(model.get_base_model(), dtype=getattr(torch, plan.dtype))
    choose_kernels(half_accumulation=recipe.train.half_accumulation)
    return model


def step_log(
    job: Job,
    *,
    order: np.ndarray,
    plan: Plan,
    guard: NonFiniteGuard,
    validation_of: Callable[[int], dict[str, Any]] = lambda _step: {},
) -> StepLog:
    """The step log of a run.

    Args:
        order: from `step_order`; it tells how many examples and supervised tokens each step has.
        guard: knows whether a step was applied or skipped.
        validation_of: returns the validation record of a step, `{}` for most steps.
    """
    split = job.packs.train
    return StepLog(
        job.run / LOG,
        supervised_tokens=_by_step(split.supervised_tokens, order, plan.packs_per_step),
        examples=_by_step(split.examples, order, plan.packs_per_step),
        positions=plan.packs_per_step * job.recipe.pack.max_length,
        guard=guard,
        validation_of=validation_of,
    )


def _by_step(of_packs: np.ndarray, order: np.ndarray, packs_per_step: int) -> list[int]:
    """Sums a count of each pack over the packs of each step. -1 in the order is an empty pack."""
    counts = np.append(np.asarray(of_packs), 0)[order]
    return [int(total) for total in counts.reshape(-1, packs_per_step).sum(axis=1)]


def _write_peft(model: Any, folder: Path, base: str) -> int:
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card; ours is written after the evaluation
    return sum(parameter.numel() for parameter in adapter_parameters(model).values())
