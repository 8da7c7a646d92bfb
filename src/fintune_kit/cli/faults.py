"""Turns signals and faults of the machine into one sentence and an exit code, without a traceback.

Ctrl-C, SIGTERM                                            130, 143
the reader of the output has ended, as in `... | head`     141, and no sentence
full disk, no permission, no network, a name too long      2
anything else                                              1; it is our fault, so Python shows the traceback
"""

import contextlib
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from fintune_kit.errors import UserError, first_line

STOPPED, TERMINATED, NOBODY_READS = 130, 143, 141
"""128 plus the number of the signal, as in shells."""
FULL_BYTES = 1 << 20
"""With less free space than this, a fault is explained by the full disk. Not every library says so itself."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NETWORK = ("httpcore", "httpx", "requests", "urllib3")


class TerminatedError(KeyboardInterrupt):
    """SIGTERM was received. Code that cleans up after Ctrl-C cleans up after this error too."""


@contextlib.contextmanager
def catching_sigterm() -> Iterator[None]:
    """In this block SIGTERM raises `TerminatedError`, so unfinished folders are removed as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return

    def _stop(_number: int, _frame: FrameType | None) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave_quietly() -> int:
    """Lets Python close an output that nobody reads any more without an error, and returns the exit code."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NOBODY_READS


def describe_fault(error: Exception, *, arguments: Sequence[str]) -> str | None:
    """A sentence about a fault of the machine; None if the error may be our own fault.

    Args:
        arguments: of the command. If some are paths, their disks are checked for free space.
    """
    if isinstance(error, UserError):
        return str(error)
    named = str(error.filename) if isinstance(error, OSError) and error.filename else ""
    if full := _full_disk(error, [named, *arguments]):
        return f"the disk of {full} is full: free some space, and run the same command again"
    if type(error).__module__.partition(".")[0] in _NETWORK or isinstance(error, ConnectionError | TimeoutError):
        return f"the network cannot be reached ({_short(error)}): check it and run the same command again"
    if not isinstance(error, OSError):
        return None
    if error.errno in _REFUSED:
        return (
            f"{named or 'a file'} cannot be read or written here ({error.strerror}): check whose it is, or name "
            f"another folder with --out or FINTUNE_WORKSPACE"
        )
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {named[:60]}... is too long for this disk ({len(named)} characters): name a shorter one"
    if named and error.errno:
        return f"{named} cannot be used ({error.strerror}): check the path and run the same command again"
    return f"{_short(error)}: correct that and run the same command again"


def _full_disk(error: Exception, paths: Sequence[str]) -> str | None:
    """The path on a full disk, or None."""
    for text in paths:
        path = Path(text)
        with contextlib.suppress(OSError, ValueError):
            existing = next(p for p in (path, *path.absolute().parents) if p.exists())
            disk = shutil.disk_usage(existing)
            if disk.free < FULL_BYTES and disk.total:  # /proc has neither
                return str(existing)
    return str(paths[0] or "the output") if isinstance(error, OSError) and error.errno in _FULL else None


def _short(error: Exception) -> str:
    return first_line(error)[:300].rstrip(".")
