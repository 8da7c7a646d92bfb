"""Keeps the output of a session below 20 GB, because a session with a larger output fails.

If room is needed, three things are deleted, in this order: unfinished folders, all checkpoints except the newest one,
and the newest one if the run is finished.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.workspace import MANIFEST, newest_checkpoint

LIMIT = 19_500_000_000
"""Half a gigabyte below Kaggle's 20 GB. Kaggle saves the executed notebook and the log beside it."""


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def keep_output_small(working: Path, *, limit: int = LIMIT) -> str:
    """Deletes files that the next session does not need until the output fits, and returns a sentence about it.

    Raises:
        UserError: the output is still too large; the largest folders are named.
    """
    size = folder_bytes(working)
    removed = []
    for folder in _expendable(working):
        if size <= limit:
            break
        size -= folder_bytes(folder)
        shutil.rmtree(folder)
        removed.append(folder.relative_to(working).as_posix())
    if size > limit:
        largest = sorted(((folder_bytes(path), path.name) for path in working.iterdir()), reverse=True)[:3]
        named = ", ".join(f"{name} {bytes_ / 1e9:.2f} GB" for bytes_, name in largest)
        raise UserError(
            f"the output has {size / 1e9:.2f} GB, and Kaggle saves {limit / 1e9:.2f} GB ({named}); delete what is not "
            f"needed in a cell before the last one"
        )
    deleted = f"; deleted to make room: {', '.join(removed)}" if removed else ""
    return f"output: {size / 1e9:.2f} of {limit / 1e9:.2f} GB{deleted}"


def _expendable(working: Path) -> Iterator[Path]:
    yield from sorted(path for path in working.glob("*.partial") if path.is_dir())
    checkpoints = working / "run" / "checkpoints"
    if (checkpoints / "partial").is_dir():
        yield checkpoints / "partial"
    newest = newest_checkpoint(checkpoints) if checkpoints.is_dir() else None
    yield from sorted(path for path in checkpoints.glob("checkpoint-*") if path != newest)
    if newest is not None and (working / "run" / MANIFEST).is_file() and (working / "adapter" / MANIFEST).is_file():
        yield newest
