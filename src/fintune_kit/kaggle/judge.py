"""Decides after an unfinished session whether another session can continue its work.

Kaggle's state is not enough for that. Kaggle calls a session cancelled when its time was over, and failed when it ran
out of memory after ten hours. In both cases there may be a checkpoint.
"""

from collections.abc import Callable
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle, Status
from fintune_kit.kaggle.calls.replies import failing_cell, is_time_limit, last_error, read_log
from fintune_kit.kaggle.history import Version, run_identity
from fintune_kit.workspace import write_text


def require_progress(
    kaggle: Kaggle,
    ended: Version,
    status: Status,
    *,
    before: Version | None,
    until_done: bool,
    logs: Path,
    say: Callable[[str], None],
) -> None:
    """Returns if another session can continue from the checkpoint of the one that ended; else raises an error.

    Args:
        before: the version from whose checkpoint the session started; None if it started from nothing.
        until_done: whether the user allows as many sessions as necessary.
        logs: the folder for the log of a session that did not complete.

    Raises:
        UserError: the session gained no step, a person cancelled it, or `until_done` is not set.
    """
    name, reason = ended.kernel.name, reason_for_end(ended, status)
    kept = "" if status.state == "complete" else f" (log: {keep_log(ended, logs, say=say)})"
    if status.state == "cancelled" and not is_time_limit(status.message):
        raise UserError(f"{name} was cancelled{kept}; run the same command again to go on")
    if not ended.steps:
        raise UserError(
            f"{name} {reason}{kept}, without {' and '.join(ended.missing)} and without a checkpoint; correct that and "
            f"run the same command again, or look at kaggle.com/code/{ended.kernel.ref}"
        )
    if before is not None and ended.steps <= before.steps and _same_run(kaggle, ended, before):
        raise UserError(
            f"{name} {reason}{kept}, and its last session made no step beyond {before.steps}; raise "
            f"FINTUNE_TIME_BUDGET, or take a faster accelerator, before it is pushed again"
        )
    if not until_done:
        raise UserError(
            f"{name} {reason} after {ended.steps} optimizer steps{kept}, without {' and '.join(ended.missing)}; the "
            f"same command goes on from its checkpoint, and --until-done does so by itself"
        )
    say(f"{name}: {reason} after {ended.steps} optimizer steps{kept}; going on from its checkpoint")


def reason_for_end(ended: Version, status: Status) -> str:
    """The reason for the end of a session: Kaggle's own words, else the error in its log."""
    if status.state == "complete":
        return "was stopped by its time budget" if ended.steps else "ended"
    if status.state == "cancelled":
        return f"was stopped by Kaggle ({status.message})"
    lines = read_log(ended.log)
    cell = failing_cell(lines)
    return f"failed in {f'cell {cell[0]}' if cell else 'its session'}: {status.message or last_error(lines)}"


def keep_log(ended: Version, folder: Path, *, say: Callable[[str], None]) -> Path:
    """Writes the log of a session, and shows the traceback of the cell that failed."""
    lines = read_log(ended.log)
    path = folder / f"{ended.kernel.name}.log"
    write_text(path, "".join(line.text for line in lines))
    if cell := failing_cell(lines):
        say(f"{ended.kernel.name}: cell {cell[0]} failed\n{cell[1]}")
    return path


def _same_run(kaggle: Kaggle, one: Version, other: Version) -> bool:
    """Whether two checkpoints belong to one run. A run with another recipe does not continue an old checkpoint."""
    return run_identity(kaggle, one) == run_identity(kaggle, other)
