"""Whether an adapter folder is what it says: every file by its SHA-256, every matrix by name, shape, dtype and content.

An adapter that loads is not yet one that works: a matrix can be missing (PEFT then starts it afresh), a B matrix can be
zero (nothing was learned there), a download can be cut.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fintune_kit.errors import UserError
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.workspace import check_files, read_manifest

FILES = ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
         "merges.txt", "chat_template.jinja")  # fmt: skip
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_LAYER = re.compile(r"\.layers\.(\d+)\.")
LOSS_TOLERANCE = 0.02
"""Relative; another card rounds differently, another base is far off."""


def check_adapter(folder: Path, *, base_config: Any) -> dict[str, Any]:
    """Checks an adapter folder against its manifest and its base.

    Args:
        folder: stage 3's output.
        base_config: the base model's transformers config.

    Returns:
        `matrices`, `parameters`, `bytes`, `rank`, `alpha`, `largest_b` (the largest absolute value in any B matrix).

    Raises:
        MissingInputError: the folder is missing or unfinished.
        UserError: a file is missing, changed or cut, a matrix is missing, has another shape or dtype, is not finite,
            or is zero where it was trained.
    """
    manifest = read_manifest(folder, stage="adapter")
    for name in FILES:
        if not (folder / name).is_file():
            raise _wrong(folder, f"holds no {name}", "all files of notebook 03")
    weights = folder / "adapter_model.safetensors"
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    found = _read_matrices(weights)  # before the hashes: a cut file then says that it is cut
    check_files(folder, manifest, stage="adapter")
    expected = expected_shapes(ModelShape.of(base_config), rank=config["r"], targets=config["target_modules"])
    _compare(folder, found, expected, base=str(getattr(base_config, "name_or_path", "")) or "the base")
    largest = {name: _check_values(folder, name, tensor) for name, tensor in found.items()}
    return {
        "matrices": len(found),
        "parameters": sum(tensor.numel() for tensor in found.values()),
        "bytes": weights.stat().st_size,
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "largest_b": max(value for name, value in largest.items() if ".lora_B." in name),
    }


def expected_shapes(shape: ModelShape, *, rank: int, targets: list[str]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every matrix that an adapter on this model has, as PEFT writes them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(shape.layers):
        for target in targets:
            inputs, outputs = shape.projections[target]
            part = "self_attn" if target in _ATTENTION else "mlp"
            stem = f"base_model.model.model.layers.{layer}.{part}.{target}"
            shapes[f"{stem}.lora_A.weight"] = (rank, inputs)
            shapes[f"{stem}.lora_B.weight"] = (outputs, rank)
    return shapes


def check_loss(found: float, ended_with: float | None, *, folder: Path) -> None:
    """
    Raises:
        UserError: the adapter on a fresh base does not give the validation loss with which its training ended.
    """
    if ended_with is not None and abs(found - ended_with) > LOSS_TOLERANCE * abs(ended_with):
        raise _wrong(
            folder,
            f"gives a validation loss of {found:.4f} on this base",
            f"{ended_with:.4f}, with which its training ended: name the base and the packs that it was trained on",
        )


def _read_matrices(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{path} could not be read ({first}); expected a whole safetensors file: it was cut on the way, so copy it "
            f"again, or run notebook 03 again"
        ) from error


def _compare(folder: Path, found: dict[str, torch.Tensor], expected: dict[str, tuple[int, ...]], *, base: str) -> None:
    layers = {int(match[1]) for name in found if (match := _LAYER.search(name))}
    wanted = {int(match[1]) for name in expected if (match := _LAYER.search(name))}
    if layers != wanted:
        raise _wrong(
            folder, f"is for a model of {len(layers)} layers", f"{len(wanted)}, as {base} has: set FINTUNE_MODEL"
        )
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or surplus:
        what = f"lacks {missing[0]}" if missing else f"holds {surplus[0]}, which no adapter on {base} has"
        raise _wrong(folder, what, f"{len(expected)} matrices: run notebook 03 again")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise _wrong(
                folder,
                f"has {name} of shape {tuple(found[name].shape)}",
                f"{shape}, as {base} needs: set FINTUNE_MODEL",
            )
        if found[name].dtype is not torch.float32:
            raise _wrong(folder, f"has {name} in {found[name].dtype}", "float32: run notebook 03 again")


def _check_values(folder: Path, name: str, tensor: torch.Tensor) -> float:
    if not bool(torch.isfinite(tensor).all()):
        raise _wrong(folder, f"has values in {name} that are not finite", "finite ones: train again, with a lower rate")
    largest = float(tensor.abs().max())
    if largest == 0:
        raise _wrong(folder, f"has a matrix that is all zero ({name})", "a trained one: run notebook 03 to its end")
    return largest


def _wrong(folder: Path, found: str, expected: str) -> UserError:
    return UserError(f"the adapter in {folder} {found}; expected {expected}")
