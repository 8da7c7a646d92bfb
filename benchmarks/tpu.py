"""Does the TPU path learn what the PyTorch path learns? The same packs, weights, adapter and optimizer, in one run.

    .venv-tpu/bin/python benchmarks/tpu.py [--out results/tpu-cpu-devices]

The smoke recipe's data and model, in float32 and without quantization, which both sides can carry out: through TRL's
trainer on PyTorch, and through JAX on one and on eight CPU devices. Each is a process of its own. The adapter that JAX
exports is then loaded by peft, and its loss on the held-out packs computed by PyTorch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

SIDES = {"PyTorch": 0, "JAX, 1 device": 1, "JAX, 8 devices": 8}
COMPILED = "/jax/core/compile/backend_compile_duration"


def main() -> None:
    """Runs each side, and prints them beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    parser.add_argument("--job", nargs=2, metavar=("SIDE", "WORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print("RESULT " + json.dumps(run_side(arguments.job[0], Path(arguments.job[1]))))
        return
    with tempfile.TemporaryDirectory() as work:
        results = {side: start(side, Path(work), devices=devices) for side, devices in SIDES.items()}
    text = as_table(results)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def start(side: str, work: Path, *, devices: int) -> dict[str, Any]:
    """Runs a side in a process of its own, with so many CPU devices."""
    environment = os.environ | {
        "FINTUNE_RECIPE": "smoke",
        "FINTUNE_WORKSPACE": str(work),
        "HF_HUB_OFFLINE": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={max(1, devices)}",
    }
    command = [sys.executable, __file__, "--job", side, str(work)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return dict(json.loads(line.removeprefix("RESULT ")))


def run_side(side: str, work: Path) -> dict[str, Any]:
    """Trains, and has PyTorch compute the loss of the adapter that comes out."""
    from fintune_kit.cli.main import main as fintune_kit
    from fintune_kit.pack.store import open_packed
    from fintune_kit.recipes import load_recipe
    from fintune_kit.tiny import base_of
    from fintune_kit.tpu.plan import on_tpu
    from fintune_kit.train.model import load_adapter, load_base
    from fintune_kit.train.validation import mean_loss
    from fintune_kit.workspace import Workspace, open_workspace

    _, workspace = open_workspace(load_recipe("smoke"))
    if not (work / "packed").is_dir():
        assert fintune_kit(["data"]) == fintune_kit(["pack"]) == 0
    recipe = on_tpu(load_recipe())
    recipe = replace(recipe, train=replace(recipe.train, effective_batch=16, accumulation=8, epochs=8))
    base, out = base_of(recipe, workspace), work / side
    if SIDES[side] == 0:
        from fintune_kit.train.stage import train
    else:
        from fintune_kit.tpu.stage import train_on_tpu as train
    compiled = listen(out / "run" / "log.jsonl") if SIDES[side] else []
    outcome = train(recipe, Workspace(out), packed=work / "packed", base=base)
    assert compiled or not SIDES[side], "nothing was heard of the compiler"
    between = sum(0 < steps < outcome.steps_done for steps in compiled)
    model = load_adapter(load_base(base, dtype="float32", quantization="none", device="cpu"), out / "adapter")
    loss, _ = mean_loss(model, open_packed(work / "packed").validation.rows, micro_batch=4, device="cpu")
    return {
        "effective_batch": outcome.plan.packs_per_step,
        "accumulation": outcome.plan.accumulation,
        "log": outcome.log,
        "said": outcome.validation_loss,
        "by_pytorch": loss,
        "compilations_between_steps": between,
    }


def listen(log: Path) -> list[int]:
    """How many steps were done whenever the compiler runs from now on."""
    import jax

    from fintune_kit.train.record.log import read_log

    steps: list[int] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_args, **_named: steps.append(len(read_log(log))) if name == COMPILED else None
    )
    return steps


def as_table(results: dict[str, dict[str, Any]]) -> str:
    """A row a side."""
    peer = results["PyTorch"]["log"]
    lines = [
        f"# JAX beside PyTorch, {len(peer)} optimizer steps of {results['PyTorch']['effective_batch']} packs",
        "",
        f"`python benchmarks/tpu.py`: the smoke recipe's data and model in float32, loss {peer[0]['loss']:.3f} -> "
        f"{peer[-1]['loss']:.3f}. Differences are relative, the largest of all steps; CPU devices, no TPU.",
        "",
        "| side | losses differ by | gradient norms | held-out loss | the same adapter in PyTorch | "
        "compiled between steps | waited for packs |",
        "|---|---|---|---|---|---|---|",
    ]
    for side, found in results.items():
        log = found["log"]
        waited = sum(record.get("input_wait_seconds", 0.0) for record in log[1:])
        share = f"{waited / sum(record['seconds'] for record in log[1:]):.3%}" if side != "PyTorch" else ""
        differences = [f"{largest(log, peer, key):.1e}" if log is not peer else "" for key in ("loss", "grad_norm")]
        lines.append(
            f"| {side} | {' | '.join(differences)} "
            f"| {found['said']:.6f} | {found['by_pytorch']:.6f} "
            f"| {found['compilations_between_steps'] if side != 'PyTorch' else ''} | {share} |"
        )
    return "\n".join(lines)


def largest(log: list[dict[str, Any]], peer: list[dict[str, Any]], key: str) -> float:
    """The largest relative difference of two runs in a number of theirs."""
    assert len(log) == len(peer) >= 20
    return max(abs(ours[key] - theirs[key]) / abs(theirs[key]) for ours, theirs in zip(log, peer, strict=True))


if __name__ == "__main__":
    main()
