"""The folder of a run. It says which training it holds, so that only the same training is resumed.

run/plan.json       recipe, packs and base, and the plan for this machine; written first
run/manifest.json   losses and counts; written after the last step
"""

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.plan.plan import Plan
from fintune_kit.recipes import Recipe
from fintune_kit.workspace import (
    MANIFEST,
    attached_folders,
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
    if fresh and run.exists():
        if any(run.iterdir()) and not (run / "plan.json").is_file():
            raise UserError(f"{run} holds files but no plan.json, as a run has: name another folder")
        shutil.rmtree(run)
    path = run / "plan.json"
    if not fresh and not (run.is_dir() and any(run.iterdir())):
        _continue_attached(run, identity=identity)
    if path.is_file():
        differing = _differing(path, identity)
        if differing:
            raise UserError(
                f"{run} holds a run with another {' and '.join(differing)}; expected the same to go on from it: "
                f"name another folder, or start over with --fresh"
            )
    run.mkdir(parents=True, exist_ok=True)
    lowered = read_json(path).get(LOWERED) if path.is_file() else None
    content = {**identity, "plan": plan.as_dict(), "versions": versions()}
    write_json(path, content | ({LOWERED: lowered} if lowered else {}))


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


def _differing(plan: Path, identity: dict[str, Any]) -> list[str]:
    found = read_json(plan)
    return [key for key in identity if found.get(key) != json.loads(json.dumps(identity[key]))]


def _continue_attached(run: Path, *, identity: dict[str, Any]) -> None:
    """Copies log, newest checkpoint and best adapter of the same run from an attached input, if one holds them."""
    reached: dict[int, Path] = {}
    for folder in attached_folders("run", holding="plan.json"):
        differing = _differing(folder / "plan.json", identity)
        checkpoint = newest_checkpoint(folder / "checkpoints")
        if differing:
            log.warning("%s is a run with another %s and is left alone", folder, " and ".join(differing))
        elif checkpoint is not None:
            reached[step_of(checkpoint)] = folder
    if not reached:
        return
    step, folder = max(reached.items())
    partial = run.with_name(run.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / "checkpoints" / f"checkpoint-{step}", partial / "checkpoints" / f"checkpoint-{step}")
    if (folder / BEST / MANIFEST).is_file():
        shutil.copytree(folder / BEST, partial / BEST)
    for name in ("log.jsonl", "plan.json"):
        shutil.copyfile(folder / name, partial / name)
    for path in (partial, *partial.rglob("*")):  # an input is read-only, and its copies would be too
        path.chmod(path.stat().st_mode | 0o200)
    if run.is_dir():
        run.rmdir()  # fails if it is not empty
    partial.rename(run)
    log.warning("going on after step %d, which %s reached", step, folder)


def finish_run(
    run: Path, *, packed: Path, log: list[dict[str, Any]], validation: tuple[float, int], machine: str
) -> None:
    """Writes the manifest of a run after its last step. `validation` is the loss and its number of tokens."""
    write_manifest(
        run,
        stage="run",
        inputs={"packed": sha256_of(packed / MANIFEST)},
        counts={"optimizer_steps": log[-1]["step"], "validation_tokens": validation[1]},
        loss={"first": log[0]["loss"], "last": log[-1]["loss"], "validation": validation[0]},
        machine=machine,
    )
