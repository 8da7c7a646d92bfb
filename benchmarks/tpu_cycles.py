"""How long does a step take on a v5e, by the cost model of XLA's own compiler for it? An estimate, not a measurement.

    .venv-tpu/bin/python -m pip install --no-deps libtpu==0.0.42.1      # 700 MB; holds the compiler
    .venv-tpu/bin/python benchmarks/tpu_cycles.py --config FOLDER_WITH_CONFIG_JSON [--out results/tpu-cycles.md]

The compiled program says of each operation how many cycles the compiler expects of it. Here they are added up loop by
loop. Two things have no estimate in it: the three attention kernels, and drawing dropout's noise.
"""

import argparse
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from tpu_world import config_of, described_mesh, lower_step

CLOCK = 1.5e9
"""Of a v5e: 197 TFLOP/s are four units of 128 x 128 multiply-adds at this rate."""
MICRO_BATCHES, HEAD_CHUNKS, STEPS = 10, 2, 83
"""The plan for 100,000 examples; supervised tokens are 13 % of a pack's 2,048 positions, two chunks of 256."""


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """Of one pass of each loop of the step, without the loops in it."""

    forward: int
    """One block."""
    backward: int
    """One block."""
    head: int
    """One chunk of 256 positions, both ways."""
    micro_batch: int
    step: int


def main() -> None:
    """Prints the parts, and what they add up to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    from fintune_kit.plan.memory import Recompute
    from fintune_kit.recipes import tpu_v5e8
    from fintune_kit.tpu.model import make_model

    recipe, config = tpu_v5e8(), config_of(arguments.config)
    cheap = Recompute()
    model = make_model(config, lora=recipe.lora, mesh=described_mesh(), dtype="bfloat16", recompute=cheap)
    program = lower_step(model, recipe=recipe, micro_batch=1, accumulation=MICRO_BATCHES).compile().as_text()
    text = as_table(read_cycles(program), layers=config.num_hidden_layers)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def read_cycles(program: str) -> Cycles:
    """Adds up the compiler's estimates by computation, and follows the loops: step > micro-batches > blocks, head."""
    cycles: Counter[str] = Counter()
    loops = defaultdict(list)
    entry = current = ""
    for line in program.splitlines():
        if opened := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = opened[2]
            entry = current if opened[1] else entry
        if found := re.search(r'"estimated_cycles":"(\d+)"', line):
            cycles[current] += int(found[1])
        if loop := re.search(r" while\(.*body=%?([\w.\-]+)", line):
            loops[current].append(loop[1])
    (micro_batch,) = loops[entry]
    forward, head, backward = loops[micro_batch]
    parts = {"forward": forward, "backward": backward, "head": head, "micro_batch": micro_batch, "step": entry}
    assert all(cycles[name] for name in parts.values()), "a loop without an estimate: the program has another form"
    return Cycles(**{part: cycles[name] for part, name in parts.items()})


def as_table(cycles: Cycles, *, layers: int) -> str:
    """The parts, a micro-batch, a step and the run."""
    micro_batch = layers * (cycles.forward + cycles.backward) + HEAD_CHUNKS * cycles.head + cycles.micro_batch
    step = MICRO_BATCHES * micro_batch + cycles.step
    rows = [
        ("a block forward", cycles.forward),
        ("a block backward, its cheap parts again", cycles.backward),
        ("256 positions of the head, both ways", cycles.head),
        ("a micro-batch besides: embedding, mask, sums of gradients", cycles.micro_batch),
        ("a step besides: AdamW, sums over devices", cycles.step),
        (f"**a micro-batch**: {layers} blocks, {HEAD_CHUNKS} chunks of the head", micro_batch),
        (f"**a step**: {MICRO_BATCHES} micro-batches", step),
    ]
    lines = [
        "# The recipe's step on a v5e, by the cost model of XLA's compiler: an estimate",
        "",
        "`python benchmarks/tpu_cycles.py`: one pack of 2,048 a device, LoRA of rank 64, bfloat16, dropout, libtpu "
        "0.0.42.1, 1.5 GHz.",
        "Not in it, because the compiler says nothing of them: the attention kernels, and drawing dropout's noise.",
        "",
        "| part | million cycles | milliseconds |",
        "|---|---|---|",
        *(f"| {what} | {count / 1e6:.1f} | {count / CLOCK * 1e3:.1f} |" for what, count in rows),
        "",
        f"{STEPS} steps of 80 packs, 100,000 examples: {STEPS * step / CLOCK / 3600:.2f} h.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
