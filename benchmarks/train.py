"""How fast training is beside stock `SFTTrainer(packing=True)`: same model, examples, precision and step, in one run.

    python benchmarks/train.py --data ../shared/data --out results/train-cpu
    python benchmarks/train.py --data ../shared/data --device t4 --config Qwen2.5-3B-Instruct --out results/train-t4

On a CPU: a random Qwen2 of 42 M parameters, whose head is a tenth of the arithmetic, float32. With `--device`: the real
config with random weights, NF4, on a card that behaves as this one (`train.machine.other_card`). Every run is a process
of its own, the two sides in turn, so that a busy machine is busy for both. The results so far are written after each
run. `benchmarks/NOTES.md` says which things are equal.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import train_world as world

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the stand-in data, tokenizer and configs")
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    parser.add_argument("--device", help="as this card would: t4, a100, ...; needs a card that is no smaller")
    parser.add_argument("--config", default="Qwen2.5-3B-Instruct", help="with --device: the model's config")
    parser.add_argument("--rehearse", action="store_true", help="a tiny model and the bundled sample, in a minute")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each side")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps a run; the first is not timed")
    parser.add_argument("--work", type=Path, help="keeps what is prepared here, for another run")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    setup = world.cpu_setup()
    if arguments.device:
        setup = world.card_setup(arguments.config, arguments.device)
    elif arguments.rehearse:
        setup = world.rehearsal_setup()
    if arguments.job:
        print("RESULT " + json.dumps(run_job(arguments.job, setup, arguments.work, steps=arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        for results in measure(setup, arguments.data, work, rounds=arguments.rounds, steps=arguments.steps):
            text = as_table(results)
            if arguments.out:
                arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
                arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


def measure(setup: world.Setup, data: Path | None, work: Path, *, rounds: int, steps: int) -> Iterator[Result]:
    """Prepares what both sides read, then runs them in turn. Gives the results so far after each pair of runs."""
    if not (work / "packed").is_dir():
        world.prepare(setup, data, work)
        world.make_base(setup, data / "qwen-configs" / setup.config if setup.device and data else None, work / "base")
    runs: dict[str, list[Result]] = {"ours": [], "stock": []}
    for _ in range(rounds):
        for side, found in runs.items():
            found.append(start(side, setup, work, steps=steps))
            print(side, found[-1], flush=True)
        yield results_of(setup, runs, curves={})
    curves = {side: start(f"curve-{side}", setup, work, steps=steps) for side in ("stock", "ours")}
    yield results_of(setup, runs, curves=curves)


def results_of(setup: world.Setup, runs: dict[str, list[Result]], *, curves: dict[str, Result]) -> Result:
    """The record of all runs so far."""
    return {
        "machine": world.describe_machine(),
        "setup": setup.says,
        "runs": runs,
        "examples_per_second": {
            side: statistics.median(run["examples_per_second"] for run in found) for side, found in runs.items()
        },
        "ratio": statistics.median(
            ours["examples_per_second"] / (stock["examples_per_second"] or math.inf)
            for ours, stock in zip(runs["ours"], runs["stock"], strict=True)
        ),
        "curves": curves,
    }


def start(job: str, setup: world.Setup, work: Path, *, steps: int) -> Result:
    """Runs a job in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--work", str(work), "--steps", str(steps)]
    command += ["--device", setup.device, "--config", setup.config] if setup.device else []
    command += ["--rehearse"] if setup.tiny else []
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        return {"examples_per_second": 0.0, "losses": [], "failed": done.stderr.strip().splitlines()[-1:]}
    result: Result = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def run_job(job: str, setup: world.Setup, work: Path, *, steps: int) -> Result:
    """One process's work."""
    world.restrict(setup, allow_triton=not job.endswith("ours"))
    jobs = {
        "ours": lambda: run_ours(setup, work, steps=steps),
        "stock": lambda: run_stock(setup, work, steps=steps),
        "curve-stock": lambda: run_stock(world.without_noise(setup), work, steps=steps),
        "curve-ours": lambda: run_ours_on(world.without_noise(setup), work),
    }
    return jobs[job]()


def run_ours(setup: world.Setup, work: Path, *, steps: int) -> Result:
    """The whole of stage 3 as a user runs it, stopped after some steps."""
    from fintune_kit.pack.store import open_packed
    from fintune_kit.train.stage import train
    from fintune_kit.workspace import Workspace

    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        outcome = train(
            setup.recipe,
            Workspace(out),
            packed=work / "packed",
            base=work / "base",
            stop_after=steps,
            minutes_between_checkpoints=1e9,
            device_name=setup.device,
        )
    packs = open_packed(work / "packed").train
    return throughput(
        seconds=[r["seconds"] for r in outcome.log[1:]],
        examples_a_step=outcome.plan.packs_per_step * float(packs.examples.mean()),
        losses=[r["loss"] for r in outcome.log],
        peak_gib=outcome.log[-1]["peak_memory_gib"],
        planned_peak_gib=outcome.plan.peak_gib,
        plan={k: v for k, v in outcome.plan.as_dict().items() if k not in ("memory", "hours")},
    )


def throughput(*, seconds: list[float], examples_a_step: float, **details: Any) -> Result:
    """Steps all compute the same number of positions, so examples a second are those of the whole set: the mean number
    in a step, over the median time of one."""
    typical = statistics.median(seconds)
    return {
        "examples_per_second": examples_a_step / typical,
        "seconds_a_step": typical,
        "examples_a_step": examples_a_step,
        **details,
    }


