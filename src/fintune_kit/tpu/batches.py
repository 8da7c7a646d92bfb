"""Sends packs to the devices. The packs of the next step are read and sent while the current step is computed.

    host    | read 1 | read 2 |      | read 3 |
    device           | step 1        | step 2        | step 3

The time for which the devices wait for input is measured and logged.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from fintune_kit.pack.tree import COLUMNS
from fintune_kit.tpu.step import StepShape, spread

if TYPE_CHECKING:
    from datasets import Dataset


def step_batches(rows: "Dataset", *, first: int, shape: StepShape, mesh: Any) -> Iterator[tuple[dict[str, Any], float]]:
    """The packs of each optimizer step from step `first` (0-based) on.

    Args:
        rows: packs in training order, a whole number of steps (`trainer.in_training_order`).

    Yields:
        (the columns on the devices, int32 `[accumulation, packs, length]`; seconds of waiting for them).
    """
    size = shape.accumulation * shape.packs
    steps = len(rows) // size
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(_read, rows, step=first, shape=shape, mesh=mesh)
        for step in range(first, steps):
            asked = time.perf_counter()
            batch = coming.result()
            waited = time.perf_counter() - asked
            if step + 1 < steps:
                coming = reader.submit(_read, rows, step=step + 1, shape=shape, mesh=mesh)
            yield batch, waited


def stack_columns(rows: "Dataset", *, start: int, stop: int) -> dict[str, Any]:
    """Some packs as int32 arrays `[packs, length]`."""
    found = rows[start:stop]
    return {name: np.asarray(found[name], dtype=np.int32) for name in COLUMNS}


def _read(rows: "Dataset", *, step: int, shape: StepShape, mesh: Any) -> dict[str, Any]:
    import jax

    size = shape.accumulation * shape.packs
    columns = stack_columns(rows, start=step * size, stop=(step + 1) * size)
    folded = {name: column.reshape(shape.accumulation, shape.packs, -1) for name, column in columns.items()}
    return dict(jax.device_put(folded, spread(mesh)))
