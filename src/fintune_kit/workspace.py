"""Where the stages leave their files, and how they leave them whole.

    <workspace>/
        conversations/  packed/  run/  adapter/  evaluation/  figures/
        base/  statements/  transactions/          (where the recipe makes its own base, its own transactions)
        recipe.toml                                (the recipe that all of this was made with)

A stage writes its folder aside and renames it into place; `manifest.json`, written last, says what made it and from
which inputs. A folder without a manifest is unfinished, and a stage that needs it names the notebook that writes it.

The first stage leaves the recipe. It rules in every later stage, process and session. A value that a finished stage
depends on cannot be changed any more; one that only later stages depend on can.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.recipe_values import differences, values_of
from fintune_kit.recipes import Recipe, read_recipe

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
RECIPE = "recipe.toml"
MAX_HOURS = 1000
"""Of a time budget; more is a typing mistake."""

WRITTEN_BY = {
    "base": "notebooks/01_data.ipynb (recipe smoke makes its own small base model)",
    "conversations": "notebooks/01_data.ipynb, or `fintune-kit data`",
    "statements": "notebooks/01_data.ipynb with a recipe that has transactions, or `fintune-kit transactions generate`",
    "transactions": "notebooks/01_data.ipynb with a recipe that has transactions, or "
    "`fintune-kit transactions conversations`",
    "packed": "notebooks/02_pack.ipynb, or `fintune-kit pack`",
    "run": "notebooks/03_train_p100.ipynb, or `fintune-kit train`",
    "adapter": "notebooks/03_train_p100.ipynb, or `fintune-kit train`",
    "evaluation": "notebooks/04_evaluate.ipynb, or `fintune-kit evaluate`",
}

IN_ORDER = {"conversations": MANIFEST, "packed": MANIFEST, "run": "plan.json"}
"""The stages that a recipe rules, in their order, each with the file that shows that it has begun."""
_FIRST_USED = {
    "data": "conversations",
    "seed": "conversations",
    "pack": "packed",
    "tokenizer": "packed",
    "base": "run",
    "lora": "run",
    "train": "run",
}
"""The stage after which a value, or the values of a section, cannot be changed any more."""
TITLES = {
    "conversations": "fintune-kit 01 data",
    "packed": "fintune-kit 02 pack",
    "run": "fintune-kit 03 train p100",
    "adapter": "fintune-kit 03 train p100",
    "evaluation": "fintune-kit 04 evaluate",
}
"""The titles under which Kaggle lists the notebooks that write these stages."""

_VERSIONED = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "accelerate", "tokenizers", "pyarrow")
_ON_A_TPU = ("jax", "libtpu", "google-tunix")


@dataclass(frozen=True)
class Workspace:
    """One folder that holds everything a run reads and writes."""

    root: Path

    def folder(self, stage: str) -> Path:
        """The folder of a stage (a key of `WRITTEN_BY`), whether it exists or not."""
        assert stage in WRITTEN_BY, stage
        return self.root / stage

    @property
    def figures(self) -> Path:
        """Every figure that a notebook shows, as PNG."""
        return self.root / "figures"

    def existing(self, stage: str) -> Path:
        """The folder of a finished stage: in the workspace, else among Kaggle's inputs.

        Raises:
            MissingInputError: it is nowhere, or unfinished.
        """
        own = self.folder(stage)
        previous = own.with_name(own.name + ".previous")  # a writer is between its two renames, or was killed there
        for folder in (own, previous):
            if (folder / MANIFEST).is_file():
                read_manifest(folder, stage=stage)
                return folder
        attached = attached_folders(stage, holding=MANIFEST)
        if len(attached) > 1:
            raise UserError(f"several attached inputs hold {stage}/: {', '.join(map(str, attached))}; attach only one")
        if attached:
            return attached[0]
        hint = ""
        if on_kaggle() and stage in TITLES:
            hint = f"; on Kaggle, add its output to this notebook (Add Input, Your Work, {TITLES[stage]!r})"
        try:
            read_manifest(own, stage=stage)  # raises, and says whether it is missing or unfinished
        except MissingInputError as error:
            raise MissingInputError(f"{error}{hint}") from None
        raise AssertionError("unreachable")

    @property
    def recipe_file(self) -> Path:
        """Where the recipe lies."""
        return self.root / RECIPE

    def made_with(self) -> Recipe | None:
        """The recipe that this workspace was made with: its own, else that of the last stage among Kaggle's inputs."""
        if self.recipe_file.is_file():
            return read_recipe(self.recipe_file)
        for stage, file in reversed(IN_ORDER.items()):
            for folder in attached_folders(stage, holding=file):
                if (folder.parent / RECIPE).is_file():
                    return read_recipe(folder.parent / RECIPE)
        return None

    def begun(self, stage: str) -> Path | None:
        """The folder of a stage that is there, here or among Kaggle's inputs; a run counts from its plan on."""
        here = [self.folder(stage)] if (self.folder(stage) / IN_ORDER[stage]).is_file() else []
        found = here or attached_folders(stage, holding=IN_ORDER[stage])
        return found[0] if found else None

    def keep(self, recipe: Recipe, *, stage: str, fresh: bool = False) -> Path:
        """Leaves the recipe in the workspace, for all later stages; called when `stage` begins to write.

        Returns:
            The recipe's file.

        Raises:
            UserError: an earlier stage was made with other values.
        """
        made = self.made_with()
        if made is not None:
            self._refuse_other_values(recipe, made, values_of(Recipe), stage=stage, fresh=fresh)
        text = recipe.as_toml()
        if not self.recipe_file.is_file() or self.recipe_file.read_text(encoding="utf-8") != text:
            write_text(self.recipe_file, text)
        return self.recipe_file

    def _refuse_other_values(
        self, asked: Recipe, made: Recipe, names: Iterable[str], *, stage: str | None, fresh: bool
    ) -> None:
        """Refuses values that differ from those that an earlier stage was made with."""
        earlier = list(IN_ORDER)[: None if stage is None else list(IN_ORDER).index(stage)]
        folders = {name: self.begun(name) for name in earlier}
        run = self.folder("run")
        if stage == "run" and not fresh and any((run / name).exists() for name in (IN_ORDER["run"], "checkpoints")):
            folders["run"] = run  # it will go on; one in an attached input is left alone
        for name, (want, have) in differences(asked, made).items():
            first = _FIRST_USED.get(name.partition(".")[0], "")
            folder = folders.get(first)
            if folder is not None and name in set(names):
                whose = "" if asked.name == made.name else f" by recipe {asked.name!r}"
                raise UserError(
                    f"{folder} was made with {name}={have!r} (recipe {made.name!r}), and {want!r} is asked for{whose}: "
                    f"leave it out, or name another workspace with FINTUNE_WORKSPACE"
                    + (", or start over with --fresh" if first == "run" else "")
                )

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a stage in this workspace; None while it is unfinished."""
        folder = self.folder(stage)
        return read_manifest(folder, stage=stage) if (folder / MANIFEST).is_file() else None


def time_budget(on_kaggle_at_most: str = "11h30m") -> list[str]:
    """`--time-budget` as `FINTUNE_TIME_BUDGET` says, else half an hour less than Kaggle's session, else none.

    In a session on Kaggle the budget counts from its first cell: the packages and the base model take their time too.
    """
    budget = os.environ.get("FINTUNE_TIME_BUDGET") or (on_kaggle_at_most if on_kaggle() else "")
    began = os.environ.get("FINTUNE_SESSION_BEGAN")
    if budget and began:
        budget = f"{max(1, round(parse_duration(budget) - (time.time() - float(began))))}s"
    return ["--time-budget", budget] if budget else []


def parse_duration(text: str) -> float:
    """Seconds of `11h30m`, `45m`, `90s` or any of these together.

    Raises:
        UserError: it is of another form, nothing, or more than `MAX_HOURS`.
    """
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", text, flags=re.ASCII)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= MAX_HOURS * 3600:
        shown = text if len(text) <= 20 else f"{text[:20]}..."
        raise UserError(
            f"--time-budget is {shown!r}; expected hours, minutes and seconds, together from 1s to {MAX_HOURS}h, "
            f"as in 11h30m"
        )
    return float(total)


def read_limit() -> float:
    """The factor by which a file may be larger than `bounds` allows, from `FINTUNE_READ_LIMIT`; 1 where nothing is set.

    Raises:
        UserError: it is not a number above 0.
    """
    text = os.environ.get("FINTUNE_READ_LIMIT") or "1"
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, flags=re.ASCII) or float(text) == 0:
        raise UserError(f"FINTUNE_READ_LIMIT is {text[:20]!r}; expected a number above 0, as in 10")
    return float(text)


def named_base_id() -> str | None:
    """The hub id of the base model as `FINTUNE_BASE_ID` says it, for a base that lies in a folder of another name."""
    return os.environ.get("FINTUNE_BASE_ID") or None


def on_kaggle() -> bool:
    """Whether this is a Kaggle kernel (Kaggle sets the variable; the folder alone proves nothing)."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def open_workspace(
    asked: Recipe, *, stage: str | None = None, fresh: bool = False, out: Path | None = None
) -> tuple[Recipe, Workspace]:
    """The workspace of a run, and the recipe that rules in it.

    That is the recipe that the workspace was made with, with the values that were asked for where no earlier stage
    depends on them. Where it differs from the recipe that was asked for, one line on stderr says so.

    Args:
        asked: as `load_recipe` returns it, or changed by `with_values`.
        stage: the stage that is about to be written: `conversations`, `packed` or `run`. None writes none of them.
        fresh: whether a run that has begun is thrown away.
        out: a workspace of its own for what is written; None writes into the same one. The recipe in it goes first.

    Raises:
        UserError: a value was asked for that an earlier stage was made without.
    """
    workspace = find_workspace(asked.name)
    home = Workspace(out) if out else workspace
    made = home.made_with() or workspace.made_with()
    if made is None:
        return asked, workspace
    other = "name" in asked.asked and asked.name != made.name
    names = values_of(Recipe) if other else asked.asked
    # Another recipe may not write over the first stage: all that was made from it would be left behind.
    checked = None if other and stage == "conversations" else stage
    home._refuse_other_values(asked, made, names, stage=checked, fresh=fresh)
    recipe = merged(asked, made)
    if line := _difference(asked, recipe):
        print(f"{home.recipe_file}: {line}", file=sys.stderr)
    return recipe, workspace


