"""The folder of a run. It says which training it holds, so that only the same training is resumed.

run/plan.json        recipe, packs and base, the plan for this machine, versions, the allocator; written first
run/sessions.jsonl   the sessions in which it was trained
run/log.jsonl        a line for each step
run/manifest.json    losses and counts; written after the last step

The plan, the manifest and each checkpoint say which run it is. If one of them is lost, the others still prevent that
another run continues here.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.hardware import allocator_setting
from fintune_kit.plan.plan import Plan
from fintune_kit.recipes import Recipe
from fintune_kit.train.checkpoints import refuse_unlisted_files
from fintune_kit.train.record.log import NAME as LOG
from fintune_kit.train.record.log import restore_log
from fintune_kit.train.record.sessions import NAME as SESSIONS
from fintune_kit.train.record.sessions import begin_session
from fintune_kit.workspace import (
    MANIFEST,
    attached_folders,
    checkpoints_by_step,
    newest_checkpoint,
    read_json,
    sha256_of,
    step_of,
    versions,
    write_json,
    write_manifest,
)

log = logging.getLogger(__name__)

BEST = "best"
"""The folder in a run with the adapter of the lowest validation loss so far."""
LOWERED = "after_running_out_of_memory"
"""The key in `plan.json` of the smaller micro-batch that a run uses since memory ran out."""


def identity_of(recipe: Recipe, *, packed: Path, base: str | Path) -> dict[str, Any]:
    """Says which training this is: recipe, packs and base. A run is resumed only if all of them are equal."""
    return {"recipe": recipe.as_dict(), "packed": sha256_of(packed / MANIFEST), "base": base_identity(base)}


def base_identity(base: str | Path) -> str:
    """The hub id, or for a folder a hash of its config and of the sizes of its weights.

    A folder's path does not count: Kaggle mounts the same model under different names.
    """
    folder = Path(base)
    if not folder.is_dir():
        return str(base)
    weights = sorted((path.name, path.stat().st_size) for path in folder.glob("*.safetensors"))
    return hashlib.sha256(f"{sha256_of(folder / 'config.json')} {weights}".encode()).hexdigest()


def open_run(run: Path, *, identity: dict[str, Any], plan: Plan, fresh: bool) -> None:
    """Creates or checks the folder of a run, and writes its plan.

    If memory ran out in this run before, its smaller micro-batch stays in the file (`lower_memory`).

    Args:
        run: the folder.
        identity: from `identity_of`.
        plan: for this machine.
        fresh: delete an earlier run.

    Raises:
        UserError: the folder holds another run, or files that no run has written.
    """
    run = run.resolve() if run.is_symlink() else run  # the link stays
    _remove(run, whole=fresh)
    if not fresh and not _has_begun(run):
        _continue_attached(run, identity=identity)
    for path in _files_with_identity(run):
        if differing := _differing(path, identity):
            raise UserError(
                f"{path} is of a run with another {' and '.join(differing)}; expected the same to go on from it: "
                f"name another folder, or start over with --fresh"
            )
    run.mkdir(parents=True, exist_ok=True)
    path = run / "plan.json"
    lowered = _read(path).get(LOWERED)
    content = {**identity, "plan": plan.as_dict(), "versions": versions(), "allocator": allocator_setting()}
    write_json(path, content | ({LOWERED: lowered} if lowered else {}))


def go_on(run: Path, *, base: str | Path, plan: Plan, machine: str) -> None:
    """Prepares the folder of an unfinished run for the next step, and notes the session.

    Args:
        run: the folder, from `open_run`.
        base: hub id or folder of the base model.
        plan: for this machine.
        machine: its name.

    Raises:
        UserError: the newest checkpoint holds a file that is not its own, or the base is another one than before.
    """
    checkpoint = newest_checkpoint(run / "checkpoints")
    if checkpoint is not None:
        refuse_unlisted_files(checkpoint)
    restore_log(run / LOG, checkpoint=checkpoint)
    (run / MANIFEST).unlink(missing_ok=True)  # the run had ended, but its adapter is lost
    from_step = step_of(checkpoint) if checkpoint else 0
    begin_session(run, from_step=from_step, plan=plan, machine=machine, base=base)


def lower_memory(run: Path, *, micro_batch: int, blocks: int) -> None:
    """Notes the smaller micro-batch and the recomputed blocks with which a run fits, for the time after a restart."""
    path = run / "plan.json"
    write_json(path, read_json(path) | {LOWERED: {"micro_batch": micro_batch, "blocks": blocks}})


def plan_of_run(run: Path, plan: Plan) -> Plan:
    """The plan, changed as `lower_memory` has noted."""
    lowered = read_json(run / "plan.json").get(LOWERED)
    if lowered is None:
        return plan
    micro_batch = min(plan.micro_batch, lowered["micro_batch"])
    blocks = max(plan.recompute.blocks, lowered["blocks"])
    return replace(
        plan,
        micro_batch=micro_batch,
        accumulation=plan.packs_per_step // plan.processes // micro_batch,
        recompute=replace(plan.recompute, blocks=blocks),
    )


def _remove(run: Path, *, whole: bool) -> None:
    """Removes the rest of an earlier `--fresh` and, if `whole`, the run itself.

    It is renamed first. A process that is killed while it deletes leaves no half of a run.
    """
    aside = run.with_name(f".{run.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    if whole and run.exists():
        if any(run.iterdir()) and not _has_begun(run):
            raise UserError(
                f"{run} holds files but no plan.json and no checkpoint, so it is not a run of ours; expected one, or "
                f"an empty folder: name another with --out"
            )
        run.rename(aside)
        shutil.rmtree(aside)


def _has_begun(run: Path) -> bool:
    """Whether a folder holds a run, or a part of one."""
    return any((run / name).exists() for name in ("plan.json", MANIFEST, LOG, "checkpoints"))


def _files_with_identity(run: Path) -> Iterator[Path]:
    """The files of a folder that say which run it is, where they can be read. Others count as lost."""
    checkpoints = [folder / MANIFEST for folder in checkpoints_by_step(run / "checkpoints")]
    for path in (run / "plan.json", run / MANIFEST, *checkpoints):
        if _read(path):
            yield path


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where the file is missing or damaged."""
    try:
        found = read_json(path) if path.is_file() else {}
    except ValueError:  # JSON's and UTF-8's errors are of this kind
        found = None
    if not isinstance(found, dict):
        log.warning("%s is damaged and counts as lost", path)
        return {}
    return found


