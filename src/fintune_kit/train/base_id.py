"""Finds the hub id of a base model, so that an adapter names its base by this id and never by a path.

    Qwen/Qwen2.5-3B-Instruct                                         a hub id: taken unchanged
    ~/.cache/.../models--Qwen--Qwen2.5-3B-Instruct/snapshots/aa8e7   the hub's cache
    /kaggle/input/models/qwen-lm/qwen2.5/transformers/3b-instruct/1  a Kaggle mount
    ~/models/Qwen2.5-3B-Instruct                                     a folder with the model's name and its config

A config alone is not enough: Qwen2.5-0.5B-Instruct and Qwen2.5-Coder-0.5B-Instruct have the same one. So a folder with
any other name gives just that name. The user can set the hub id with `FINTUNE_BASE_ID`.
"""

import json
import re
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.workspace import named_base_id

_SIZES = {name.lower(): (shape.hidden, shape.layers) for name, shape in SHAPES.items()}
"""Hidden size and layers of the published models, by family and size: `qwen2.5-3b`."""
_NAME = re.compile(
    r"(?P<family>qwen2\.5|qwen3)(?P<kind>-coder|-math)?-(?P<size>[0-9.]+b)(?P<tuned>-instruct(-2507)?|-base)?$"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def base_id(base: str | Path) -> str:
    """The hub id of a base model, else the name of its folder without its path.

    Raises:
        UserError: `FINTUNE_BASE_ID` is not a hub id.
    """
    named = named_base_id()
    if named:
        if not _HUB_ID.fullmatch(named):
            raise UserError(f"FINTUNE_BASE_ID is {named!r}; expected a hub id such as Qwen/Qwen2.5-3B-Instruct")
        return named
    folder = Path(base).expanduser()
    if not folder.is_dir():
        return str(base)
    return _from_cache(folder.resolve()) or _from_names(folder.resolve()) or _own_name(folder.absolute())


def is_hub_id(name: str) -> bool:
    """Whether a base is named by `owner/name`, so that others can load it."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def _from_cache(folder: Path) -> str | None:
    """`models--owner--name/snapshots/<revision>` as `owner/name`."""
    for part in folder.parts:
        if part.startswith("models--"):
            owner, _, name = part.removeprefix("models--").partition("--")
            return f"{owner}/{name}"
    return None


def _from_names(folder: Path) -> str | None:
    """A known model whose name the parts of the path spell, alone or in pairs, if the config has that model's size."""
    parts = [part.lower().replace("_", "-") for part in folder.parts[-5:]]
    spelled = [*parts, *(f"{family}-{size}" for family in parts for size in parts)]
    for name in reversed(spelled):
        match = _NAME.search(name)
        if match and _SIZES.get(f"{match['family']}-{match['size']}") == _sizes(folder):
            return "Qwen/" + _as_published(match[0])
    return None


def _sizes(folder: Path) -> tuple[int, int] | None:
    path = folder / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    return config.get("hidden_size"), config.get("num_hidden_layers")


def _as_published(name: str) -> str:
    """`qwen2.5-3b-instruct` as `Qwen2.5-3B-Instruct`."""
    return "-".join(
        part.upper() if part.endswith("b") and part[0].isdigit() else part.capitalize() for part in name.split("-")
    )


def _own_name(folder: Path) -> str:
    """The folder's name, or the name of the link to it.

    On Kaggle the folder of a model's version is a number, so its parent's name is taken.
    """
    return folder.parent.name if folder.name.isdigit() else folder.name
