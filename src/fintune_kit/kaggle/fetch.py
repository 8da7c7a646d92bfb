"""Downloads outputs into a workspace, and checks them against their manifests.

<out>/
    conversations/  packed/  run/  adapter/  evaluation/  figures/     as if the notebooks had run here
    recipe.toml                                                        their recipe
    packed.fetching-v3/         a stage that is not complete yet; the same command fetches the rest
    kaggle/01_data/             session.json, the log, and the rest of the output

The newest finished version of a kernel is fetched. A stage takes its place when all its files are there and have the
SHA-256 of its manifest. The model card goes to its adapter, because the last kernel can only read that folder.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.accelerators import check_card
from fintune_kit.kaggle.calls.client import Kaggle, OutputFile
from fintune_kit.kaggle.calls.replies import read_log
from fintune_kit.kaggle.decide import is_running
from fintune_kit.kaggle.documents import MANIFEST_FIELDS, RECORD, RECORD_FIELDS, read_document
from fintune_kit.kaggle.history import History, Version
from fintune_kit.kaggle.manifest import Kernel
from fintune_kit.workspace import MANIFEST, RECIPE, WRITTEN_BY, read_json, sha256_of, write_json, write_text

_CHECKPOINTS = "checkpoints/"
Say = Callable[[str], None]


def fetch_chain(kaggle: Kaggle, kernels: Sequence[Kernel], *, out: Path, named: bool, say: Say = print) -> None:
    """Fetches each kernel that has an output, and reports the others.

    Args:
        out: the workspace.
        named: the user named these kernels, so each of them must have an output.

    Raises:
        UserError: at least one could not be fetched; the others were.
    """
    faults: list[str] = []
    histories = _look(kaggle, kernels, faults)
    for history in [history for history in histories if not history.newest]:
        if named:
            faults.append(f"{history.kernel.ref} has never been pushed")
        else:
            say(f"{history.kernel.name}: never pushed")
    fetched = []
    for history in _one_of_each([history for history in histories if history.newest], say=say):
        try:
            fetched.append(fetch_kernel(kaggle, history, out=out, say=say))
        except UserError as error:
            faults.append(f"{history.kernel.name}: {error}")
    _place_recipe([version.kernel for version in fetched], out=out, say=say)
    if faults:
        raise UserError("; ".join(faults))
    if not fetched:
        raise UserError("no kernel has an output yet; push one with `fintune-kit kaggle push`")


def fetch_kernel(kaggle: Kaggle, history: History, *, out: Path, say: Say = print) -> Version:
    """Fetches the newest finished version of a kernel, else the newest that holds a checkpoint, else the newest.

    Raises:
        UserError: it is running and no version is finished, it has no output, it ran on another card, or a file differs
            from its manifest.
    """
    kernel, version = history.kernel, _choose_version(kaggle, history, say=say)
    beside = out / "kaggle" / kernel.name
    log = beside / f"{kernel.name}.log"
    write_text(log, "".join(line.text for line in read_log(version.log)))
    record = version.file(RECORD)
    if record is None:
        raise UserError(f"version {version.number} has no {RECORD}, so its first cell did not end; read {log}")
    session = read_document(kaggle.read(record), name=f"{RECORD} of {version.source}", fields=RECORD_FIELDS)
    if session["kernel"] != kernel.name:
        raise UserError(f"{version.source} ran {session['kernel']!r}, expected {kernel.name!r}: push it again")
    check_card(kernel.accelerator, session["cards"])
    write_json(beside / RECORD, session)
    for stage in kernel.writes:
        _fetch_stage(kaggle, stage, version, out=out, say=say)
    for file in version.files:
        if file.name.partition("/")[0] not in kernel.writes and file.name != RECORD:
            kaggle.download(file, _place_of(file.name, out=out, beside=beside))
    say(f"{kernel.name}: version {version.number} on {session['machine']}, {session['library']}")
    return version


def _look(kaggle: Kaggle, kernels: Sequence[Kernel], faults: list[str]) -> list[History]:
    histories = []
    for kernel in kernels:
        try:
            histories.append(History(kaggle, kernel))
        except UserError as error:
            faults.append(f"{kernel.name}: {error}")
    return histories


def _one_of_each(histories: Sequence[History], *, say: Say) -> list[History]:
    """One kernel for each set of stages: of two that trained, the finished one, else the first one."""
    best: dict[tuple[str, ...], History] = {}
    for history in histories:
        rival = best.get(history.kernel.writes)
        if rival is None or (rival.finished() is None and history.finished() is not None):
            best[history.kernel.writes] = history
    for history in histories:
        winner = best[history.kernel.writes]
        if winner is not history:
            say(
                f"{history.kernel.name}: not fetched, because {winner.kernel.name} wrote the same stages; name it "
                f"alone to fetch it instead"
            )
    return [history for history in histories if history in best.values()]


def _choose_version(kaggle: Kaggle, history: History, *, say: Say) -> Version:
    kernel, newest = history.kernel, history.newest
    status = kaggle.status(kernel.ref, version=newest)
    running = is_running(status)
    version = history.finished() or (None if running else history.useful() or history.version(newest))
    if version is None:
        raise UserError(f"{kernel.ref} is running; its output exists after its end: see `fintune-kit kaggle status`")
    if version.number != newest:
        say(f"{kernel.name}: version {version.number} is fetched, because version {newest} after it is {status.state}")
    return version


def _place_of(name: str, *, out: Path, beside: Path) -> Path:
    """The path for a file outside the stages: figures together, the model card to its adapter, others with the log."""
    if name.startswith("figures/"):
        return out / name
    if name == "README.md" and (out / "adapter" / MANIFEST).is_file():
        return out / "adapter" / name
    return beside / name


def _place_recipe(kernels: Sequence[Kernel], *, out: Path, say: Say) -> None:
    """Writes the recipe of the last kernel into the workspace, for later stages. It is the recipe of the adapter."""
    found = {kernel.name: out / "kaggle" / kernel.name / RECIPE for kernel in kernels}
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items() if path.is_file()}
    if not texts:
        return
    *_, (last, text) = texts.items()
    if others := [name for name in texts if texts[name] != text]:
        say(f"{RECIPE}: the one of {last}, which differs from the one of {', '.join(others)}")
    write_text(out / RECIPE, text)


def _fetch_stage(kaggle: Kaggle, stage: str, version: Version, *, out: Path, say: Say) -> None:
    """Fetches one stage, if the output holds it. An unfinished one never replaces a finished one."""
    of_stage = {f.name.removeprefix(f"{stage}/"): f for f in version.files if f.name.startswith(f"{stage}/")}
    if not of_stage:
        return
    name, target = version.kernel.name, out / stage
    listed = of_stage.pop(MANIFEST, None)
    if listed is None and (target / MANIFEST).is_file():
        say(f"{name}: {target} stays, because it is finished and version {version.number} is not")
        return
    staging = out / f"{stage}.fetching-v{version.number}"
    manifest: dict[str, Any] = {"files": {}}
    if listed is not None:
        kaggle.download(listed, staging / MANIFEST)
        where = f"{stage}/{MANIFEST} of {version.source}"
        manifest = read_document((staging / MANIFEST).read_bytes(), name=where, fields=MANIFEST_FIELDS)
        if manifest["stage"] != stage:
            raise UserError(f"{where} is of stage {manifest['stage']!r}, expected {stage!r}: push {name} again")
        # A finished run no longer needs its checkpoints, which are most of its bytes.
        of_stage = {path: file for path, file in of_stage.items() if not path.startswith(_CHECKPOINTS)}
    if not _is_whole(target, manifest):
        _fetch_files(kaggle, stage, of_stage, manifest["files"], staging=staging)
        _replace(staging, target)
    shutil.rmtree(staging, ignore_errors=True)
    say(f"{name}: {target}{'' if listed else ' (unfinished: it has no manifest)'}")


def _fetch_files(
    kaggle: Kaggle, stage: str, files: Mapping[str, OutputFile], hashes: Mapping[str, str], *, staging: Path
) -> None:
    """Fetches the files of a stage into `staging`, and compares each with its hash."""
    for name, file in files.items():
        path = staging / name
        if not path.is_file() or (name in hashes and sha256_of(path) != hashes[name]):
            kaggle.download(file, path)
        if name in hashes and sha256_of(path) != hashes[name]:
            path.unlink()
            raise UserError(f"{stage}/{name} differs from its manifest (SHA-256); fetch again")
    if missing := _missing(staging, hashes):
        raise UserError(f"{stage}/{missing[0]} is in its manifest but not in the output; run {WRITTEN_BY[stage]} again")


def _missing(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    return [name for name in hashes if not name.startswith(_CHECKPOINTS) and not (folder / name).is_file()]


def _is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder holds exactly this finished stage already."""
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
            raise UserError(f"{target} holds files that no stage has written; name another folder with --out")
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    staging.rename(target)
    shutil.rmtree(previous, ignore_errors=True)
