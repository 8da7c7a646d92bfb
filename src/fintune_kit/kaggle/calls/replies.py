"""Reads and checks Kaggle's answers.

Kaggle reports success when a source was dropped, when the machine was replaced, and when a kernel was saved under
another address. So a push counts as a success only if its answer proves it. Each known refusal comes with its remedy.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["new", "waiting", "running", "complete", "failed", "cancelled"]
"""`new` is a kernel that was saved but has never run."""
ENDED: tuple[State, ...] = ("complete", "failed", "cancelled")

_STATES: Mapping[str, State] = {
    "QUEUED": "waiting",
    "NEW_SCRIPT": "new",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "ERROR": "failed",
    "CANCEL_REQUESTED": "running",
    "CANCEL_ACKNOWLEDGED": "cancelled",
}

_REMEDIES = (
    (
        r"batch (GPU|TPU|CPU)? ?session count of (\d+)",
        "all {0} sessions are in use; wait until one ends (`fintune-kit kaggle status`) and push again",
    ),
    (
        r"weekly (GPU|TPU) quota of ([\d.]+) hours",
        "the {0} hours of this week are used up; push again after the reset, which `fintune-kit kaggle status` names",
    ),
    (
        r"phone|verif",
        "the account is not verified for this; verify the phone (for a TPU: the identity) at kaggle.com/settings",
    ),
    (r"megabyte|too large|size limit", "the notebook is too large; use --deliver dataset"),
    (
        r"by a dataset|slug.*in use",
        "another dataset has this name; write another `wheel_dataset` into kaggle-metadata.json",
    ),
    (r"title.*(in use|exists|taken)", "another kernel has this title; change it in kaggle-metadata.json"),
    (r"notebook not found", "this account has no such kernel; check the owner in kaggle-metadata.json"),
    (r"permission|forbidden", "this account may not do that; check the owner in kaggle-metadata.json"),
)
_NO_FREE_SESSION = re.compile(r"session count of \d+", re.IGNORECASE)
_TIME_LIMIT = re.compile(r"exceeded the max(imum)? allowed execution duration|time limit|timed out", re.IGNORECASE)
_REPLACED = re.compile(r"is retired|sessions? runs? on the default|instead of the requested", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PushReply:
    """Kaggle's answer to a push."""

    version: int = 0
    ref: str = ""
    """The address under which Kaggle saved the kernel."""
    url: str = ""
    error: str = ""
    warnings: Sequence[str] = ()
    """The warnings of the client, such as that about a retired machine."""
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Sources that the server left out, by kind."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One piece of a kernel's log."""

    stream: str
    seconds: float
    """Since the session began."""
    text: str


def find_push_fault(reply: PushReply, *, ref: str, any_machine: bool = False) -> str | None:
    """A sentence about a push that did something else than requested, with the remedy; None for a proven success.

    Args:
        ref: the requested address, `owner/slug`.
        any_machine: accept a machine other than the requested one.
    """
    if reply.error:
        remedy = remedy_for(reply.error) or "correct that and push again"
        return f"Kaggle refused the push ({reply.error}): {remedy}"
    if dropped := {kind: sources for kind, sources in reply.dropped.items() if sources}:
        named = "; ".join(f"{kind}: {', '.join(sources)}" for kind, sources in dropped.items())
        return (
            f"Kaggle started the kernel without some of its sources ({named}): cancel that run in the browser, check "
            f"that each source exists and is finished, and push again"
        )
    replaced = [line for line in reply.warnings if _REPLACED.search(line)]
    if replaced and not any_machine:
        return (
            f"Kaggle replaced the accelerator ({replaced[0]}): cancel that run in the browser, and write one that "
            f"exists into kaggle-metadata.json"
        )
    if reply.version < 1:
        return "Kaggle did not confirm the push: its answer names no version; look at the page of the kernel"
    if not any(re.search(rf"(^|/){re.escape(ref)}/?(\?|$)", saved, re.IGNORECASE) for saved in (reply.ref, reply.url)):
        return (
            f"Kaggle saved the kernel as {reply.ref or reply.url or 'nothing'}, expected {ref}: change the title in "
            f"kaggle-metadata.json, and delete the other kernel in the browser"
        )
    return None


def remedy_for(reason: str) -> str | None:
    """The remedy for a known refusal, else None."""
    for pattern, remedy in _REMEDIES:
        if match := re.search(pattern, reason, re.IGNORECASE):
            return remedy.format(*(group or "batch" for group in match.groups()))
    return None


def has_no_free_session(error: str) -> bool:
    """Whether a push was refused only because all sessions of the account are in use at this moment."""
    return bool(_NO_FREE_SESSION.search(error))


def is_time_limit(message: str) -> bool:
    """Whether Kaggle ended a session at its time limit. Kaggle calls such a session cancelled."""
    return bool(_TIME_LIMIT.search(message))


def state_of(status: str) -> State:
    """The state behind a status, as `COMPLETE` or `KernelWorkerStatus.COMPLETE`. An unknown one counts as running."""
    return _STATES.get(status.rpartition(".")[2].upper(), "running")


def read_log(log: str) -> list[LogLine]:
    """The pieces of Kaggle's log, which is a JSON list. A log in any other form becomes one piece."""
    if not log.strip():
        return []
    try:
        pieces = json.loads(log)
        return [
            LogLine(
                stream=str(piece.get("stream_name", "")),
                seconds=float(piece.get("time") or 0.0),
                text=str(piece.get("data", "")),
            )
            for piece in pieces
        ]
    except (ValueError, TypeError, AttributeError):
        return [LogLine(stream="stdout", seconds=0.0, text=log)]


def failing_cell(lines: Sequence[LogLine]) -> tuple[int, str] | None:
    """The number and the traceback of the cell that failed, as papermill reports them; None if no cell failed."""
    text = _without_colours("".join(line.text for line in lines))
    found = list(re.finditer(r'Exception encountered at "In \[(\d+)\]":\s*\n(?:-+\n)?', text))
    if not found:
        return None
    last = found[-1]
    return int(last.group(1)), text[last.end() :].strip()


def last_error(lines: Sequence[LogLine]) -> str:
    """The line that names the error: the last of the traceback, else the last of the log."""
    cell = failing_cell(lines)
    text = cell[1] if cell else _without_colours("".join(line.text for line in lines))
    said = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in said if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return (errors or said or ["the log is empty"])[-1]


def ran_for(lines: Sequence[LogLine]) -> float:
    """Seconds from the start of the session to the last piece of its log."""
    return max((line.seconds for line in lines), default=0.0)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
