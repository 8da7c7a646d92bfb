"""Step 10: the whole chain on a real base: all packs, the recipe `finance`, and the table of notebook 04.

It takes `--base`, the folder of a real Qwen2.5-0.5B-Instruct. A rehearsal trains the tiny base for a few steps.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.card.world import Result, Setting, Skipped, need, quantization, run_step

MINUTES = 5
"""For training; the questions take the rest of a step's eight minutes."""


def measure(setting: Setting) -> Result:
    need("trl", "datasets", "cyclopts")
    if setting.base is None and not setting.rehearse:
        raise Skipped("no real model was named; give the folder of a Qwen2.5-0.5B-Instruct with --base")
    base = setting.base or make_tiny(setting)
    out = setting.work / "chain"
    train = ["train", "--packed", str(setting.packed), "--out", str(out), "--time-budget", f"{MINUTES}m", "--fresh"]
    call([*train, "--steps", "3"] if setting.rehearse else train, setting, base=base)
    log = [json.loads(record) for record in (out / "run" / "log.jsonl").read_text().splitlines()]
    finished = (out / "adapter" / "manifest.json").is_file()
    found: Result = {"steps": len(log), "finished": finished, "losses": [record["loss"] for record in log]}
    found["seconds_of_training"] = sum(record["seconds"] for record in log)
    if (watched := out / "run" / "activations.json").is_file():  # on a card without bfloat16
        found["activations"] = json.loads(watched.read_text())
    if finished and setting.bundle is not None:
        need("sklearn")
        evaluate = ["evaluate", "--adapter", str(out / "adapter"), "--packed", str(setting.packed)]
        for file in sorted((setting.bundle / "eval").glob("*.jsonl")):
            evaluate += ["--task", str(file)]
        found["table"] = call([*evaluate, "--out", str(out / "evaluation")], setting, base=base)
    return found


def make_tiny(setting: Setting) -> Path:
    """The tiny model of the rehearsal, with the tokenizer of its packs."""
    from benchmarks.card.world import make_random_base

    return make_random_base(setting, dtype="float32")


def call(command: list[str], setting: Setting, *, base: Path) -> str:
    """One of our commands; its output, or the end of it where it fails."""
    values = {"base": base, "train.quantization": quantization()}
    values |= {} if quantization() == "nf4" else {"train.optimizer": "adamw_torch"}
    if setting.rehearse:
        values |= {"pack.max_length": 256, "lora.rank": 4, "lora.alpha": 8}
    settings = ",".join(f"{name}={value}" for name, value in values.items())
    environment = os.environ | {
        "FINTUNE_RECIPE": "finance",
        "FINTUNE_SET": settings,
        "FINTUNE_WORKSPACE": str(setting.work / "chain"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "fintune_kit", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def line(found: Result) -> str:
    ended = "finished" if found["finished"] else "stopped by its budget"
    return (
        f"{ended} after {found['steps']} steps in {found['seconds_of_training']:.0f} s, loss "
        f"{found['losses'][0]:.3f} -> {found['losses'][-1]:.3f}\n{found.get('table', '')}"
    ).rstrip()


if __name__ == "__main__":
    run_step("chain", measure, line)
