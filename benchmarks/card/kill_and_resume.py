"""Step 5: a run of the whole trainer that is killed and goes on, beside one that nothing happened to.

On a card kernels may sum in another order each time, so losses are compared to 1e-3 there, and bit for bit on a CPU.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.card.world import Result, Setting, need, quantization, run_step

STEPS = 8
SETTINGS = {
    "base": "tiny",
    "pack.max_length": 256,
    "train.epochs": 1,
    "train.effective_batch": 8,
    "train.validations": 2,
    "lora.rank": 4,
    "lora.alpha": 8,
}


def measure(setting: Setting) -> Result:
    need("trl", "datasets", "cyclopts")
    work = setting.work / "kill"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    started(["data", "--out", str(work / "conversations")], work).wait()
    packs = ["pack", "--conversations", str(work / "conversations"), "--out", str(work / "packed")]
    assert started(packs, work).wait() == 0, (work / "console.txt").read_text()[-2000:]
    losses = {}
    for name in ("whole", "killed"):
        command = ["train", "--packed", str(work / "packed"), "--out", str(work / name), "--steps", str(STEPS)]
        if name == "killed":
            kill_after(3, started(command, work), work / name / "run" / "log.jsonl")
        assert started(command, work).wait() == 0, (work / "console.txt").read_text()[-2000:]
        losses[name] = [record["loss"] for record in read(work / name / "run" / "log.jsonl")]
    pairs = list(zip(losses["whole"], losses["killed"], strict=True))
    return {"losses": losses, "largest_difference": max(abs(a - b) / abs(a) for a, b in pairs), "steps": len(pairs)}


def started(command: list[str], work: Path) -> subprocess.Popen[bytes]:
    """A command of ours on the smallest recipe."""
    values = SETTINGS | {"train.quantization": quantization()}
    values |= {} if quantization() == "nf4" else {"train.optimizer": "adamw_torch"}
    settings = ",".join(f"{name}={value}" for name, value in values.items())
    environment = os.environ | {"FINTUNE_RECIPE": "smoke", "FINTUNE_SET": settings, "FINTUNE_WORKSPACE": str(work)}
    with (work / "console.txt").open("ab") as console:
        return subprocess.Popen(
            [sys.executable, "-m", "fintune_kit", *command], env=environment, stdout=console, stderr=subprocess.STDOUT
        )


def kill_after(steps: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """SIGKILL once so many steps are in the log."""
    while process.poll() is None and len(read(log)) < steps:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def read(log: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]] if log.is_file() else []


def line(found: Result) -> str:
    return (
        f"{found['steps']} steps, killed after 3 and started again: losses differ by {found['largest_difference']:.1e}"
    )


if __name__ == "__main__":
    run_step("kill_and_resume", measure, line)
