"""Writes the build folders: one for each notebook of the chain, in the form for `kaggle kernels push`.

build/kaggle/01_data/
    kernel-metadata.json    Kaggle's own: address, machine, sources
    01_data.ipynb           the notebook without outputs, between the two generated cells
build/kaggle/wheel/         with --deliver dataset only: dataset-metadata.json and the wheel
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.accelerators import SESSION_BUDGET, kind_of
from fintune_kit.kaggle.cells import first_cell, last_cell
from fintune_kit.kaggle.delivery import Delivery, dataset_metadata
from fintune_kit.kaggle.manifest import Chain, Kernel
from fintune_kit.kaggle.requirements import requirements_of, tpu_packages_of
from fintune_kit.kaggle.rules import check_kernel
from fintune_kit.workspace import write_json, write_text

KERNEL_METADATA = "kernel-metadata.json"
WHEEL_FOLDER = "wheel"


@dataclass(frozen=True, kw_only=True)
class BuiltKernel:
    """A folder that can be pushed."""

    kernel: Kernel
    folder: Path
    notebook_bytes: int


def build_kernels(
    chain: Chain,
    kernels: Sequence[Kernel],
    *,
    out: Path,
    delivery: Delivery,
    sources: Mapping[str, Sequence[str]] | None = None,
    force_accelerator: bool = False,
) -> list[BuiltKernel]:
    """Checks all kernels, then writes the build folder of each.

    Args:
        out: the folder for the kernels' folders.
        sources: for the name of a kernel, the kernels that it attaches (`owner/slug` or `owner/slug/version`). A kernel
            that is not among them attaches the newest outputs of the kernels that it comes after.
        force_accelerator: allow a retired or unknown machine shape.

    Raises:
        UserError: Kaggle would refuse one of them, or would run it in another way. Then nothing is written.
    """
    checked = []
    for kernel in kernels:
        attached = (sources or {}).get(kernel.name, [chain.kernel(name).ref for name in kernel.after])
        metadata = kernel_metadata(kernel, sources=attached, delivery=delivery)
        session = session_of(kernel, metadata=metadata, root=chain.root)
        notebook = with_generated_cells(read_notebook(kernel.notebook), first_cell(session, delivery), last_cell())
        check_kernel(metadata, notebook, needs_git=delivery.method == "git", force_accelerator=force_accelerator)
        checked.append((kernel, metadata, json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"))
    if delivery.method == "dataset":
        _write_dataset(out / WHEEL_FOLDER, chain=chain, delivery=delivery)
    built = []
    for kernel, metadata, text in checked:
        folder = out / kernel.name
        write_text(folder / metadata["code_file"], text)
        write_json(folder / KERNEL_METADATA, metadata)
        built.append(BuiltKernel(kernel=kernel, folder=folder, notebook_bytes=len(text.encode())))
    return built


def kernel_metadata(kernel: Kernel, *, sources: Sequence[str], delivery: Delivery) -> dict[str, Any]:
    """Kaggle's `kernel-metadata.json`. It always states privacy, internet and machine, because defaults change."""
    kind = kind_of(kernel.accelerator)
    metadata = {
        "id": kernel.ref,
        "title": kernel.title,
        "code_file": f"{kernel.name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": kernel.private,
        "enable_gpu": kind == "gpu",
        "enable_tpu": kind == "tpu",
        "enable_internet": kernel.internet,
        "machine_shape": kernel.accelerator or "",
        "dataset_sources": [*kernel.dataset_sources, *([delivery.dataset] if delivery.dataset else [])],
        "kernel_sources": list(sources),
        "competition_sources": [],
        "model_sources": list(kernel.model_sources),
    }
    return metadata | ({"docker_image": kernel.docker_image} if kernel.docker_image else {})


def session_of(kernel: Kernel, *, metadata: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The settings that the first cell passes to `session.begin`. The checkout `root` pins the packages."""
    kind = kind_of(kernel.accelerator)
    session = {
        "kernel": kernel.name,
        "accelerator": kernel.accelerator,
        "internet": kernel.internet,
        "kernel_sources": metadata["kernel_sources"],
        "dataset_sources": metadata["dataset_sources"],
        "model_sources": metadata["model_sources"],
        "environment": {
            "FINTUNE_TIME_BUDGET": SESSION_BUDGET[kind],
            **kernel.environment,
        },
        "requirements": requirements_of(root),
    }
    return session | ({"tpu_packages": tpu_packages_of(root)} if kind == "tpu" else {})


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook as JSON.

    Raises:
        UserError: the file is not a notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"], notebook["metadata"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a notebook ({error}); expected Jupyter's JSON with cells and metadata"
        ) from error
    result: dict[str, Any] = notebook
    return result


def with_generated_cells(notebook: Mapping[str, Any], first: str, last: str) -> dict[str, Any]:
    """The notebook without outputs, between two generated cells.

    `metadata.kaggle` is left out: it would pin the image of the session in which the notebook was last edited.
    """
    cells = [dict(cell) for cell in notebook["cells"]]
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "kaggle"}
    around = [_code("fintune-kit-begin", first, hidden=True), *cells, _code("fintune-kit-end", last, hidden=False)]
    return {**notebook, "metadata": metadata, "cells": around}


def _code(identifier: str, source: str, *, hidden: bool) -> dict[str, Any]:
    metadata = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}} if hidden else {}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": identifier,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def _write_dataset(folder: Path, *, chain: Chain, delivery: Delivery) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # else an older wheel would be uploaded with it
    folder.mkdir(parents=True)
    partial = folder / f"{delivery.name}.partial"
    partial.write_bytes(delivery.wheel)
    partial.replace(folder / delivery.name)
    write_json(folder / "dataset-metadata.json", dataset_metadata(chain))
