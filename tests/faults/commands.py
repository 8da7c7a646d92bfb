"""The command line in a process of its own that dies at a moment.

A moment is an operation that makes, opens for writing, flushes, moves or removes something on the disk. Between two of
them a kill changes nothing that another process can see. So moments are counted instead of seconds, and a kill can be
repeated. Processes are forked from one that has imported the libraries.
"""

import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.workspace import read_json, sha256_of

OPERATIONS = ("rename", "replace", "fsync", "mkdir", "rmdir", "unlink")
SMALL = ["--data.examples", "60", "--data.transactions", "0", "--pack.max-length", "256", "--lora.rank", "4"]
SMALL += ["--train.epochs", "1", "--train.effective-batch", "4"]
VERBS = {
    "conversations": ["data", *SMALL],
    "packed": ["pack"],
    "adapter": ["train"],
    "evaluation": ["evaluate", "--most-generated", "4"],
    "merged": ["export", "--out", "merged"],
}
"""The verb that writes each folder, in their order. A command runs in its workspace, so `merged` lies there too."""
OF_THE_CLOCK = ("second", "memory")
"""A log's keys with these words say how fast a machine was."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [f"fintune_kit.{name}" for name in ("cli.main", "data.stage", "train.stage", "evaluate.stage", "publish.export")]
)


@dataclass
class Command:
    """A command that runs, or has ended."""

    process: Any
    output: Path

    def end(self) -> "Command":
        """Waits for its end."""
        self.process.join()
        return self

    @property
    def code(self) -> int:
        """Of its exit; -9 where SIGKILL ended it."""
        return self.process.exitcode

    @property
    def said(self) -> str:
        """Its stdout and stderr."""
        return self.output.read_text(errors="replace")

    @property
    def moments(self) -> int:
        """The number of moments that it had; only for one that was not killed."""
        return int(self.output.with_suffix(".moments").read_text())


def start(workspace: Path, verb: Sequence[str], *, number: int = 0, moment: int = 0) -> Command:
    """Starts a verb on a workspace.

    Args:
        number: the signal that the command sends itself.
        moment: before which operation on the disk, counted from 1; 0 is never.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    count = len(list(workspace.parent.glob(f"{workspace.name}.*.txt")))
    command = Command(
        process=PROCESSES.Process(target=_command, args=(workspace, list(verb), count, number, moment)),
        output=workspace.parent / f"{workspace.name}.{count}.txt",
    )
    command.output.touch()
    command.process.start()
    return command


def run(workspace: Path, verb: Sequence[str], *, number: int = 0, moment: int = 0) -> Command:
    """Runs a verb to its end; see `start`."""
    return start(workspace, verb, number=number, moment=moment).end()


def wait_until(reached: Callable[[], Any], *, process: Any) -> None:
    """Waits until something is reached, or a process has ended."""
    while process.is_alive() and not reached():
        process.join(timeout=0.01)


def in_pairs(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    """Calls a function that waits for processes with each argument, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, arguments))


def copy(source: Path, target: Path) -> Path:
    """A copy of a workspace."""
    return shutil.copytree(source, target, symlinks=True)


def contents(workspace: Path) -> dict[str, Any]:
    """The contents of a workspace: the SHA-256 of each file, without times of a clock. Of `run/`, only the log."""
    found: dict[str, Any] = {"run/log.jsonl": log_of(workspace)}
    for path in sorted(path for path in workspace.rglob("*") if path.is_file()):
        name = path.relative_to(workspace).as_posix()
        if name == "adapter/manifest.json":
            found[name] = read_json(path)
            del found[name]["inputs"]["log"]  # the log holds times
        elif not name.startswith("run/"):
            found[name] = sha256_of(path)
    return found


def log_of(workspace: Path) -> list[dict[str, Any]]:
    """The log of a run without the keys that say how fast a machine was; [] where there is none."""
    path = workspace / "run" / "log.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [{k: v for k, v in record.items() if not any(word in k for word in OF_THE_CLOCK)} for record in records]


def assert_one_sentence(said: str, *, starts: str, told: str = "") -> None:
    """The last line of an output is a sentence for the user, and there is no traceback."""
    assert (said.splitlines() or [""])[-1].startswith(starts), f"{told}: {said[-2000:]}"
    assert "Traceback" not in said, f"{told}: {said[-2000:]}"


def alive_on(workspace: Path) -> dict[int, str]:
    """The processes that name a workspace in their command line, by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"{workspace} " in line:
                found[int(path.parent.name)] = line
    return found


def _command(workspace: Path, verb: list[str], count: int, number: int, moment: int) -> None:
    """The process: its output goes to a file, and a checkpoint is written after each step."""
    output = workspace.parent / f"{workspace.name}.{count}.txt"
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    for name in [name for name in os.environ if name.startswith("FINTUNE_")]:
        del os.environ[name]
    os.environ |= {"FINTUNE_RECIPE": "smoke", "FINTUNE_WORKSPACE": str(workspace), "HF_HUB_OFFLINE": "1"}
    os.chdir(workspace)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts in the background

    from fintune_kit.cli.main import main
    from fintune_kit.train import stage

    stage.train.__kwdefaults__["minutes_between_checkpoints"] = 0
    counter = _count_moments(number=number, moment=moment)
    code = main(verb)
    moments = counter[0]
    output.with_suffix(".moments").write_text(str(moments))
    sys.exit(code)


def _count_moments(*, number: int, moment: int) -> list[int]:
    """Sends this process a signal before the operation of the number `moment`; returns the running count."""
    count = [0]

    def happen() -> None:
        count[0] += 1
        if count[0] == moment:
            signal.raise_signal(number)

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def before(*arguments: Any, **options: Any) -> Any:
            happen()
            return operation(*arguments, **options)

        return before

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    opened = io.open

    def open_counted(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wax+"):
            happen()
        return opened(file, mode, *arguments, **options)

    io.open = open_counted  # as `Path.open` calls it
    return count
