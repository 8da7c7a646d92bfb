"""Step 7: stock `SFTTrainer(packing=True)` and ours on the same examples, as a T4 would and as the card itself."""

import json
import shutil
import subprocess
import sys
from typing import Any

from benchmarks.card.world import BENCHMARKS, Result, Setting, Skipped, make_random_base, need, run_step

OWN = {(9, 0): "h100", (8, 0): "a100", (8, 9): "l4", (7, 5): "t4", (6, 0): "p100"}
"""The device of the planner that a card is closest to, by compute capability."""


def measure(setting: Setting) -> Result:
    need("trl", "datasets")
    if not setting.rehearse:
        need("bitsandbytes")
    found: Result = {}
    for device in devices(setting):
        sides = {side: run(side, setting, device=device, steps=3) for side in ("ours", "stock")}
        found[device or "cpu"] = sides | {"ratio": ratio(sides)}
    return found


def devices(setting: Setting) -> list[str | None]:
    if setting.rehearse:
        return [None]
    import torch

    return list(dict.fromkeys(["t4", OWN.get(torch.cuda.get_device_capability(), "t4")]))


def run(job: str, setting: Setting, *, device: str | None, steps: int) -> dict[str, Any]:
    """A job of `benchmarks/train.py` in a process of its own."""
    make_random_base(setting, dtype="float32" if device is None else "bfloat16" if device != "t4" else "float16")
    if setting.bundle is not None:
        shutil.copyfile(setting.bundle / "examples.parquet", setting.work / "examples.parquet")
    command = [sys.executable, str(BENCHMARKS / "train.py"), "--job", job, "--work", str(setting.work)]
    command += ["--rehearse"] if device is None else ["--device", device, "--config", setting.config]
    done = subprocess.run([*command, "--steps", str(steps)], capture_output=True, text=True, check=False)
    for text in done.stdout.splitlines():
        if text.startswith("RESULT "):
            return json.loads(text.removeprefix("RESULT "))
    last = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
    if job.endswith("stock"):
        return {"failed": last[0], "examples_per_second": 0.0, "losses": []}
    raise Skipped(f"{job} did not run: {last[0]}")


def ratio(sides: dict[str, Any]) -> float | None:
    theirs = sides["stock"]["examples_per_second"]
    return sides["ours"]["examples_per_second"] / theirs if theirs else None


def line(found: Result) -> str:
    parts = []
    for device, sides in found.items():
        if isinstance(sides, dict):
            ours, theirs = (sides[side]["examples_per_second"] for side in ("ours", "stock"))
            why = f" ({sides['stock']['failed']})" if "failed" in sides["stock"] else ""
            times = f", {sides['ratio']:.2f} times" if sides["ratio"] else ""
            parts.append(f"{device}: ours {ours:.3g}, stock {theirs:.3g} examples a second{times}{why}")
    return "; ".join(parts)


if __name__ == "__main__":
    run_step("stock", measure, line)
