"""The files of an adapter: written so that every reader opens them, and checked by name, shape, dtype and content.

    adapter/  adapter_model.safetensors  adapter_config.json                          PEFT
              tokenizer.json  tokenizer_config.json  vocab.json  merges.txt  chat_template.jinja
              manifest.json

An adapter that loads may still be wrong: a matrix is missing (PEFT then starts it afresh), a B matrix is zero, or a
download was cut short. A reader may be older than the writer: transformers 4 reads other tokenizer settings than
transformers 5 writes, so the files hold both spellings.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fintune_kit.errors import MissingInputError, UserError, first_line
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.workspace import WRITTEN_BY, check_files, read_json, read_manifest, write_json

FILES = ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
         "merges.txt", "chat_template.jinja")  # fmt: skip
LOSS_TOLERANCE = 0.02
"""Relative. The rounding of another card changes the loss by less than this, another base by far more."""
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path")
"""transformers 5 saves these settings with a tokenizer. They only say where it was loaded from."""


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes a tokenizer so that transformers 4.45 and later, and readers of `vocab.json` and `merges.txt`, open it.

    transformers 5 writes `extra_special_tokens` as a list, which transformers 4 cannot read, and leaves out the added
    tokens, `vocab.json` and `merges.txt`. The list is called `additional_special_tokens` in both, so that name is used.
    """
    tokenizer.save_pretrained(str(folder))
    tokenizer.backend_tokenizer.model.save(str(folder))
    path = folder / "tokenizer_config.json"
    config = {key: value for key, value in read_json(path).items() if key not in _OF_THIS_MACHINE}
    extra = config.pop("extra_special_tokens", None)
    if isinstance(extra, list):
        config["additional_special_tokens"] = extra
    elif extra:
        config["extra_special_tokens"] = extra
    config["added_tokens_decoder"] = {
        str(index): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for index, token in sorted(tokenizer.added_tokens_decoder.items())
    }
    config["chat_template"] = tokenizer.chat_template  # older readers look for it here
    write_json(path, config)


def check_adapter(folder: Path, *, base_config: Any) -> dict[str, Any]:
    """Checks an adapter folder of stage 3 against its manifest and its base.

    Args:
        folder: stage 3's output.
        base_config: the base model's transformers config.

    Returns:
        `matrices`, `parameters`, `bytes`, `rank`, `alpha` and `largest_b`, the largest absolute value in any B matrix.
        It is 0 if nothing was learned.

    Raises:
        MissingInputError: the folder is missing or unfinished.
        UserError: a file is missing, changed or cut short; or a matrix is missing, has another shape or dtype, is not
            finite, or is zero although others are not.
    """
    manifest = read_manifest(folder, stage="adapter")
    for name in FILES:
        if not (folder / name).is_file():
            raise _wrong(folder, f"holds no {name}", "all files of notebook 03")
    config = read_json(folder / "adapter_config.json")
    found = _read_matrices(folder / FILES[0])  # before the hashes, so that the error of a cut file says so
    check_files(folder, manifest, stage="adapter")
    expected = expected_shapes(ModelShape.of(base_config), rank=config["r"], targets=config["target_modules"])
    _compare(folder, found, expected, base=str(getattr(base_config, "name_or_path", "")) or "the base")
    return _describe(folder, found, config)


def check_foreign_adapter(folder: Path) -> dict[str, Any]:
    """Checks a PEFT adapter that has no manifest: its files exist and its values are finite.

    Returns:
        The same as `check_adapter`.

    Raises:
        MissingInputError: the folder holds no PEFT adapter.
        UserError: the weights are damaged, or it is not a LoRA adapter.
    """
    weights, settings = folder / FILES[0], folder / FILES[1]
    if not (weights.is_file() and settings.is_file()):
        raise MissingInputError(
            f"{folder} holds no {weights.name} and {settings.name}; expected a PEFT adapter, or the output of "
            f"{WRITTEN_BY['adapter']}: check the folder"
        )
    try:
        config = read_json(settings)
    except ValueError as error:
        raise _wrong(folder, f"has a damaged {settings.name} ({error})", "JSON: copy it again") from error
    if config.get("peft_type") != "LORA":
        raise _wrong(folder, f"is of type {config.get('peft_type')!r}", "a LoRA adapter: name another folder")
    return _describe(folder, _read_matrices(weights), config)


def expected_shapes(shape: ModelShape, *, rank: int, targets: list[str]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every matrix that an adapter on this model has, as PEFT writes them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(shape.layers):
        for target in targets:
            inputs, outputs = shape.projections[target]
            shapes[matrix_name(layer, target, "A")] = (rank, inputs)
            shapes[matrix_name(layer, target, "B")] = (outputs, rank)
    return shapes


def matrix_name(layer: int, projection: str, letter: str) -> str:
    """PEFT's name of the matrix A or B of one projection, as `...layers.0.self_attn.q_proj.lora_A.weight`."""
    part = "self_attn" if projection in _ATTENTION else "mlp"
    return f"base_model.model.model.layers.{layer}.{part}.{projection}.lora_{letter}.weight"


def check_loss(found: float, ended_with: float | None, *, folder: Path) -> None:
    """Checks that the adapter on a fresh base gives the validation loss that was measured at the end of its training.

    Raises:
        UserError: the loss is another one.
    """
    if ended_with is not None and abs(found - ended_with) > LOSS_TOLERANCE * abs(ended_with):
        raise _wrong(
            folder,
            f"gives a validation loss of {found:.4f} on this base",
            f"{ended_with:.4f}, as at the end of its training: name the base and the packs that it was trained on",
        )


def _describe(folder: Path, found: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, Any]:
    largest = {name: _largest_value(folder, name, tensor) for name, tensor in found.items()}
    of_b = {name: value for name, value in largest.items() if "lora_B" in name}
    zero = [name for name, value in largest.items() if value == 0]
    if zero and not (set(zero) == set(of_b)):  # if all B matrices are zero, the adapter is whole and learned nothing
        raise _wrong(folder, f"has a matrix that is all zero ({zero[0]})", "a trained one: run notebook 03 to its end")
    return {
        "matrices": len(found),
        "parameters": sum(tensor.numel() for tensor in found.values()),
        "bytes": (folder / FILES[0]).stat().st_size,
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "largest_b": max(of_b.values(), default=0.0),
    }


def _read_matrices(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} could not be read ({first_line(error)}); expected a whole safetensors file: copy it again, or "
            f"run notebook 03 again"
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
        difference = f"lacks {missing[0]}" if missing else f"holds {surplus[0]}, which no adapter on {base} has"
        raise _wrong(folder, difference, f"{len(expected)} matrices: run notebook 03 again")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise _wrong(
                folder,
                f"has {name} of shape {tuple(found[name].shape)}",
                f"{shape}, as {base} needs: set FINTUNE_MODEL",
            )
        if found[name].dtype is not torch.float32:
            raise _wrong(folder, f"has {name} in {found[name].dtype}", "float32: run notebook 03 again")


def _largest_value(folder: Path, name: str, tensor: torch.Tensor) -> float:
    if not bool(torch.isfinite(tensor).all()):
        raise _wrong(folder, f"has values in {name} that are not finite", "finite ones: train again, with a lower rate")
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _wrong(folder: Path, found: str, expected: str) -> UserError:
    return UserError(f"the adapter in {folder} {found}; expected {expected}")