def merged(asked: Recipe, made: Recipe | None) -> Recipe:
    """The recipe of a workspace with the values that were asked for; a recipe of another name takes its place."""
    if made is None or ("name" in asked.asked and asked.name != made.name):
        return asked
    wanted = {name: want for name, (want, _) in differences(asked, made).items() if name in asked.asked}
    return made.changed(wanted, origin="the recipe that was asked for")


def _difference(asked: Recipe, rules: Recipe) -> str:
    """How the recipe that rules differs from the one that was asked for, on one line; empty if it does not."""
    if rules.name != asked.name:
        return f"recipe {rules.name}"  # nothing was asked for by name
    differing = [f"{name} is {have!r}, not {want!r}" for name, (want, have) in differences(asked, rules).items()]
    more = f" and {len(differing) - 6} more" if len(differing) > 6 else ""
    return f"recipe {rules.name}: {'; '.join(differing[:6])}{more}" if differing else ""


def find_workspace(recipe_name: str) -> Workspace:
    """The folder of a run: `FINTUNE_WORKSPACE`, else Kaggle's output folder, else `runs/<recipe>` here."""
    named = os.environ.get("FINTUNE_WORKSPACE")
    if named:
        return Workspace(Path(named).expanduser().resolve())
    if on_kaggle():
        return Workspace(kaggle_root() / "working")
    return Workspace((Path.cwd() / "runs" / recipe_name).resolve())


