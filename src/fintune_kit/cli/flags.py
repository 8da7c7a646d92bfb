"""Types and settings of flags that several verbs share. It imports nothing of the package, so `--help` is fast."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token, validators


def shown_default(value: Any) -> Any:
    """A default as the help shows it. None, False and empty values are not shown."""
    return None if value in (None, False, (), "") else value


FLAGS = Parameter(negative=(), show_default=shown_default)
"""A flag has no `--no-` form unless it says so."""


def whole_number(_type: Any, tokens: Sequence[Token]) -> int:
    """The number that was given. Cyclopts would round `5.7` to 6 and say nothing."""
    try:
        return int(tokens[0].value)
    except ValueError as error:
        raise ValueError(f"expected a whole number, not {tokens[0].value!r}") from error


def whole_number_or_none(kind: Any, tokens: Sequence[Token]) -> int | str:
    """The same, or `none` as a recipe spells it: None would mean that the flag was not given."""
    return "none" if tokens[0].value.lower() == "none" else whole_number(kind, tokens)


WholeNumber = Annotated[int, Parameter(converter=whole_number)]
Count = Annotated[int, Parameter(converter=whole_number, validator=validators.Number(gte=1))]
"""A whole number of 1 or more."""


def _require_name(_type: Any, folder: Path | None) -> None:
    if folder is not None and not folder.name:
        raise ValueError("Expected a folder of its own, as in runs/mine")


Folder = Annotated[Path, Parameter(validator=_require_name)]
"""A folder that is written completely and replaces an older one. It cannot be the current folder."""
