"""Stage 3 from end to end: packs in, a run's log, its checkpoints and the adapter out.

packed/  ->  run/      plan.json   what is learned (recipe, packs, base) and how this machine does it
                       log.jsonl   a line a step
                       checkpoints/
                       manifest.json, when the last step is done
         ->  adapter/  adapter_model.safetensors, adapter_config.json, the tokenizer's files, manifest.json
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from peft import PeftModel

from fintune_kit.chatml import ChatEncoder
from fintune_kit.errors import UserError
from fintune_kit.hardware import find_machine
from fintune_kit.pack.store import Packed, PackedSplit, open_packed
from fintune_kit.recipes import Recipe
from fintune_kit.train.callbacks import Clock, StepLog, read_log
from fintune_kit.train.checkpoints import newest_checkpoint, partial_folder
from fintune_kit.train.cost import ModelShape
from fintune_kit.train.estimate import FirstSteps
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.model import accumulate_in_half, add_adapter, check_dtypes, load_base, load_config
from fintune_kit.train.plan import PackCounts, Plan, device_of, make_plan
from fintune_kit.train.preflight import preflight
from fintune_kit.train.recompute import recompute_blocks, recompute_cheap_parts
from fintune_kit.train.run_folder import base_name, finish_run, identity_of, open_run
from fintune_kit.train.trainer import PackTrainer, in_training_order, mean_loss, step_order, training_arguments
from fintune_kit.workspace import MANIFEST, read_manifest, replacing_folder, sha256_of, write_manifest

ARTIFACTS = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
"""What a finished `adapter/` holds, besides its manifest and model card."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended."""

    finished: bool
    """Whether the last optimizer step is done and the adapter written."""
    steps_done: int
    plan: Plan
    log: list[dict[str, Any]]
    validation_loss: float | None
    """Mean over the validation packs' supervised tokens, once finished."""

    def describe(self) -> str:
        """How it ended, and how to go on."""
        of_all = f"{self.steps_done} of {self.plan.optimizer_steps} optimizer steps"
        if not self.finished:
            return f"stopped after {of_all}, saved; run the same command again to go on"
        first, last = self.log[0]["loss"], self.log[-1]["loss"]
        return f"{of_all}: training loss {first:.3f} -> {last:.3f}, validation loss {self.validation_loss:.3f}"


def plan_here(recipe: Recipe, *, packed: Packed, base: str | Path, processes: int | None = None) -> Plan:
    """The plan for this machine, from the packs and the base model's config.

    Args:
        processes: how many are to run; None for one a card.
    """
    counts = pack_counts(packed.train, max_length=recipe.pack.max_length)
    device = device_of(find_machine(), processes=processes)
    return make_plan(recipe, shape=ModelShape.of(load_config(base)), counts=counts, device=device)


