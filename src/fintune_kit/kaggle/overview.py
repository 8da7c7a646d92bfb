"""`fintune-kit kaggle status`: a line for each kernel, and the hours of the week; `--follow` shows a running log.

01_data        v1   done                     began 2026-11-22 10:00  ran  0h12m  CPU
03_train_p100  v2   stopped at step 80       began 2026-11-22 10:20  ran 11h31m  NvidiaTeslaT4
GPU quota: 18.4 of 30.0 h left this week (the plan needs 0.6 to 2.1 h), reset 2026-11-28 00:00 UTC
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle, KernelInfo, Status
from fintune_kit.kaggle.calls.door import UnreachableError
from fintune_kit.kaggle.calls.replies import last_error, ran_for, read_log
from fintune_kit.kaggle.decide import is_running
from fintune_kit.kaggle.history import History, Version
from fintune_kit.kaggle.manifest import Kernel
from fintune_kit.kaggle.waiting import MAX_SILENCES, POLL_SECONDS

Hours = tuple[float, float]
"""The low and the high estimate of a plan."""


def describe_chain(
    kaggle: Kaggle, kernels: Sequence[Kernel], *, needed: Mapping[str, Hours] | None = None, now: datetime | None = None
) -> str:
    """A line for each kernel, and one for each quota. An error about one kernel stands in its line.

    Args:
        needed: for `GPU` and `TPU`, the hours of the kernels' plan.
        now: the current time; None takes the clock.
    """
    moment = now or datetime.now(UTC)
    width = max(len(kernel.name) for kernel in kernels)
    lines = [f"{kernel.name:<{width}}  {_line_of(kaggle, kernel, moment)}" for kernel in kernels]
    try:
        return "\n".join([*lines, *_quota_lines(kaggle, needed or {})])
    except UserError as error:
        return "\n".join([*lines, f"quota: {error}"])


def follow_log(kaggle: Kaggle, kernel: Kernel, *, show: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Shows the log of a running session until it ends.

    Kaggle cuts the connection every few minutes and then sends the log from its beginning, so shown pieces are skipped.

    Raises:
        UnreachableError: Kaggle stayed out of reach for half an hour.
    """
    shown = failures = 0
    while True:
        try:
            for number, line in enumerate(kaggle.follow(kernel.ref), start=1):
                if number > shown:
                    show(line.text)
                    shown, failures = number, 0
            return
        except UnreachableError:
            failures += 1
            if failures > MAX_SILENCES:
                raise
            sleep(POLL_SECONDS)


def find_running(kaggle: Kaggle, kernels: Sequence[Kernel]) -> Kernel:
    """The first kernel that is running.

    Raises:
        UserError: none of them is running.
    """
    for kernel in kernels:
        info = kaggle.info(kernel.ref)
        if info is not None and is_running(kaggle.status(kernel.ref)):
            return kernel
    names = ", ".join(kernel.name for kernel in kernels)
    raise UserError(f"no session of {names} is running; expected one to follow: push one first, or leave --follow out")


def _line_of(kaggle: Kaggle, kernel: Kernel, now: datetime) -> str:
    try:
        info = kaggle.info(kernel.ref)
        if info is None:
            return "never pushed"
        status = kaggle.status(kernel.ref, version=info.version)
        return _describe(History(kaggle, kernel), info, status, now)
    except UserError as error:
        return f"could not be asked: {error}"


def _describe(history: History, info: KernelInfo, status: Status, now: datetime) -> str:
    newest = history.version(info.version) if status.state != "waiting" else None
    lines = read_log(newest.log) if newest else []
    began = f"{info.last_run:%Y-%m-%d %H:%M}" if info.last_run else "?"
    if is_running(status):
        seconds = (now - info.last_run).total_seconds() if info.last_run and status.state == "running" else None
    else:
        seconds = ran_for(lines) or None
    text = (
        f"v{info.version:<3} {_outcome(status, newest):<24} began {began}  ran {_duration(seconds)}  "
        f"{info.machine_shape or 'CPU'}"
    )
    if status.state in ("failed", "cancelled"):
        text += f"\n    {status.message or last_error(lines)}"
    if newest is not None and not newest.is_finished and (older := history.finished()):
        text += f"\n    version {older.number} is done"
    return text


def _outcome(status: Status, newest: Version | None) -> str:
    if newest is None or is_running(status) or status.state == "new":
        return status.state
    if newest.is_finished:
        return "done"
    if newest.steps:
        return f"stopped at step {newest.steps}"
    return status.state if status.state != "complete" else f"complete, no {newest.missing[0]}"


def _quota_lines(kaggle: Kaggle, needed: Mapping[str, Hours]) -> list[str]:
    lines = []
    for quota in kaggle.quota():
        left = max(0.0, quota.total_hours - quota.used_hours)
        needs = needed.get(quota.resource)
        plan = f" (the plan needs {needs[0]:.1f} to {needs[1]:.1f} h)" if needs else ""
        reset = f", reset {quota.refresh:%Y-%m-%d %H:%M} UTC" if quota.refresh else ""
        lines.append(f"{quota.resource} quota: {left:.1f} of {quota.total_hours:.1f} h left this week{plan}{reset}")
    return lines


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "     ?"
    return f"{int(seconds // 3600):>2}h{int(seconds % 3600 // 60):02}m"
