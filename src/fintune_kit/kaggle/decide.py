"""Decides what to do with a kernel, from its versions at Kaggle.

finished, and made from the current inputs     nothing
running                                        wait
stopped, with a checkpoint of these packs      push, with that version attached
anything else                                  push
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle, Status
from fintune_kit.kaggle.history import History, Version, made_from_another
from fintune_kit.kaggle.manifest import Kernel


@dataclass(frozen=True, kw_only=True)
class Input:
    """A finished version of a kernel, for the kernels that read it."""

    version: Version
    source: str
    """The address that attaches it: `owner/slug`, or `owner/slug/version` if it is not the newest."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do with a kernel."""

    action: Literal["nothing", "wait", "push"]
    because: str = ""
    finished: Input | None = None
    """With `nothing`: the finished version."""
    running: int = 0
    """With `wait`: the number of the running version."""
    checkpoint: Version | None = None
    """With `push`: the version to continue from. With `wait`: the version before, to see whether steps are gained."""


def decide(kaggle: Kaggle, kernel: Kernel, *, inputs: Sequence[Version], fresh: bool) -> Decision:
    """Decides what to do with a kernel.

    Args:
        inputs: the finished versions of the kernels that it reads.
        fresh: run it from the start in any case.

    Raises:
        UserError: Kaggle does not answer, or the kernel is running and `fresh` is set.
    """
    history = History(kaggle, kernel)
    if not history.newest:
        return Decision(action="push")
    status = kaggle.status(kernel.ref, version=history.newest)
    if is_running(status):
        return _decide_running(history, fresh=fresh)
    useful = None if fresh else history.useful()
    if useful is None:
        return Decision(action="push")
    if changed := made_from_another(kaggle, useful, inputs):
        because = f"version {useful.number} was made from another {changed}/ than the current one: starting again"
        return Decision(action="push", because=because)
    if not useful.is_finished:
        because = f"continuing from version {useful.number}, which did {useful.steps} optimizer steps"
        return Decision(action="push", because=because, checkpoint=useful)
    newer = f" (version {history.newest} after it is {status.state})" if useful.number != history.newest else ""
    return Decision(
        action="nothing",
        because=f"done already, version {useful.number} wrote {', '.join(kernel.writes)}{newer}",
        finished=_as_input(useful, history),
    )


def _decide_running(history: History, *, fresh: bool) -> Decision:
    kernel, number = history.kernel, history.newest
    if fresh:
        raise UserError(
            f"version {number} of {kernel.name} is running; cancel it at kaggle.com/code/{kernel.ref} first, or leave "
            f"--fresh out"
        )
    before = next((v for v in history if v.number != number and (v.is_finished or v.steps)), None)
    return Decision(
        action="wait",
        because=f"version {number} is running already",
        running=number,
        checkpoint=None if before is None or before.is_finished else before,
    )


def find_input(kaggle: Kaggle, kernel: Kernel) -> Input | None:
    """The newest finished version of a kernel that others read; None while a version is running.

    Raises:
        UserError: the kernel has no finished version.
    """
    history = History(kaggle, kernel)
    if not history.newest:
        raise UserError(
            f"{kernel.ref} has never been pushed; push {kernel.name} first, or all with --all --wait, or name another "
            f"that writes the same with --after"
        )
    status = kaggle.status(kernel.ref, version=history.newest)
    if is_running(status):
        return None
    finished = history.finished()
    if finished is None:
        what = f"has not written {' and '.join(kernel.writes)}" if status.state == "complete" else f"is {status.state}"
        raise UserError(f"{kernel.name} {what}; expected it finished: push it again, in the same command with --wait")
    return _as_input(finished, history)


def is_running(status: Status) -> bool:
    """Whether a session runs, or waits for its machine."""
    return status.state in ("waiting", "running")


def _as_input(version: Version, history: History) -> Input:
    is_newest = version.number == history.newest
    return Input(version=version, source=history.kernel.ref if is_newest else version.source)
