"""Stage 3 on a TPU. It reads and writes the same files as `train.stage`, but JAX and Tunix compute.

packed/  ->  run/      the same plan.json, log.jsonl, checkpoints/ and manifest.json
         ->  adapter/  the same files; PEFT loads them as those of any other run

The loop below replaces the loop of transformers' Trainer. It runs a compiled step of JAX, and uses the same clock, log
and guard.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerControl, TrainerState

from fintune_kit.errors import UserError
from fintune_kit.plan.counts import PackCounts
from fintune_kit.plan.devices import GIB
from fintune_kit.plan.plan import Plan
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import Recipe, TrainRecipe
from fintune_kit.tpu import checkpoints
from fintune_kit.tpu.adapter import first_values, from_jax, to_jax, write_peft
from fintune_kit.tpu.base import make_mesh, weights_folder
from fintune_kit.tpu.batches import stack_columns, step_batches
from fintune_kit.tpu.devices import find_devices
from fintune_kit.tpu.model import TpuModel, load_model
from fintune_kit.tpu.plan import on_tpu, plan_on
from fintune_kit.tpu.step import Step, StepShape, adam, compile_step, everywhere, make_loss, make_step, spread
from fintune_kit.train.callbacks import Clock
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.job import Job, open_job
from fintune_kit.train.model import load_config
from fintune_kit.train.outcome import Outcome, TrainedAdapter, finish, finished_before
from fintune_kit.train.record.log import read_log
from fintune_kit.train.run_folder import go_on, open_run
from fintune_kit.train.stage import step_log
from fintune_kit.train.trainer import in_training_order, step_order
from fintune_kit.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass
class _Progress:
    """The state of a run, as a checkpoint holds it: adapter and AdamW's moments on the devices, and the steps done."""

    adapter: Any
    moments: Any
    steps_done: int


def train_on_tpu(
    recipe: Recipe,
    workspace: Workspace,
    *,
    packed: Path | None = None,
    base: str | Path | None = None,
    budget_seconds: float | None = None,
    minutes_between_checkpoints: float = 20.0,
    stop_after: int | None = None,
    fresh: bool = False,
    report_to: str = "none",
) -> Outcome:
    """Trains, or resumes from the newest whole checkpoint. Arguments and files are those of `train.stage.train`.

    Raises:
        UserError: there are no eight TPU devices, the packs do not fit the recipe, `run/` holds another run, or a TPU
            does not support a value of the recipe.
    """
    if report_to != "none":
        raise UserError(f"--report-to {report_to} was given; expected none on a TPU: leave it out, read run/log.jsonl")
    recipe = without_validation(on_tpu(recipe))
    clock = Clock(
        minutes_between_checkpoints=minutes_between_checkpoints, budget_seconds=budget_seconds, stop_after=stop_after
    )
    devices = find_devices()
    job = open_job(recipe, workspace, packed=packed, base=base)
    config = load_config(job.base)
    plan = _begin(job, devices, shape=ModelShape.of(config), fresh=fresh)
    if earlier := finished_before(job, plan=plan):
        return earlier
    go_on(job.run, base=job.base, plan=plan, machine=_name(plan, devices))
    model = load_model(
        weights_folder(job.base),
        config=config,
        lora=recipe.lora,
        mesh=make_mesh(devices[: plan.processes]),
        dtype=plan.dtype,
        recompute=plan.recompute,
        split_weights=plan.split_weights,
    )
    progress = _start(job.run, model=model, config=config, recipe=recipe)
    _run_steps(progress, job=job, model=model, plan=plan, clock=clock)
    if progress.steps_done < plan.optimizer_steps:
        steps, records = progress.steps_done, read_log(job.run / "log.jsonl")
        return Outcome(finished=False, steps_done=steps, plan=plan, log=records, validation_loss=None)
    return _finish(progress, job=job, model=model, plan=plan, machine=_name(plan, devices))


def _name(plan: Plan, devices: Sequence[Any]) -> str:
    """The machine, such as `8 x TPU v5 lite`."""
    return f"{plan.processes} x {devices[0].device_kind}"


