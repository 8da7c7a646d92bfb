"""Datasets on the Hugging Face hub: how they are opened, and their rows. One error says why one cannot be opened."""

from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from fintune_kit.data.read.class_labels import names_in_features, with_names
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
        UserError: the dataset cannot be opened. If it has several subsets and none was named, the error lists them.
    """
    import datasets

    try:
        return datasets.load_dataset(name, config, revision=revision, streaming=streaming)
    except Exception as error:  # the client raises a dozen unrelated classes; each means the same to the user
        raise _hub_error(name, error) from error


def hub_rows(name: str, split: Any) -> Iterator[Row]:
    """The rows of one split of a hub dataset, class numbers read as their names.

    Raises:
        UserError: the rows cannot be downloaded.
    """
    try:
        names = names_in_features(split.features)
        entries = tqdm(split, desc=f"downloading {name}", unit=" rows", leave=False, disable=None)
        for number, values in enumerate(entries, start=1):
            yield Row(f"row {number}", with_names(values, names))
    except Exception as error:  # as above: the rows are downloaded only now
        raise _hub_error(name, error) from error


def _hub_error(name: str, error: Exception) -> UserError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "config" in lines[0].lower():
        reason = " ".join(lines[:2])
        return UserError(
            f"the hub dataset {name!r} was not opened ({reason[:600]}); expected one of its configs: write "
            f"{name}:CONFIG"
        )
    return UserError(
        f"the hub dataset {name!r} could not be loaded ({type(error).__name__}: {lines[0][:200]}); expected a "
        "public dataset and a connection to huggingface.co: check the name, or give a downloaded file to --source"
    )
