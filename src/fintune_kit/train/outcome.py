"""The end of a run: either finished, with the files in `adapter/` and a manifest, or stopped, to be resumed later.

PyTorch and JAX both pass a `TrainedAdapter` to `finish`, which writes the same files for both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.plan.plan import Plan
from fintune_kit.train.artifacts import save_tokenizer
from fintune_kit.train.base_id import base_id
from fintune_kit.train.job import Job
from fintune_kit.train.record.log import NAME as LOG
from fintune_kit.train.record.log import read_log
from fintune_kit.train.run_folder import finish_run
from fintune_kit.workspace import (
    MANIFEST,
    find_damage,
    newest_checkpoint,
    read_manifest,
    replacing_folder,
    sha256_of,
    write_manifest,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a call of `train`."""

    finished: bool
    """True if the last optimizer step is done and the adapter is written."""
    steps_done: int
    plan: Plan
    log: list[dict[str, Any]]
    validation_loss: float | None
    """Nats per supervised token, the mean over the whole validation split. None if the run is not finished."""

    def describe(self) -> str:
        """A sentence for the user: the losses, or how to resume."""
        of_all = f"{self.steps_done} of {self.plan.optimizer_steps} optimizer steps"
        if not self.finished:
            return f"stopped after {of_all}, saved; run the same command again to go on"
        first, last = (_written(self.log[index]["loss"]) for index in (0, -1))
        losses = f"{of_all}: training loss {first} -> {last}"
        # Only the first process measures it. An error in another one would end the first one while it writes.
        return losses if self.validation_loss is None else f"{losses}, validation loss {self.validation_loss:.3f}"


def _written(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.3f}"


@dataclass(frozen=True, kw_only=True)
class TrainedAdapter:
    """The adapter after the last step, before its files are written."""

    write: Callable[[Path, str], int]
    """Writes PEFT's two files into a folder, for a base of this name, and returns the number of parameters."""
    validation: tuple[float, int]
    """The mean loss over the supervised tokens of the validation split, and the number of these tokens."""
    machine: str


def finish(trained: TrainedAdapter, *, job: Job, plan: Plan) -> Outcome:
    """Writes `adapter/`, then the manifest of the run, after the last step."""
    run, packed = job.run, job.packed
    name = base_id(job.base)  # never a path of this machine
    loss, _ = trained.validation
    with replacing_folder(job.adapter) as folder:
        parameters = trained.write(folder, name)
        save_tokenizer(job.encoder.tokenizer, folder)
        write_manifest(
            folder,
            stage="adapter",
            inputs={"packed": sha256_of(packed / MANIFEST), "log": sha256_of(run / LOG)},
            counts={"parameters": parameters},
            base=name,
            recipe=job.recipe.as_dict(),
            validation_loss=loss,
        )
    log = read_log(run / LOG)
    finish_run(
        run,
        identity=job.identity,
        packed=packed,
        log=log,
        validation=trained.validation,
        machine=trained.machine,
    )
    return Outcome(finished=True, steps_done=log[-1]["step"], plan=plan, log=log, validation_loss=loss)


def finished_before(job: Job, *, plan: Plan) -> Outcome | None:
    """The outcome of a run that an earlier call has finished; None if it is not finished.

    Raises:
        UserError: it is finished, but a file of the adapter or the log is lost or changed.
    """
    if not (job.run / MANIFEST).is_file() or not (job.adapter.is_dir() and any(job.adapter.iterdir())):
        return None
    checked = {job.adapter: find_damage(job.adapter), job.run: find_damage(job.run, only=(LOG,))}
    if lost := [f"{folder.name}/{fault}" for folder, fault in checked.items() if fault]:
        checkpoint = newest_checkpoint(job.run / "checkpoints")
        again = f"from {checkpoint.name} on" if checkpoint else "from the first step on, because no checkpoint is left"
        raise UserError(
            f"the run in {job.run} has ended, but {' and '.join(lost)}; expected the files that it wrote: put them "
            f"back, or move {job.adapter} away and run the same command again, which then trains {again}"
        )
    manifest = read_manifest(job.run, stage="run")
    return Outcome(
        finished=True,
        steps_done=manifest["counts"]["optimizer_steps"],
        plan=plan,
        log=read_log(job.run / LOG),
        validation_loss=manifest["loss"]["validation"],
    )
