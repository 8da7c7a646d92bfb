"""From the start of a TPU session's training process to its first step, in seconds, up to the device.

    .venv-tpu/bin/python -m pip install --no-deps libtpu==0.0.42.1      # 700 MB; holds the compiler
    .venv-tpu/bin/python benchmarks/tpu_start.py --config FOLDER_WITH_CONFIG_JSON [--packed DIR] [--weights]

The compiler is the TPU's own, for eight described v5e devices; only running the step needs a real one. `--weights`
writes random weights of the model's size into a temporary folder and reads them as a run does, onto one CPU device:
in a session they are read as here, and copied to eight devices besides.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BEGAN = time.perf_counter()


def main() -> None:
    """Prints a line a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--weights", action="store_true")
    arguments = parser.parse_args()

    from tpu_world import config_of, described_mesh, lower_step

    from fintune_kit.pack.store import open_packed
    from fintune_kit.plan.memory import Recompute
    from fintune_kit.plan.shapes import ModelShape
    from fintune_kit.recipes import tpu_v5e8
    from fintune_kit.tpu import stage  # noqa: F401 - all that training imports
    from fintune_kit.tpu.adapter import first_values
    from fintune_kit.tpu.model import make_model

    recipe, config = tpu_v5e8(), config_of(arguments.config)
    say("imports", since=BEGAN)
    if arguments.packed:
        began = time.perf_counter()
        packs = open_packed(arguments.packed, verify=True)
        say(f"{len(packs.train)} packs opened, every byte checked", since=began)
    began = time.perf_counter()
    how: dict[str, Any] = {"lora": recipe.lora, "dtype": "bfloat16", "recompute": Recompute()}
    model = make_model(config, mesh=described_mesh(), **how)
    say(f"structure of base and adapter, {config.num_hidden_layers} blocks", since=began)
    written = read_weights(config, how) if arguments.weights else 0.0
    began = time.perf_counter()
    first_values(ModelShape.of(config), lora=recipe.lora, seed=recipe.seed)
    say("the adapter's first values", since=began)
    began = time.perf_counter()
    lowered = lower_step(model, recipe=recipe, micro_batch=1, accumulation=10)
    say("the step traced", since=began)
    began = time.perf_counter()
    lowered.compile()
    say("the step compiled for eight v5e", since=began)
    say("all of it, up to the first step", since=BEGAN + written)


def read_weights(config: Any, how: dict[str, Any]) -> float:
    """Writes a random base of this size, and reads it as a run does.

    Returns:
        seconds that writing took, which is no part of a start.
    """
    import jax
    import torch
    from transformers import AutoModelForCausalLM

    from fintune_kit.tpu.base import make_mesh
    from fintune_kit.tpu.model import load_model

    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        config.dtype = torch.bfloat16
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        made = empty.to_empty(device="cpu")
        for parameter in made.parameters():
            parameter.data.fill_(0.01)
        made.tie_weights()
        made.save_pretrained(folder)
        del empty, made
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        written = time.perf_counter() - began
        began = time.perf_counter()
        model = load_model(Path(folder), config=config, mesh=make_mesh(jax.devices()[:1]), **how)
        jax.block_until_ready(model.base)
        say(f"{size / 1e9:.2f} GB of weights read, in the page cache, and stacked, onto one CPU device", since=began)
        return written


def say(what: str, *, since: float) -> None:
    """One line."""
    print(f"{time.perf_counter() - since:8.1f} s  {what}", flush=True)


if __name__ == "__main__":
    main()
