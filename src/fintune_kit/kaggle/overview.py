"""`fintune-kit kaggle status`: the chain's kernels with their times, and what is left of the week's quota."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fintune_kit.kaggle.chain import missing_stages, newest_step
from fintune_kit.kaggle.client import Kaggle, KernelInfo, OutputFile
from fintune_kit.kaggle.manifest import Kernel
from fintune_kit.kaggle.replies import LogLine, State, last_error, ran_for, read_log


def describe_chain(kaggle: Kaggle, kernels: Sequence[Kernel], *, now: datetime | None = None) -> str:
    """A line a kernel and a line a quota.

    Args:
        now: the time to count a running session from; None asks the clock.
    """
    moment = now or datetime.now(UTC)
    width = max(len(kernel.name) for kernel in kernels)
    lines = [f"{kernel.name:<{width}}  {_describe(kaggle, kernel, moment)}" for kernel in kernels]
    for quota in kaggle.quota():
        left = max(0.0, quota.total_hours - quota.used_hours)
        reset = f", reset {quota.refresh:%Y-%m-%d %H:%M} UTC" if quota.refresh else ""
        lines.append(f"{quota.resource} quota: {left:.1f} of {quota.total_hours:.1f} h left this week{reset}")
    return "\n".join(lines)


def _describe(kaggle: Kaggle, kernel: Kernel, now: datetime) -> str:
    info = kaggle.info(kernel.ref)
    if info is None:
        return "never pushed"
    status = kaggle.status(kernel.ref)
    files, log = ([], "") if status.state == "waiting" else kaggle.outputs(kernel.ref)
    began = f"{info.last_run:%Y-%m-%d %H:%M}" if info.last_run else "?"
    lines = read_log(log)
    return (
        f"v{info.version:<3} {_outcome(kernel, status.state, files):<24} began {began}  "
        f"ran {_duration(_seconds(info, status.state, lines, now))}  {info.machine_shape or 'CPU'}"
        + (f"\n    {status.message or last_error(lines)}" if status.state == "failed" else "")
    )


def _outcome(kernel: Kernel, state: State, files: Sequence[OutputFile]) -> str:
    if state != "complete" or not missing_stages(kernel, files):
        return state
    steps = newest_step(files)
    return f"stopped at step {steps}" if steps else f"complete, no {missing_stages(kernel, files)[0]}"


def _seconds(info: KernelInfo, state: State, lines: Sequence[LogLine], now: datetime) -> float | None:
    if state == "running" and info.last_run:
        began = info.last_run if info.last_run.tzinfo else info.last_run.replace(tzinfo=UTC)
        return (now - began).total_seconds()
    return ran_for(lines) or None


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "     ?"
    return f"{int(seconds // 3600):>2}h{int(seconds % 3600 // 60):02}m"
