"""Checkpoints of a run on JAX, with PEFT's names. `train.checkpoints` seals and finds them, as all others.

checkpoint-30/
    adapter_model.safetensors     the adapter, float32
    optimizer.safetensors         AdamW's two moments of each matrix: mean.<name>, square.<name>
    trainer_state.json            optimizer steps done, how many of them were applied, and the log so far
    manifest.json                 the run that it belongs to, and the SHA-256 of each file; written last
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.tpu.adapter import WEIGHTS, Matrices, from_jax, load_matrices, save_matrices
from fintune_kit.train.checkpoints import partial_folder, seal
from fintune_kit.train.record.log import STATE
from fintune_kit.workspace import newest_checkpoint, read_json, write_json

_MOMENTS = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint. Matrices have PEFT's names."""

    adapter: Matrices
    mean: Matrices
    square: Matrices
    step: int
    """Optimizer steps done."""
    updates: int
    """Steps that changed the adapter: those with a finite gradient."""


def save(
    checkpoints: Path,
    *,
    step: int,
    adapter: Any,
    moments: Any,
    records: Sequence[Mapping[str, Any]],
    identity: Mapping[str, Any],
) -> Path:
    """Writes a checkpoint in the partial folder, then seals it.

    Args:
        step: optimizer steps done.
        adapter: `nnx.State`.
        moments: the state of `step.adam`.
        records: the log up to this step.
        identity: of the run.
    """
    partial = partial_folder(checkpoints)
    shutil.rmtree(partial, ignore_errors=True)
    written = partial / f"checkpoint-{step}"
    written.mkdir(parents=True)
    save_matrices(from_jax(adapter), written / WEIGHTS)
    named = {"mean": from_jax(moments.mu), "square": from_jax(moments.nu)}
    flat = {f"{moment}.{name}": matrix for moment, matrices in named.items() for name, matrix in matrices.items()}
    save_matrices(flat, written / _MOMENTS)
    write_json(written / STATE, {"global_step": step, "updates": int(moments.count), "log_history": list(records)})
    return seal(written, checkpoints, step=step, identity=identity)


def load_newest(checkpoints: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None."""
    folder = newest_checkpoint(checkpoints)
    if folder is None:
        return None
    state = read_json(folder / STATE)
    flat = load_matrices(folder / _MOMENTS)
    return Checkpoint(
        adapter=load_matrices(folder / WEIGHTS),
        mean={name.removeprefix("mean."): m for name, m in flat.items() if name.startswith("mean.")},
        square={name.removeprefix("square."): m for name, m in flat.items() if name.startswith("square.")},
        step=state["global_step"],
        updates=state["updates"],
    )
