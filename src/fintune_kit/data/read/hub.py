"""Datasets on the Hugging Face hub: how they are opened, and their rows. One error says why one cannot be opened."""

from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from fintune_kit.data.read.lines import Row
from fintune_kit.errors import UserError


def open_hub(
    name: str, *, config: str | None = None, revision: str | None = None, streaming: bool = False
) -> Mapping[str, Any]:
    """The splits of a hub dataset, by name.

    Args:
        config: the subset, where the dataset has several.
        streaming: yields rows while they are downloaded, so no copy of all of them is held in Arrow.

    Raises:
        UserError: the dataset cannot be opened.
    """
    import datasets

    try:
        return datasets.load_dataset(name, config, revision=revision, streaming=streaming)
    except Exception as error:  # the client raises a dozen unrelated classes; each means the same to the user
        raise _hub_error(name, error) from error


def hub_rows(name: str, *, revision: str | None = None) -> list[Row]:
    """The rows of a hub dataset's `train` split, or of its first split where it has no `train`.

    Raises:
        UserError: the dataset cannot be opened or read.
    """
    splits = open_hub(name, revision=revision, streaming=True)
    split = splits["train" if "train" in splits else next(iter(splits))]
    try:
        names = _label_names(split.features)
        entries = tqdm(split, desc=f"downloading {name}", unit=" rows", leave=False, disable=None)
        return [Row(f"row {number}", _with_names(values, names)) for number, values in enumerate(entries, start=1)]
    except Exception as error:  # as above: the rows are downloaded only now
        raise _hub_error(name, error) from error


def _hub_error(name: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"the hub dataset {name!r} could not be loaded ({type(error).__name__}: {reason[:200]}); expected a "
        "public dataset and a connection to huggingface.co: check the name, or give a downloaded file to --source"
    )


def _label_names(features: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """The names of the columns that the hub keeps as numbers of classes."""
    return {column: feature.names for column, feature in (features or {}).items() if hasattr(feature, "names")}


def _with_names(values: Mapping[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        column: names[column][value] if column in names and isinstance(value, int) and value >= 0 else value
        for column, value in values.items()
    }