def _begin(job: Job, devices: Sequence[Any], *, shape: ModelShape, fresh: bool) -> Plan:
    """The plan for these devices, written into the folder of the run.

    Raises:
        UserError: the devices cannot run it, or the folder holds another run.
    """
    counts = PackCounts.of_manifest(job.packs.manifest)
    plan = plan_on(devices[0].device_kind, len(devices), recipe=job.recipe, shape=shape, counts=counts)
    open_run(job.run, identity=job.identity, plan=plan, fresh=fresh)
    return plan


def _finish(progress: _Progress, *, job: Job, model: TpuModel, plan: Plan, machine: str) -> Outcome:
    """Measures the adapter of the last step on the whole validation split, and writes it."""
    trained = TrainedAdapter(
        write=partial(write_peft, from_jax(progress.adapter), lora=job.recipe.lora),
        validation=mean_loss(model, progress.adapter, job.packs.validation.rows, plan=plan),
        machine=machine,
    )
    return finish(trained, job=job, plan=plan)


def without_validation(recipe: Recipe) -> Recipe:
    """The recipe for a TPU, which measures the validation loss after the last step only, and keeps the last adapter.

    Raises:
        UserError: the recipe stops a run early by its validation loss.
    """
    train = recipe.train
    if train.patience is not None:
        raise UserError(
            f"train.patience is {train.patience}; expected none, because a TPU measures the validation loss after the "
            f"last step only: leave train.patience out, or train on a card"
        )
    if train.validations or train.keep != "last":
        log.warning(
            "train.validations = %d and train.keep = %r have no effect on a TPU: the validation loss is measured after "
            "the last step only, and the adapter of the last step is kept",
            train.validations,
            train.keep,
        )
    return replace(recipe, train=replace(train, validations=0, keep="last"))


def _start(run: Path, *, model: TpuModel, config: Any, recipe: Recipe) -> _Progress:
    """The state of the newest checkpoint, or the initial values."""
    import jax

    place = everywhere(model.mesh)
    found = checkpoints.load_newest(run / "checkpoints")
    if found is None:
        first = first_values(ModelShape.of(config), lora=recipe.lora, seed=recipe.seed)
        adapter = to_jax(first, model.adapter_shapes, sharding=place)
        return _Progress(adapter=adapter, moments=jax.device_put(adam().init(adapter), place), steps_done=0)
    adapter, mean, square = (
        to_jax(matrices, model.adapter_shapes, sharding=place) for matrices in (found.adapter, found.mean, found.square)
    )
    moments = adam().init(adapter)._replace(count=np.int32(found.updates), mu=mean, nu=square)
    return _Progress(adapter=adapter, moments=jax.device_put(moments, place), steps_done=found.step)


def _run_steps(progress: _Progress, *, job: Job, model: TpuModel, plan: Plan, clock: Clock) -> None:
    """Takes the remaining steps, until the clock stops the run. Saves when the clock says so, and at the end."""
    if progress.steps_done == plan.optimizer_steps:
        return
    recipe, packs, guard = job.recipe, job.packs.train, NonFiniteGuard()
    order = step_order(packs.strata, epochs=recipe.train.epochs, seed=recipe.seed, packs_per_step=plan.packs_per_step)
    steps = step_log(job, order=order, plan=plan, guard=guard)
    rows = in_training_order(packs.rows, order)
    shape = StepShape(
        accumulation=plan.accumulation, packs=plan.micro_batch * plan.processes, length=recipe.pack.max_length
    )
    began = time.monotonic()
    step = _compiled_step(progress, model=model, plan=plan, recipe=recipe, shape=shape)
    of_first_step = {"compile_seconds": round(time.monotonic() - began, 2)}
    rates = learning_rates(recipe.train, steps=plan.optimizer_steps)
    state, control = TrainerState(global_step=progress.steps_done, is_world_process_zero=True), TrainerControl()
    watchers = (clock, steps)
    for watcher in watchers:
        watcher.on_train_begin(None, state, control)
    for batch, waited in step_batches(rows, first=progress.steps_done, shape=shape, mesh=model.mesh):
        for watcher in watchers:
            watcher.on_step_begin(None, state, control)
        logs = _take_step(progress, step=step, base=model.base, batch=batch, rate=rates[progress.steps_done])
        guard.accepts(logs["grad_norm"])
        state.global_step = progress.steps_done
        clock.on_step_end(None, state, control)
        memory = {"peak_memory_gib": _peak_memory(model.mesh), "input_wait_seconds": round(waited, 5)}
        steps.on_log(None, state, control, logs=logs | memory | of_first_step)
        of_first_step = {}
        if control.should_save or progress.steps_done == plan.optimizer_steps:
            control.should_save = False
            _save(progress, job, clock=clock, records=steps.records)
            clock.on_save(None, state, control)
        if control.should_training_stop:
            return