def kaggle_root() -> Path:
    """`/kaggle`, or the folder that stands in for it in tests (`FINTUNE_KAGGLE_ROOT`)."""
    return Path(os.environ.get("FINTUNE_KAGGLE_ROOT", "/kaggle"))


def sample_folder() -> Path:
    """The bundled sample: beside the package in a wheel, at the top of the repository in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "sample", package.parents[1] / "data" / "sample"):
        if folder.is_dir():
            return folder
    raise MissingInputError(f"the bundled sample was not found beside {package}; install the package again")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, or of a folder's files with their relative names, in sorted order."""
    digest = hashlib.sha256()
    if path.is_dir():
        for child in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{child.relative_to(path).as_posix()}\0{sha256_of(child)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON aside, flushes it to the disk and renames it: a killed run leaves the old file whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """The value that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Writes text aside, flushes it to the disk and renames it. Two processes never write the same file aside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Holds the lock of a stage's folder: it has one writer at a time.

    .packed.lock    beside packed/; says who writes it. The system releases it when that process ends.

    Raises:
        UserError: another process holds it, or the folder has no name of its own.
    """
    if not target.name:
        raise UserError(f"the folder to write is {str(target)!r}; expected one of its own, as in runs/mine")
    path = target.with_name(f".{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _lock(path, target)
    try:
        yield
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _lock(path: Path, target: Path) -> int | None:
    """The locked file; None if the file system knows no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise UserError(
                f"{target} is being written by {holder}; expected one writer: wait until it ends, or name another "
                f"folder with --out or FINTUNE_WORKSPACE"
            ) from None
        except OSError as error:
            os.close(handle)
            log.warning("%s cannot be locked (%s): start nothing else that writes it", target, error.strerror)
            return None
        # A writer that ends deletes its lock. Whoever had opened it before that holds a file that locks nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                return handle
        os.close(handle)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target` that takes its place when the block ends without an exception.

    packed.partial/   written by the block; removed if it raises
    packed.previous/  the old folder, for the instant between the two renames

    A link to a folder stays a link: the folder that it leads to is replaced.

    Raises:
        UserError: another process writes it, or it holds files that are not ours.
    """
    target = target.resolve() if target.is_symlink() else target
    with writing(target):
        partial, previous = target.with_name(target.name + ".partial"), target.with_name(target.name + ".previous")
        _restore_interrupted_swap(target)
        if target.exists() and not target.is_dir():
            raise UserError(f"{target} is a file; expected a folder to write to: name another with --out")
        if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise UserError(
                f"{target} holds files but no {MANIFEST}, so they are not ours to replace; name an empty folder with "
                f"--out"
            )
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if target.exists():
            target.rename(previous)
        partial.rename(target)
        shutil.rmtree(previous, ignore_errors=True)


def _restore_interrupted_swap(target: Path) -> None:
    """Finishes or undoes the two renames of a writer that was killed.

    The caller holds the lock. Without it, the renames of a living writer would look the same.
    """
    previous = target.with_name(target.name + ".previous")
    if previous.is_dir() and not target.exists():
        previous.rename(target)
    elif previous.is_dir():
        shutil.rmtree(previous)


def write_manifest(
    folder: Path, *, stage: str, inputs: Mapping[str, str], counts: Mapping[str, Any], **details: Any
) -> None:
    """Finishes a stage's folder with its manifest: stage, inputs, counts, and the SHA-256 of each file.

    Holds no time and no path of this machine, so that the same inputs give the same bytes.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {
        "stage": stage,
        "written_by": WRITTEN_BY[stage],
        "inputs": dict(inputs),
        "counts": dict(counts),
        **details,
        "files": files,
        "versions": versions(),
    }
    write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path, *, stage: str) -> dict[str, Any]:
    """The manifest of a finished stage.

    Raises:
        MissingInputError: the folder or its manifest is missing, or belongs to another stage.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "is unfinished (it has no manifest.json)" if folder.is_dir() else "is missing"
        raise MissingInputError(f"{folder} {what}; expected the output of stage {stage}: run {WRITTEN_BY[stage]} first")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise MissingInputError(f"{path} is damaged ({error}); run {WRITTEN_BY[stage]} again") from error
    if manifest.get("stage") != stage:
        raise MissingInputError(
            f"{folder} holds stage {manifest.get('stage')!r}, expected {stage!r}: name another folder, or run "
            f"{WRITTEN_BY[stage]} first"
        )
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], *, stage: str) -> None:
    """Compares each file of a finished stage with the SHA-256 in its manifest.

    Raises:
        UserError: a file is missing or has changed; it is named.
    """
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing, though its manifest lists it; run {WRITTEN_BY[stage]} again")
        if sha256_of(path) != expected:
            raise UserError(f"{path} has changed since it was written (SHA-256); run {WRITTEN_BY[stage]} again")


