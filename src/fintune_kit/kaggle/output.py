"""The output of a session: Kaggle saves 20 GB of `working/` and fails a session that leaves more.

What may go, in this order: what was never finished, all but the newest checkpoint, and, once the run is done, that too.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.workspace import MANIFEST, newest_checkpoint

LIMIT = 19_500_000_000
"""Half a gigabyte below Kaggle's 20 GB: the executed notebook and the log are saved too."""


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def keep_output_small(working: Path, *, limit: int = LIMIT) -> str:
    """Deletes what the next session can do without until the output fits, and says in a sentence what was done.

    Raises:
        UserError: it does not fit even so; the largest folders are named.
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
            f"the output has {size / 1e9:.2f} GB, Kaggle saves {limit / 1e9:.2f} GB ({named}); delete what is not "
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
