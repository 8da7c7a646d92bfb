"""Reading what Kaggle answers: success is what the text says, never an exit code.

The client ends with 0 when a push was refused, when a source was dropped, when the machine was replaced and when the
run it asks about has failed. So each reply is judged here, and each refusal that we know comes with what to do.
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
        "{0} sessions are all in use; wait for one to end (`fintune-kit kaggle status`) and push again",
    ),
    (
        r"weekly (GPU|TPU) quota of ([\d.]+) hours",
        "this week's {0} hours are used up; push again after the reset that `fintune-kit kaggle status` names",
    ),
    (
        r"phone|verif",
        "the account is not verified for this; verify the phone (TPU: the identity) at kaggle.com/settings",
    ),
    (r"[Nn]otebook not found", "no such kernel in this account; check the owner in kaggle-metadata.json"),
    (r"[Pp]ermission|[Ff]orbidden|403", "this account may not do that; check the owner in kaggle-metadata.json"),
    (r"title.*(in use|exists|taken)|slug.*in use", "another kernel has this title; change it in kaggle-metadata.json"),
)
_REPLACED = re.compile(r"is retired|[Ss]essions? runs? on the default|instead of the requested|not available.*using")
_DROPPED = re.compile(r"The following are not valid ([\w ]+?) and could not be added[^:]*: (\[.*?\])", re.DOTALL)
_PUSHED = re.compile(r"Kernel version (?:(\d+) )?successfully (?:pushed|saved)")


@dataclass(frozen=True, kw_only=True)
class PushReply:
    """What came back from a push."""

    said: str
    """What the client printed, on both streams."""
    version: int = 0
    url: str = ""
    error: str = ""
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Sources that the server left out, by kind; the client does not print all of them."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One piece of a kernel's log."""

    stream: str
    seconds: float
    """Since the session began."""
    text: str


def push_fault(reply: PushReply, *, any_machine: bool = False) -> str | None:
    """What is wrong with a push and what to do about it; None when the kernel runs as it was asked for.

    Args:
        any_machine: the user insisted on an accelerator that Kaggle replaces.
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
            f"Kaggle started the kernel without some of what it reads ({named}): cancel that run in the browser, check "
            f"that each exists and that its kernel has finished, and push again"
        )
    if _REPLACED.search(reply.said) and not any_machine:
        line = next(line.strip() for line in reply.said.splitlines() if _REPLACED.search(line))
        return (
            f"Kaggle replaced the accelerator ({line}): cancel that run in the browser, and name one that exists in "
            f"kaggle-metadata.json"
        )
    if not _PUSHED.search(reply.said):
        said = " / ".join(line.strip() for line in reply.said.strip().splitlines()[-2:]) or "nothing"
        return f"Kaggle's answer does not say that the kernel was pushed (it says: {said}): look at the kernel's page"
    return None


def remedy_for(error: str) -> str:
    """What to do about a refusal."""
    for pattern, remedy in _REFUSALS:
        if match := re.search(pattern, error):
            return remedy.format(*(group or "batch" for group in match.groups()))
    return "mend what it says and push again"


def state_of(status: str) -> State:
    """The state behind Kaggle's status, as `COMPLETE` or `KernelWorkerStatus.COMPLETE`; one we do not know runs on."""
    return _STATES.get(status.rpartition(".")[2].upper(), "running")


def read_log(log: str) -> list[LogLine]:
    """Kaggle's log, a JSON list of pieces; what is none of that becomes one piece."""
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
    """The number of the cell that failed and its traceback, as papermill reports them; None where there is none."""
    text = _without_colours("".join(line.text for line in lines))
    found = list(re.finditer(r'Exception encountered at "In \[(\d+)\]":\s*\n(?:-+\n)?', text))
    if not found:
        return None
    last = found[-1]
    return int(last.group(1)), text[last.end() :].strip()


def last_error(lines: Sequence[LogLine]) -> str:
    """The line that says what went wrong: the traceback's last, else the log's last."""
    cell = failing_cell(lines)
    text = cell[1] if cell else _without_colours("".join(line.text for line in lines))
    said = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in said if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return (errors or said or ["the log is empty"])[-1]


def ran_for(lines: Sequence[LogLine]) -> float:
    """Seconds from the session's begin to the log's last piece."""
    return max((line.seconds for line in lines), default=0.0)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
