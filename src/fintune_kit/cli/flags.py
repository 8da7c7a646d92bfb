"""Types and settings of flags that several verbs share. It imports nothing of the package, so `--help` is fast."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators


def shown_default(value: Any) -> Any:
    """A default as the help shows it. None, False and empty values are not shown."""
    return None if value in (None, False, (), "") else value


FLAGS = Parameter(negative=(), show_default=shown_default)
"""A flag has no `--no-` form unless it says so."""

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
"""A whole number of 1 or more."""


def _require_name(_type: Any, folder: Path | None) -> None:
    if folder is not None and not folder.name:
        raise ValueError("Expected a folder of its own, as in runs/mine")


Folder = Annotated[Path, Parameter(validator=_require_name)]
"""A folder that is written completely and replaces an older one. It cannot be the current folder."""