def _differing(path: Path, identity: dict[str, Any]) -> list[str]:
    found = read_json(path)
    found = found.get("identity", found)  # plan.json holds it at its top level
    return [key for key in identity if found.get(key) != json.loads(json.dumps(identity[key]))]


def _continue_attached(run: Path, *, identity: dict[str, Any]) -> None:
    """Copies log, newest checkpoint and best adapter of the same run from an attached input, if one holds them."""
    reached: dict[int, Path] = {}
    for folder in attached_folders("run", holding="plan.json"):
        checkpoint = newest_checkpoint(folder / "checkpoints")
        if checkpoint is None:
            continue
        if differing := _differing(checkpoint / MANIFEST, identity):
            log.warning("%s is a run with another %s and is left alone", folder, " and ".join(differing))
        else:
            reached[step_of(checkpoint)] = folder
    if not reached:
        return
    step, folder = max(reached.items())
    partial = run.with_name(run.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / "checkpoints" / f"checkpoint-{step}", partial / "checkpoints" / f"checkpoint-{step}")
    if (folder / BEST / MANIFEST).is_file():
        shutil.copytree(folder / BEST, partial / BEST)
    for name in ("plan.json", LOG, SESSIONS):
        if (folder / name).is_file():  # a lost log is restored from the checkpoint
            shutil.copyfile(folder / name, partial / name)
    for path in (partial, *partial.rglob("*")):  # an input is read-only, and its copies would be too
        path.chmod(path.stat().st_mode | 0o200)
    if run.is_dir():
        run.rmdir()  # fails if it is not empty
    partial.rename(run)
    log.warning("going on after step %d, which %s reached", step, folder)


def finish_run(
    run: Path,
    *,
    identity: dict[str, Any],
    packed: Path,
    log: list[dict[str, Any]],
    validation: tuple[float, int],
    machine: str,
) -> None:
    """Writes the manifest of a run after its last step. `validation` is the loss and its number of tokens."""
    write_manifest(
        run,
        stage="run",
        inputs={"packed": sha256_of(packed / MANIFEST)},
        counts={"optimizer_steps": log[-1]["step"], "validation_tokens": validation[1]},
        loss={"first": log[0]["loss"], "last": log[-1]["loss"], "validation": validation[0]},
        machine=machine,
        identity=identity,
    )
