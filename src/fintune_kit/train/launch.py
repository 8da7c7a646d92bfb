"""Starts training in processes of their own, one for each card, and follows their progress in `run/log.jsonl`.

The notebook and the command line start training the same way. A process that ends frees its card's memory, and a killed
process loses only the steps since its newest checkpoint.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.recipes import Recipe
from fintune_kit.train.record.log import read_log
from fintune_kit.workspace import Workspace

POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""
Watcher = Callable[[list[dict[str, Any]]], None]


def run_training(
    recipe: Recipe,
    workspace: Workspace,
    arguments: Sequence[str] = (),
    *,
    out: Workspace | None = None,
    processes: int,
    cards: int,
    watch: Watcher | None = None,
) -> None:
    """Runs `fintune-kit train ARGUMENTS` in several processes and waits for their end.

    The processes read the recipe from the file beside `run/`, so every changed value reaches them.

    Args:
        recipe: from `open_workspace`.
        workspace: holds the packs and the base.
        arguments: flags of `fintune-kit train`, as on the command line.
        out: for `run/`, `adapter/` and `run.console.txt`, which holds the processes' output; None takes the workspace.
        processes: the number of processes; one for each card, or several on a CPU.
        cards: the number of cards of this machine; 0 on a CPU.
        watch: called with the log so far whenever the log has grown.

    Raises:
        UserError: the command refused the run; the text is the command's own.
        RuntimeError: the command failed in another way; the text quotes the end of its output.
    """
    home = out or workspace
    file = home.keep(recipe, stage="run", fresh="--fresh" in arguments)
    arguments = ["--recipe", str(file), "--out", str(home.root), *arguments]
    run, console = home.folder("run"), home.root / "run.console.txt"
    with console.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own command
            launch_command(arguments, processes=processes, cards=cards),
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_environment(workspace, processes=processes, cards=cards),
            preexec_fn=end_with_parent,
        )
        try:
            _watch(process, run / "log.jsonl", watch)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        _raise(console.read_text(encoding="utf-8", errors="replace"), code=process.returncode)


def launch_command(arguments: Sequence[str], *, processes: int, cards: int) -> list[str]:
    """The command that starts training: plain Python for one process, a launcher for several.

    On a CPU accelerate needs MPI, so torch's own launcher starts the processes there.
    """
    train = ["fintune_kit", "train", "--worker", *arguments]
    if processes == 1:
        return [sys.executable, "-m", *train]
    if not cards:
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            "-m",
            *train,
        ]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}"]
    launch += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "--module"]
    return [*launch, *train]


def _environment(workspace: Workspace, *, processes: int, cards: int) -> dict[str, str]:
    environment = os.environ | {"FINTUNE_WORKSPACE": str(workspace.root)}
    if processes == 1 and cards > 1:
        environment["CUDA_VISIBLE_DEVICES"] = "0"  # a second visible card would make transformers use DataParallel
    if processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return environment


def end_with_parent() -> None:
    """Lets Linux kill this process when its parent ends, so that no training runs on unseen.

    `torch.distributed.run` passes signals on to its workers, but cannot when it is killed itself. On other systems
    than Linux this function does nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def is_first_worker() -> bool:
    """Whether this process is the first of those that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _watch(process: subprocess.Popen, log: Path, watch: Watcher | None) -> None:
    seen = -1
    while True:
        running = process.poll() is None
        size = log.stat().st_size if log.is_file() else 0
        if watch is not None and size != seen and size:
            seen = size
            watch(read_log(log))
        if not running:
            return
        time.sleep(POLL_SECONDS)


def _raise(output: str, *, code: int) -> None:
    refusal = next((line for line in reversed(output.splitlines()) if line.startswith("error: ")), None)
    if refusal:
        raise UserError(refusal.removeprefix("error: "))
    tail = "\n".join(output.splitlines()[-15:])
    raise RuntimeError(f"training ended with exit code {code}; the end of its output:\n{tail}")
