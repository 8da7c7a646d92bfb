"""Checkpoints that are whole or absent: each is written in a folder of its own, sealed with SHA-256 and renamed.

run/checkpoints/                the two newest are kept
    partial/checkpoint-40/      being written; if the run is killed, the next run removes it
    checkpoint-30/              adapter, optimizer, schedule, random state, trainer state
        manifest.json           the run that it belongs to, and the SHA-256 of each file; written last
    checkpoint-20/
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError, first_line
from fintune_kit.plan.devices import GIB
from fintune_kit.train.record.log import NAME as LOG
from fintune_kit.workspace import (
    MANIFEST,
    checkpoints_by_step,
    newest_checkpoint,
    read_json,
    sha256_of,
    write_json,
)

KEPT = 2
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_NEVER_READ = ("training_args.bin",)  # transformers writes it as a pickle; we load no pickles, so we keep none


def partial_folder(checkpoints: Path) -> Path:
    """Where a checkpoint is written before it is sealed."""
    return checkpoints / "partial"


def seal(written: Path, checkpoints: Path, *, step: int, identity: Mapping[str, Any]) -> Path:
    """Finishes a checkpoint: hashes its files, flushes them and the log to the disk, renames it, removes older ones.

    Args:
        written: the complete folder inside `partial_folder(checkpoints)`.
        step: optimizer steps done.
        identity: of the run, from `run_folder.identity_of`.

    Returns:
        The folder under its final name.
    """
    for name in _NEVER_READ:
        (written / name).unlink(missing_ok=True)
    files = sorted(path for path in written.rglob("*") if path.is_file() and path.name != MANIFEST)
    log = checkpoints.with_name(LOG)
    for path in [log, *files] if log.is_file() else files:  # the log reaches the disk before a checkpoint that is later
        _flush(path)
    hashes = {path.relative_to(written).as_posix(): sha256_of(path) for path in files}
    write_json(written / MANIFEST, {"step": step, "identity": dict(identity), "files": hashes})
    final = checkpoints / f"checkpoint-{step}"
    if final.exists():
        shutil.rmtree(final)
    written.rename(final)
    _flush(checkpoints)  # the new name reaches the disk before an older checkpoint is removed
    for old in checkpoints_by_step(checkpoints)[KEPT:]:
        shutil.rmtree(old)
    return final


def refuse_unlisted_files(checkpoint: Path) -> None:
    """Refuses a checkpoint with a file that its manifest does not list. transformers would read it if its name fits.

    Raises:
        UserError: there is such a file; it is named.
    """
    listed = {*read_json(checkpoint / MANIFEST)["files"], MANIFEST}
    found = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if not path.is_dir()}
    if unlisted := sorted(found - listed):
        raise UserError(
            f"{checkpoint / unlisted[0]} is not listed in the checkpoint's {MANIFEST}; expected only files that "
            f"training wrote: move it away and run the same command again"
        )


@contextmanager
def explaining_a_full_disk(checkpoints: Path, *, step: int) -> Iterator[None]:
    """Turns the error of a save on a full disk into one sentence. Earlier checkpoints stay whole.

    Raises:
        UserError: the disk was full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        shutil.rmtree(partial_folder(checkpoints), ignore_errors=True)
        kept = newest_checkpoint(checkpoints)
        earlier = f"{kept.name} is whole" if kept else "no checkpoint was written before"
        raise UserError(
            f"the checkpoint of step {step} could not be written to {checkpoints} ({first_line(error)}; "
            f"{shutil.disk_usage(checkpoints).free / GIB:.1f} GiB free); expected room for it: free some and run the "
            f"same command again ({earlier})"
        ) from error


def _is_full_disk(error: Exception) -> bool:
    """safetensors and PyTorch raise their own errors, which hold the system's text or a remark on the writer."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    signs = (*(f"os error {number}" for number in _FULL), *map(os.strerror, _FULL), "PytorchStreamWriter failed")
    return any(sign in str(error) for sign in signs)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