def pack_counts(split: PackedSplit, *, max_length: int) -> PackCounts:
    """What the planner needs to know of a split."""
    packs = len(split.rows)
    plain_sequences = float(np.sum(split.plain_tokens)) / max_length
    return PackCounts(
        packs=packs,
        supervised_tokens=int(np.sum(split.supervised_tokens)),
        # Ordinary packing fills its rows to 99 % and more, so below 1 there is nothing to translate.
        plain_sequences_per_pack=max(1.0, plain_sequences / max(1, packs)),
    )


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
    encoder = ChatEncoder.load(recipe.tokenizer or base)
    packs = open_packed(packed, fingerprint=encoder.fingerprint, verify=True)
    check_length(packs, recipe=recipe, folder=packed)
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
    if (run / MANIFEST).is_file() and (adapter / MANIFEST).is_file():
        return finished_before(run, plan=plan)

    device = f"cuda:{processes.local_process_index}" if machine.cards else "cpu"
    model = load_for_training(recipe, plan, base=base, device=device)
    order = step_order(
        len(packs.train.rows), epochs=recipe.train.epochs, seed=recipe.seed, packs_per_step=plan.packs_per_step
    )
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
        callbacks=[
            step_log(run / "log.jsonl", split=packs.train, order=order, plan=plan, recipe=recipe, guard=guard),
            FirstSteps(plan, read=partial(read_log, run / "log.jsonl")),
        ],
    )
    checkpoint = newest_checkpoint(run / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check_dtypes(model, dtype=plan.dtype, quantization=recipe.train.quantization)

    steps_done = trainer.state.global_step
    log = read_log(run / "log.jsonl")
    if steps_done < plan.optimizer_steps:
        return Outcome(finished=False, steps_done=steps_done, plan=plan, log=log, validation_loss=None)
    if not processes.is_main_process:
        return Outcome(finished=True, steps_done=steps_done, plan=plan, log=log, validation_loss=None)
    loss, tokens = mean_loss(
        model, packs.validation.rows, micro_batch=plan.micro_batch, device=device, dtype=plan.dtype
    )
    write = partial(_write_peft, model)
    save_adapter(adapter, write=write, encoder=encoder, recipe=recipe, run=run, packed=packed, base=base, loss=loss)
    finish_run(run, packed=packed, log=log, validation=(loss, tokens), machine=machine.name)
    return Outcome(finished=True, steps_done=steps_done, plan=plan, log=log, validation_loss=loss)


def load_for_training(recipe: Recipe, plan: Plan, *, base: str | Path, device: str) -> PeftModel:
    """The frozen base with a new adapter, recomputing what the plan says."""
    quantization = recipe.train.quantization
    model = load_base(base, dtype=plan.dtype, quantization=quantization, device=device, head_chunk=plan.head_chunk)
    model = add_adapter(model, recipe.lora, seed=recipe.seed)
    check_dtypes(model, dtype=plan.dtype, quantization=quantization)
    if plan.recompute.cheap_parts:
        recompute_cheap_parts(model)
    recompute_blocks(model, plan.recompute.blocks)
    accumulate_in_half(recipe.train.half_accumulation)
    return model


def step_log(
    path: Path, *, split: PackedSplit, order: np.ndarray, plan: Plan, recipe: Recipe, guard: NonFiniteGuard
) -> StepLog:
    """The step log of a run: what each optimizer step holds is known before it runs."""
    return StepLog(
        path,
        supervised_tokens=_by_step(split.supervised_tokens, order, plan.packs_per_step),
        examples=_by_step(split.examples, order, plan.packs_per_step),
        positions=plan.packs_per_step * recipe.pack.max_length,
        guard=guard,
    )


def _by_step(of_packs: np.ndarray, order: np.ndarray, packs_per_step: int) -> list[int]:
    """Sums a count of each pack over the packs of each step; -1 in the order is an empty pack."""
    counts = np.append(np.asarray(of_packs), 0)[order]
    return [int(total) for total in counts.reshape(-1, packs_per_step).sum(axis=1)]


def check_length(packs: Packed, *, recipe: Recipe, folder: Path) -> None:
    """Raises:
    UserError: the packs were made for another length than the recipe's.
    """
    length = packs.manifest["max_length"]
    if length != recipe.pack.max_length:
        raise UserError(
            f"{folder} holds packs of {length} positions, the recipe {recipe.name!r} expects {recipe.pack.max_length}: "
            f"run notebook 02 again with this recipe"
        )


def finished_before(run: Path, *, plan: Plan) -> Outcome:
    """The outcome of a run whose last step was done before this call."""
    manifest = read_manifest(run, stage="run")
    return Outcome(
        finished=True,
        steps_done=manifest["counts"]["optimizer_steps"],
        plan=plan,
        log=read_log(run / "log.jsonl"),
        validation_loss=manifest["loss"]["validation"],
    )


def save_adapter(
    adapter: Path,
    *,
    write: Callable[[Path, str], int],
    encoder: ChatEncoder,
    recipe: Recipe,
    run: Path,
    packed: Path,
    base: str | Path,
    loss: float,
) -> None:
    """Leaves the artifacts. `write(folder, name of the base)` leaves PEFT's two files and says how many parameters
    they hold."""
    name = base_name(base)  # no path of this machine leaves it
    with replacing_folder(adapter) as folder:
        parameters = write(folder, name)
        save_tokenizer(encoder.tokenizer, folder)
        write_manifest(
            folder,
            stage="adapter",
            inputs={"packed": sha256_of(packed / MANIFEST), "log": sha256_of(run / "log.jsonl")},
            counts={"parameters": parameters},
            base=name,
            recipe=recipe.as_dict(),
            validation_loss=loss,
        )


def _write_peft(model: Any, folder: Path, base: str) -> int:
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's; ours is written with the scores
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """All forms of the tokenizer that loaders look for: `tokenizer.json`, its config, the chat template, and the
    `vocab.json` and `merges.txt` that transformers 5 no longer writes."""
    tokenizer.save_pretrained(str(folder))
    tokenizer.backend_tokenizer.model.save(str(folder))
