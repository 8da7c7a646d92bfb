"""Kaggle's answers, read: success is judged by the text of a reply, never by an exit code.

Kaggle's client ends with 0 when a push was refused, when a source was dropped, when the machine was replaced, and when
the run that it reports has failed. So every reply is judged here. Each refusal that we know comes with its remedy.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "running", "complete", "failed", "cancelled"]

_STATES: Mapping[str, State] = {
    "QUEUED": "waiting",
    "NEW_SCRIPT": "waiting",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "ERROR": "failed",
    "CANCEL_REQUESTED": "cancelled",
    "CANCEL_ACKNOWLEDGED": "cancelled",
}

_REFUSALS = (
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
    (r"[Nn]otebook not found", "this account has no such kernel; check the owner in kaggle-metadata.json"),
    (r"[Pp]ermission|[Ff]orbidden|403", "this account may not do that; check the owner in kaggle-metadata.json"),
    (r"title.*(in use|exists|taken)|slug.*in use", "another kernel has this title; change it in kaggle-metadata.json"),
)
_REPLACED = re.compile(r"is retired|[Ss]essions? runs? on the default|instead of the requested|not available.*using")
_DROPPED = re.compile(r"The following are not valid ([\w ]+?) and could not be added[^:]*: (\[.*?\])", re.DOTALL)
_PUSHED = re.compile(r"Kernel version (?:(\d+) )?successfully (?:pushed|saved)")


@dataclass(frozen=True, kw_only=True)
class PushReply:
    """Kaggle's answer to a push."""

    said: str
    """The lines that the client printed on both streams."""
    version: int = 0
    url: str = ""
    error: str = ""
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Sources that the server left out, by kind. The client prints only some of them."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One piece of a kernel's log."""

    stream: str
    seconds: float
    """Since the session began."""
    text: str


def find_push_fault(reply: PushReply, *, any_machine: bool = False) -> str | None:
    """A sentence about a push that did not do what was asked, with its remedy; None after a success.

    Args:
        any_machine: accept a machine that replaces the one that was asked for.
    """
    refused = re.search(r"Kernel push error: (.*)", reply.said)
    if reply.error or refused:
        error = reply.error or (refused.group(1).strip() if refused else "")
        return f"Kaggle refused the push ({error}): {remedy_for(error)}"
    dropped = {kind: list(sources) for kind, sources in reply.dropped.items() if sources}
    for kind, names in _DROPPED.findall(reply.said):
        dropped.setdefault(kind, re.findall(r"'([^']+)'", names) or [names])
    if dropped:
        named = "; ".join(f"{kind}: {', '.join(sources)}" for kind, sources in dropped.items())
        return (
            f"Kaggle started the kernel without some of its sources ({named}): cancel that run in the browser, check "
            f"that each source exists and is finished, and push again"
        )
    if _REPLACED.search(reply.said) and not any_machine:
        line = next(line.strip() for line in reply.said.splitlines() if _REPLACED.search(line))
        return (
            f"Kaggle replaced the accelerator ({line}): cancel that run in the browser, and write one that exists into "
            f"kaggle-metadata.json"
        )
    if not _PUSHED.search(reply.said):
        said = " / ".join(line.strip() for line in reply.said.strip().splitlines()[-2:]) or "nothing"
        return f"Kaggle did not confirm the push (it said: {said}): look at the page of the kernel"
    return None


def remedy_for(error: str) -> str:
    """The remedy for a refusal."""
    for pattern, remedy in _REFUSALS:
        if match := re.search(pattern, error):
            return remedy.format(*(group or "batch" for group in match.groups()))
    return "correct that and push again"


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
    """The number and the traceback of the cell that failed, as papermill reports them; None where no cell failed."""
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