def _take_step(progress: _Progress, *, step: Step, base: Any, batch: Any, rate: float) -> dict[str, float]:
    """Moves the adapter by one optimizer step.

    Args:
        step: compiled, from `_compiled_step`.
        base: the frozen weights.
        batch: the packs of the step, on the devices.
        rate: the learning rate.

    Returns:
        The loss, the gradient's norm and the learning rate, for the log.
    """
    number = np.int32(progress.steps_done)
    progress.adapter, progress.moments, measured = step(
        progress.adapter, progress.moments, base, batch, np.float32(rate), number
    )
    progress.steps_done += 1
    return {"loss": float(measured["loss"]), "grad_norm": float(measured["grad_norm"]), "learning_rate": rate}


def _compiled_step(progress: _Progress, *, model: TpuModel, plan: Plan, recipe: Recipe, shape: StepShape) -> Any:
    """The optimizer step, compiled for these devices."""
    step = make_step(
        model, recipe=recipe.train, head_chunk=plan.head_chunk, seed=recipe.seed, dropout=recipe.lora.dropout
    )
    return compile_step(
        step, mesh=model.mesh, adapter=progress.adapter, moments=progress.moments, base=model.base, shape=shape
    )


def _save(progress: _Progress, job: Job, *, clock: Clock, records: Sequence[dict[str, Any]]) -> None:
    """Writes a checkpoint with the log so far, and tells the clock how long that took."""
    began = time.monotonic()
    checkpoints.save(
        job.run / "checkpoints",
        step=progress.steps_done,
        adapter=progress.adapter,
        moments=progress.moments,
        records=records,
        identity=job.identity,
    )
    clock.note_save(time.monotonic() - began)


def learning_rates(recipe: TrainRecipe, *, steps: int) -> list[float]:
    """The learning rate of each optimizer step, by transformers' own schedules."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    warmup = math.ceil(recipe.warmup_ratio * steps)
    scheduler = get_scheduler(recipe.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def mean_loss(model: TpuModel, adapter: Any, rows: Any, *, plan: Plan) -> tuple[float, int]:
    """The mean cross-entropy over all supervised tokens of some packs, without dropout.

    Returns:
        (loss in nats per token, number of supervised tokens).
    """
    import jax

    size = plan.micro_batch * plan.processes
    filled = in_training_order(
        rows, step_order(np.ones((len(rows), 1), np.int64), epochs=1, seed=0, packs_per_step=size)
    )
    compiled = make_loss(model, head_chunk=plan.head_chunk)
    total, tokens = 0.0, 0
    for start in range(0, len(filled), size):
        columns = {name: c[None] for name, c in stack_columns(filled, start=start, stop=start + size).items()}
        total += float(compiled(adapter, model.base, jax.device_put(columns, spread(model.mesh))))
        tokens += int(columns["loss_weight"].sum())
    return total / max(1, tokens), tokens


def _peak_memory(mesh: Any) -> float | None:
    """The peak memory of the fullest device in GiB; None if the devices do not report it."""
    stats = [device.memory_stats() for device in mesh.devices.flat]
    peaks = [found["peak_bytes_in_use"] for found in stats if found and "peak_bytes_in_use" in found]
    return round(max(peaks) / GIB, 3) if peaks else None
