"""How a run ends: finished, with its artifacts in `adapter/` and a manifest, or stopped, to go on later.

PyTorch and JAX both hand over a `TrainedAdapter`, and the files are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.plan.plan import Plan
from fintune_kit.train.artifacts import save_tokenizer
from fintune_kit.train.base_id import base_id
from fintune_kit.train.callbacks import read_log
from fintune_kit.train.job import Job
from fintune_kit.train.run_folder import finish_run
from fintune_kit.workspace import MANIFEST, read_manifest, replacing_folder, sha256_of, write_manifest


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


@dataclass(frozen=True, kw_only=True)
class TrainedAdapter:
    """The adapter after the last step, before its files are written."""

    write: Callable[[Path, str], int]
    """Writes PEFT's two files into a folder, for a base of this name. Returns how many parameters they hold."""
    validation: tuple[float, int]
    """Mean loss over the validation packs' supervised tokens, and how many these are."""
    machine: str


def finish(trained: TrainedAdapter, *, job: Job, plan: Plan) -> Outcome:
    """Leaves the artifacts in `adapter/`, and the run's manifest: the last step is done."""
    run, packed = job.run, job.packed
    name = base_id(job.base)  # no path of this machine leaves it
    loss, _ = trained.validation
    with replacing_folder(job.adapter) as folder:
        parameters = trained.write(folder, name)
        save_tokenizer(job.encoder.tokenizer, folder)
        write_manifest(
            folder,
            stage="adapter",
            inputs={"packed": sha256_of(packed / MANIFEST), "log": sha256_of(run / "log.jsonl")},
            counts={"parameters": parameters},
            base=name,
            recipe=job.recipe.as_dict(),
            validation_loss=loss,
        )
    log = read_log(run / "log.jsonl")
    finish_run(run, packed=packed, log=log, validation=trained.validation, machine=trained.machine)
    return Outcome(finished=True, steps_done=log[-1]["step"], plan=plan, log=log, validation_loss=loss)


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