def run_ours_on(quiet: world.Setup, work: Path) -> Result:
    """Our trainer on the examples of the peer's steps, for the loss curve."""
    from fintune_kit.train.callbacks import Clock
    from fintune_kit.train.guards import NonFiniteGuard
    from fintune_kit.train.record.log import StepLog, read_log
    from fintune_kit.train.stage import load_for_training
    from fintune_kit.train.step import StepMemory
    from fintune_kit.train.trainer import PackTrainer, in_training_order, training_arguments

    same = world.same_examples(quiet, work)
    steps = len(same.order) // same.packs_per_step
    plan = replace(
        world.plan_of(quiet, work),
        packs_per_step=same.packs_per_step,
        micro_batch=1,
        accumulation=same.packs_per_step,
        optimizer_steps=steps,
    )
    device = "cuda:0" if quiet.device else "cpu"
    guard, zeros = NonFiniteGuard(), [0] * steps
    with tempfile.TemporaryDirectory() as temporary:
        log = StepLog(Path(temporary) / "log.jsonl", supervised_tokens=zeros, examples=zeros, positions=1, guard=guard)
        PackTrainer(
            model=load_for_training(quiet.recipe, plan, base=work / "base", device=device),
            tokenizer=world.tokenizer_of(work),
            packs=in_training_order(same.rows, np.asarray(same.order)),
            arguments=training_arguments(quiet.recipe.train, plan, output=Path(temporary) / "partial", seed=0),
            checkpoints=Path(temporary) / "checkpoints",
            identity={},
            clock=Clock(minutes_between_checkpoints=1e9),
            guard=guard,
            memory=StepMemory(micro_batch=1, blocks=plan.recompute.blocks),
            callbacks=[log],
        ).train()
        return {"losses": [r["loss"] for r in read_log(Path(temporary) / "log.jsonl")]}


def run_stock(setup: world.Setup, work: Path, *, steps: int) -> Result:
    """TRL's trainer with its defaults, told the recipe: it packs the examples itself."""
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from fintune_kit.train.model import add_adapter

    class Watch(TrainerCallback):
        """Seconds and loss of each step."""

        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.losses: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:
                self.losses.append(float(logs["loss"]))
                self.seconds.append(time.perf_counter() - self.started)

    recipe, watch = setup.recipe.train, Watch()
    planned = world.plan_of(setup, work).optimizer_steps
    with tempfile.TemporaryDirectory() as temporary:
        arguments = SFTConfig(
            output_dir=temporary,
            max_length=setup.recipe.pack.max_length,
            packing=True,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=recipe.effective_batch,
            max_steps=steps,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=recipe.schedule,
            warmup_steps=0 if setup.quiet else max(1, round(recipe.warmup_ratio * planned)),
            weight_decay=recipe.weight_decay,
            optim=recipe.optimizer,
            fp16=setup.dtype == "float16",
            bf16=setup.dtype == "bfloat16",
            use_cpu=setup.device is None,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
        )
        trainer = SFTTrainer(
            model=add_adapter(world.stock_base(setup, work), setup.recipe.lora, seed=setup.recipe.seed),
            args=arguments,
            train_dataset=world.stock_examples(work),
            processing_class=world.tokenizer_of(work),
            callbacks=[watch],
        )
        world.mend_stock(trainer, setup)
        rows = len(trainer.train_dataset)
        taken = world.take_rows(trainer, steps=steps, batch=recipe.effective_batch)
        if setup.quiet:
            (work / "taken.json").write_text(json.dumps(taken))
        trainer.train()
    return throughput(
        seconds=watch.seconds[1:],
        examples_a_step=recipe.effective_batch * sum(len(n) for n in trainer.train_dataset["seq_lengths"]) / rows,
        losses=watch.losses,
        peak_gib=world.peak_gib(),
    )


def as_table(results: Result) -> str:
    ours, stock = results["examples_per_second"]["ours"], results["examples_per_second"]["stock"]
    lines = [
        f"# Training beside stock TRL: {results['setup']}",
        "",
        f"{results['machine']}",
        "",
        "| | examples a second | seconds a step | examples a step | peak GiB |",
        "|---|---|---|---|---|",
    ]
    for side, title in (("stock", "`SFTTrainer(packing=True)`"), ("ours", "fintune-kit")):
        run = results["runs"][side][-1]
        figure = f"{results['examples_per_second'][side]:.3f}" if "failed" not in run else str(run["failed"])
        cells = [
            f"{run[key]:.2f}" if run.get(key) else "-" for key in ("seconds_a_step", "examples_a_step", "peak_gib")
        ]
        lines.append(f"| {title} | {figure} | {' | '.join(cells)} |")
    planned = results["runs"]["ours"][-1].get("planned_peak_gib")
    lines += [
        "",
        f"Peak memory that the plan predicted for ours: {planned:.2f} GiB." if planned else "",
        "",
        f"Ratio, median over pairs of runs: **{results['ratio']:.2f}** ({ours:.3f} / {stock:.3f}).",
        "",
        "Loss on the same examples, step by step, dropout off:",
        "",
        "| step | stock | ours | difference |",
        "|---|---|---|---|",
    ]
    failed = {side: run["failed"] for side, run in results["curves"].items() if "failed" in run}
    lines += [f"The run of {side} failed: {reason}" for side, reason in failed.items()]
    curves = [results["curves"].get(side, {}).get("losses", []) for side in ("stock", "ours")]
    lines += [
        f"| {n} | {a:.6f} | {b:.6f} | {abs(a - b) / a:.1e} |" for n, (a, b) in enumerate(zip(*curves, strict=False), 1)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