def newest_checkpoint(checkpoints: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None. A damaged or unfinished one is skipped with a warning."""
    for folder in checkpoints_by_step(checkpoints):
        fault = find_damage(folder)
        if fault is None:
            return folder
        log.warning("checkpoint %s is skipped: %s", folder, fault)
    return None


def checkpoints_by_step(checkpoints: Path) -> list[Path]:
    """All folders `checkpoint-<step>`, the newest first, whole or not."""
    found = [p for p in checkpoints.glob("checkpoint-*") if p.is_dir() and p.name.split("-")[-1].isdigit()]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps that a checkpoint holds, from its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def find_damage(folder: Path, *, only: Iterable[str] | None = None) -> str | None:
    """A sentence about a folder's damage: a missing manifest, or a listed file that is missing or changed; else None.

    Args:
        folder: a checkpoint, or the folder of a finished stage.
        only: the files to check; None checks all that the manifest lists.
    """
    try:
        expected = dict(read_json(folder / MANIFEST)["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is missing or unreadable"
    for name in expected if only is None else only:
        path, digest = folder / name, expected.get(name)
        if not path.is_file():
            return f"{name} is missing"
        if sha256_of(path) != digest:
            return f"{name} has changed since it was written"
    return None


def versions() -> dict[str, str]:
    """The versions that a result depends on: Python, this package and the libraries that compute."""
    found = {"python": platform.python_version()}
    for name in ("fintune-kit", *_VERSIONED):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    for name in _ON_A_TPU:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def attached_folders(stage: str, *, holding: str) -> list[Path]:
    """A stage's folders among Kaggle's read-only inputs that hold a file of this name, in the new layout (four deep)
    and in the old flat one; none elsewhere."""
    if not on_kaggle():
        return []
    inputs = kaggle_root() / "input"
    patterns = (f"*/{stage}/{holding}", f"notebooks/*/*/{stage}/{holding}", f"datasets/*/*/{stage}/{holding}")
    return sorted({path.parent for pattern in patterns for path in inputs.glob(pattern)})
