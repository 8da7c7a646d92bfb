"""Does it fit a v5e? The planner's arithmetic beside the memory that XLA's own compiler for the TPU assigns.

    .venv-tpu/bin/python -m pip install --no-deps libtpu==0.0.42.1      # 700 MB; holds the compiler
    .venv-tpu/bin/python benchmarks/tpu_memory.py --configs FOLDER_OF_CONFIG_FOLDERS [--out results/tpu-memory]

Compiles the recipe's whole step (dropout, AdamW, all layers) for eight described v5e devices, a way and a model a row.
The compiler refuses what does not fit its 15.75 GiB. No TPU is needed, and none is measured: these are its plans.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tpu_world import config_of, described_mesh, lower_step

WAYS = [
    ("Qwen2.5-3B-Instruct", "cheap", 1, False),
    ("Qwen2.5-3B-Instruct", "blocks", 1, False),
    ("Qwen2.5-3B-Instruct", "blocks", 2, False),
    ("Qwen2.5-0.5B-Instruct", "cheap", 1, False),
    ("Qwen2.5-0.5B-Instruct", "blocks", 2, False),
    ("Qwen2.5-1.5B-Instruct", "cheap", 1, False),
    ("Qwen2.5-1.5B-Instruct", "cheap", 2, False),
    ("Qwen2.5-7B-Instruct", "blocks", 1, True),
    ("Qwen2.5-7B-Instruct", "cheap", 1, True),
    ("Qwen3-4B", "cheap", 1, False),
    ("Qwen3-4B", "blocks", 1, False),
    ("Qwen3-4B", "cheap", 1, True),
    ("Qwen3-1.7B", "cheap", 2, False),
]
"""(model, what is recomputed, packs of a device at once, whether the weights are split)."""


SAYS = {"cheap": "cheap parts", "blocks": "whole blocks"}
HEAD = """\
# A v5e's 15.75 GiB: what XLA's compiler assigns to the recipe's step, and what the planner predicts

`python benchmarks/tpu_memory.py`: packs of 2,048, LoRA of rank 64 on seven projections, bfloat16, eight described v5e
devices, libtpu 0.0.42.1. No TPU was there. The compiler refuses what does not fit.

| model | recomputed | packs at once | weights | XLA, GiB | planner, GiB | seconds to compile, two cores |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Prints a row a way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--only", help="rows whose model holds this")
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    arguments = parser.parse_args()
    mesh = described_mesh()
    rows, lines = [], HEAD.splitlines()
    print(HEAD)
    for name, recomputed, micro_batch, split in WAYS:
        if arguments.only and arguments.only not in name:
            continue
        row = measure(arguments.configs / name, mesh=mesh, recomputed=recomputed, micro_batch=micro_batch, split=split)
        rows.append({"model": name, "recomputed": recomputed, "micro_batch": micro_batch, "split": split, **row})
        cells = (name, SAYS[recomputed], micro_batch, "split" if split else "whole", row["xla_gib"] or row["refused"])
        lines.append("| " + " | ".join(map(str, (*cells, row["planner_gib"], row["seconds"]))) + " |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(folder: Path, *, mesh: Any, recomputed: str, micro_batch: int, split: bool) -> dict[str, Any]:
    """One way: XLA's peak, the planner's, and how long compiling took."""
    import jax

    from fintune_kit.plan.cards import HEAD_CHUNK
    from fintune_kit.plan.devices import GIB
    from fintune_kit.plan.memory import Recompute
    from fintune_kit.plan.shapes import ModelShape
    from fintune_kit.recipes import tpu_v5e8
    from fintune_kit.tpu.memory import memory_on_tpu
    from fintune_kit.tpu.model import make_model

    recipe, config = tpu_v5e8(), config_of(folder)
    layers = config.num_hidden_layers
    recompute = {"cheap": Recompute(), "blocks": Recompute(blocks=layers)}[recomputed]
    model = make_model(config, lora=recipe.lora, mesh=mesh, dtype="bfloat16", recompute=recompute, split_weights=split)
    lowered = lower_step(model, recipe=recipe, micro_batch=micro_batch, accumulation=8)
    predicted = memory_on_tpu(
        ModelShape.of(config),
        lora=recipe.lora,
        max_length=recipe.pack.max_length,
        micro_batch=micro_batch,
        recompute=recompute,
        devices=mesh.size,
        split_weights=split,
        head_chunk=HEAD_CHUNK,
    )
    row: dict[str, Any] = {"planner_gib": round(sum(predicted.values()) / GIB, 2), "xla_gib": None, "refused": ""}
    row["by_part"] = {part: round(size / GIB, 3) for part, size in predicted.items()}
    began = time.perf_counter()
    try:
        found = lowered.compile().memory_analysis()
        row["xla_gib"] = round(found.peak_memory_in_bytes / GIB, 2)
        row["temporary_gib"] = round(found.temp_size_in_bytes / GIB, 2)
    except jax.errors.JaxRuntimeError as error:
        row["refused"] = "refused: " + str(error).partition("(")[2].partition(")")[0]
    return row | {"seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    main()
