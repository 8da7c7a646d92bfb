"""Outputs brought home: into a workspace, checked against their manifests and against the card that was asked for.

<out>/
    conversations/  packed/  run/  adapter/  evaluation/  figures/     as notebooks at home would have left them
    packed.fetching-v3/         a stage on its way; the same command goes on with it
    kaggle/01_data/             session.json, the log, the rest of the output

The model card, which the last kernel cannot write beside the adapter that it only reads, goes to it here.

A stage takes its place when all its files are there and have the SHA-256 of its manifest.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.accelerators import check_card
from fintune_kit.kaggle.client import Kaggle, OutputFile
from fintune_kit.kaggle.manifest import Kernel
from fintune_kit.kaggle.replies import read_log
from fintune_kit.kaggle.session.begin import RECORD
from fintune_kit.workspace import MANIFEST, WRITTEN_BY, read_json, read_manifest, sha256_of, write_text

_CHECKPOINTS = "checkpoints/"


def fetch_kernel(kaggle: Kaggle, kernel: Kernel, *, out: Path, say: Callable[[str], None] = print) -> list[str]:
    """Fetches a kernel's latest output, and returns the stages that are whole.

    Raises:
        UserError: it still runs, has no output, ran on another card, or a file is not what its manifest says.
    """
    info = kaggle.info(kernel.ref)
    if info is None:
        raise UserError(f"{kernel.ref} has never been pushed: `fintune-kit kaggle push {kernel.name}`")
    if kaggle.status(kernel.ref).state in ("waiting", "running"):
        raise UserError(f"{kernel.ref} still runs; its output is there when it has ended: `fintune-kit kaggle status`")
    files, log = kaggle.outputs(kernel.ref)
    beside = out / "kaggle" / kernel.name
    write_text(beside / f"{kernel.name}.log", "".join(line.text for line in read_log(log)))
    record = next((file for file in files if file.name == RECORD), None)
    if record is None:
        raise UserError(
            f"the output of {kernel.ref} has no {RECORD}, so its first cell did not end; read "
            f"{beside / f'{kernel.name}.log'}"
        )
    kaggle.download(record, beside / RECORD)
    session = read_json(beside / RECORD)
    if session.get("kernel") != kernel.name:
        raise UserError(f"{kernel.ref} ran {session.get('kernel')!r}, expected {kernel.name!r}: push it again")
    check_card(kernel.accelerator, session["cards"])
    whole = []
    for stage in [name for name in kernel.writes if any(file.name.startswith(f"{name}/") for file in files)]:
        finished = _fetch_stage(kaggle, stage, files, out=out, version=info.version)
        say(f"{kernel.name}: {out / stage}{'' if finished else ' (unfinished: it has no manifest)'}")
        whole += [stage] if finished else []
    for file in files:
        if file.name.partition("/")[0] not in kernel.writes and file.name != RECORD:
            kaggle.download(file, _place(file.name, out=out, beside=beside))
    say(f"{kernel.name}: version {info.version} on {session['machine']}, {session['library']}")
    return whole


def _place(name: str, *, out: Path, beside: Path) -> Path:
    """Where a file that belongs to no stage goes: figures together, the model card to its adapter, all else aside."""
    if name.startswith("figures/"):
        return out / name
    if name == "README.md" and (out / "adapter" / MANIFEST).is_file():
        return out / "adapter" / name
    return beside / name


def _fetch_stage(kaggle: Kaggle, stage: str, files: Sequence[OutputFile], *, out: Path, version: int) -> bool:
    """Fetches one stage; whether it is finished."""
    of_stage = {file.name.removeprefix(f"{stage}/"): file for file in files if file.name.startswith(f"{stage}/")}
    manifest_file = of_stage.pop(MANIFEST, None)
    target, staging = out / stage, out / f"{stage}.fetching-v{version}"
    hashes: Mapping[str, str] = {}
    if manifest_file is not None:
        kaggle.download(manifest_file, staging / MANIFEST)
        manifest = read_manifest(staging, stage=stage)
        hashes = manifest["files"]
        if _is_whole(target, manifest):
            shutil.rmtree(staging)
            return True
        # A finished run needs its checkpoints no more, and they are most of its bytes.
        of_stage = {name: file for name, file in of_stage.items() if not name.startswith(_CHECKPOINTS)}
    for name, file in of_stage.items():
        path = staging / name
        if not path.is_file() or (name in hashes and sha256_of(path) != hashes[name]):
            kaggle.download(file, path)
        if name in hashes and sha256_of(path) != hashes[name]:
            path.unlink()
            raise UserError(f"{stage}/{name} is not what its manifest says (SHA-256); fetch again")
    if missing := _missing(staging, hashes):
        raise UserError(f"{stage}/{missing[0]} is in its manifest but not in the output; run {WRITTEN_BY[stage]} again")
    _replace(staging, target)
    return manifest_file is not None


def _missing(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    return [name for name in hashes if not name.startswith(_CHECKPOINTS) and not (folder / name).is_file()]


def _is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the very same stage lies there already."""
    path = folder / MANIFEST
    if not path.is_file() or read_json(path) != manifest:
        return False
    hashes = manifest["files"]
    return not _missing(folder, hashes) and all(
        sha256_of(folder / name) == sha for name, sha in hashes.items() if (folder / name).is_file()
    )


def _replace(staging: Path, target: Path) -> None:
    previous = target.with_name(target.name + ".previous")
    if target.exists():
        if not target.is_dir() or not any((target / name).exists() for name in (MANIFEST, "plan.json")):
            raise UserError(f"{target} holds files that are no stage of ours; name another folder with --out")
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    staging.rename(target)
    shutil.rmtree(previous, ignore_errors=True)
