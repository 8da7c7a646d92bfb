"""Waits for Kaggle. A wait can last twelve hours, so it must survive faults of minutes, and it must end some time.

For minutes after a push, Kaggle may not show the new version, may answer with an error page, or not at all. Then each
call is repeated once a minute. A line every ten minutes says that the command is still waiting.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle, OutputFile, Status
from fintune_kit.kaggle.calls.door import AbsentError, UnreachableError
from fintune_kit.kaggle.calls.replies import ENDED
from fintune_kit.kaggle.history import Version
from fintune_kit.kaggle.manifest import Kernel

POLL_SECONDS = 60.0
MAX_SILENCES = 30
"""Calls in a row, one per minute, that may get no answer."""
MAX_REFUSALS = 10
"""Calls in a row, one per minute, that Kaggle may refuse, for example because it does not show a new version yet."""
MAX_POLLS_OF_A_DATASET = 60
MINUTES_UNTIL_AN_OUTPUT_IS_LISTED = 5
MINUTES_BETWEEN_LINES = 10
MAX_RUNNING_MINUTES = 13 * 60
"""A session lasts at most 12 hours."""

Answer = TypeVar("Answer")


def ask_patiently(call: Callable[[], Answer], *, pause: Callable[[UserError], None]) -> Answer:
    """Repeats a call until Kaggle answers it.

    Args:
        call: the call to Kaggle.
        pause: waits for a minute. It gets the error of the call.

    Raises:
        UserError: the last error, after half an hour without an answer or ten minutes of refusals.
    """
    for failures in range(1, MAX_SILENCES + 1):
        try:
            return call()
        except UserError as error:
            if failures >= (MAX_SILENCES if isinstance(error, UnreachableError) else MAX_REFUSALS):
                raise
            pause(error)
    raise AssertionError("unreachable")


def wait_for(
    kaggle: Kaggle, kernel: Kernel, *, version: int, say: Callable[[str], None], sleep: Callable[[float], None]
) -> Status:
    """Waits until the session of a version has ended.

    Raises:
        UserError: Kaggle does not answer, or a session runs longer than any session may.
    """
    minutes, said, said_at, running_since = 0, "", 0, 0

    def _tell(text: str) -> None:
        nonlocal said_at
        say(f"{kernel.name}: {text} after {minutes} min")
        said_at = minutes

    def _pause(error: UserError | None = None) -> None:
        nonlocal minutes
        sleep(POLL_SECONDS)
        minutes += 1
        if minutes - said_at >= MINUTES_BETWEEN_LINES:
            _tell("no answer from Kaggle" if error else said)

    ask_patiently(lambda: _require_version(kaggle, kernel, version), pause=_pause)
    while True:
        now = ask_patiently(lambda: kaggle.status(kernel.ref, version=version), pause=_pause)
        if now.state in ENDED:
            return now
        if now.state != said:
            said, running_since = now.state, minutes
            _tell(f"{said} ({now.message})" if now.message else said)
        if said == "running" and minutes - running_since > MAX_RUNNING_MINUTES:
            raise UserError(
                f"it has run for {MAX_RUNNING_MINUTES // 60} hours, longer than any session lasts; look at "
                f"kaggle.com/code/{kernel.ref}"
            )
        _pause()


def output_of(kaggle: Kaggle, kernel: Kernel, *, version: int, pause: Callable[[UserError | None], None]) -> Version:
    """The output of a session that has ended. Kaggle may list it some minutes later, or never.

    Args:
        pause: lets a minute pass.
    """
    files: Sequence[OutputFile] = ()
    log = ""
    for _ in range(MINUTES_UNTIL_AN_OUTPUT_IS_LISTED):
        with contextlib.suppress(AbsentError):
            files, log = ask_patiently(lambda: kaggle.outputs(kernel.ref, version=version), pause=pause)
        if files or log:
            break
        pause(None)
    return Version(kernel=kernel, number=version, files=files, log=log)


def wait_for_dataset(kaggle: Kaggle, ref: str, *, sleep: Callable[[float], None]) -> None:
    """Waits until a dataset can be attached. Kaggle answers before it has created the dataset.

    Raises:
        UserError: Kaggle failed to create it, or needs longer than a quarter of an hour.
    """
    status = None
    for _ in range(MAX_POLLS_OF_A_DATASET):
        status = kaggle.dataset_status(ref)
        if status == "ready":
            return
        if status in ("failed", "deleted"):
            break
        sleep(POLL_SECONDS / 4)
    raise UserError(
        f"the dataset {ref} is {status or 'not there'}, expected ready; look at it on kaggle.com, then run it again"
    )


def _require_version(kaggle: Kaggle, kernel: Kernel, version: int) -> None:
    """Checks that Kaggle shows this version. Directly after a push, it may still show the one before."""
    info = kaggle.info(kernel.ref)
    if info is None or info.version < version:
        raise AbsentError(f"Kaggle does not show version {version} of {kernel.ref}; look at the page of the kernel")
