"""The folder of a run: which run it is, whether it may go on, and what says that it is done.

run/plan.json       what is learned (recipe, packs, base) and how this machine does it, written first
run/manifest.json   losses and counts, written when the last step is done
"""

import json
import shutil
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.recipes import Recipe
from fintune_kit.train.plan import Plan
from fintune_kit.workspace import MANIFEST, read_json, sha256_of, versions, write_json, write_manifest


def identity_of(recipe: Recipe, *, packed: Path, base: str | Path) -> dict[str, Any]:
    """What is learned: a checkpoint belongs to exactly one of these."""
    learned = recipe.as_dict()
    return {"recipe": learned, "packed": sha256_of(packed / MANIFEST), "base": Path(base).name}


def open_run(run: Path, *, identity: dict[str, Any], plan: Plan, fresh: bool) -> None:
    """Makes or checks the run's folder, and writes its plan."""
    if fresh and run.exists():
        if any(run.iterdir()) and not (run / "plan.json").is_file():
            raise UserError(f"{run} holds files but no plan.json, so it is no run of ours: name another folder")
        shutil.rmtree(run)
    path = run / "plan.json"
    if path.is_file():
        found = read_json(path)
        differing = [key for key in identity if found.get(key) != json.loads(json.dumps(identity[key]))]
        if differing:
            raise UserError(
                f"{run} holds a run with another {' and '.join(differing)}; expected the same to go on from it: "
                f"name another folder, or start over with --fresh"
            )
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, {**identity, "plan": plan.as_dict(), "versions": versions()})


def finish_run(
    run: Path, *, packed: Path, log: list[dict[str, Any]], validation: tuple[float, int], machine: str
) -> None:
    """Writes the manifest of a run whose last step is done; `validation` is the loss and its number of tokens."""
    write_manifest(
        run,
        stage="run",
        inputs={"packed": sha256_of(packed / MANIFEST)},
        counts={"optimizer_steps": log[-1]["step"], "validation_tokens": validation[1]},
        loss={"first": log[0]["loss"], "last": log[-1]["loss"], "validation": validation[0]},
        machine=machine,
    )
