"""The values of a recipe by name: read from text and from TOML, checked, changed, compared, written with their reasons.

    [train]                          train={"learning_rate": 1e-4}        a table in a file, a keyword in a notebook
    learning_rate = 1e-4             train.learning_rate = 1e-4           the name of the value: section, dot, field

Nothing here knows which values there are: they, their types and their reasons are read from the frozen dataclasses in
`recipes.py` and from the docstrings under their fields.
"""

import dataclasses
import difflib
import math
import re
import textwrap
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fintune_kit.errors import MissingInputError, UserError

Values = TypeVar("Values")
"""A frozen dataclass of values and of sections, which are such dataclasses themselves."""

NONE = "none"
"""How None is written in TOML and in text, where a value may be None."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """The description of a recipe's field: it exists before the field has a value."""

    name: str
    """`train.learning_rate`"""
    type: Any
    """The type hint of its field."""
    reason: str
    """The docstring under its field, on one line."""


@cache
def values_of(kind: type) -> dict[str, Value]:
    """All values of a dataclass and of its sections, by name, in the order of their definition."""
    hints, reasons = get_type_hints(kind), _reasons(kind)
    found: dict[str, Value] = {}
    for field in dataclasses.fields(kind):
        if not field.repr:
            continue  # bookkeeping, not a value
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            inner = values_of(hint).values()  # type: ignore[arg-type]
            found |= {f"{field.name}.{v.name}": dataclasses.replace(v, name=f"{field.name}.{v.name}") for v in inner}
        else:
            found[field.name] = Value(name=field.name, type=hint, reason=reasons[field.name])
    return found


def _reasons(kind: type) -> dict[str, str]:
    from docstring_parser import parse_from_object

    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parse_from_object(kind).params}


def value_at(values: Any, name: str) -> Any:
    """The value called `name`, as in `train.learning_rate`."""
    for part in name.split("."):
        values = getattr(values, part)
    return values


def with_changes(values: Values, changes: Mapping[str, Any], *, origin: str) -> Values:
    """A copy with some values changed, and everything checked again.

    Args:
        changes: the new values by name.
        origin: where the changes come from, for the message.

    Raises:
        UserError: a name is unknown, or a value has another type or is out of range.
    """
    expected = {name: known_value(name, type(values), origin=origin) for name in changes}
    checked = {name: checked_value(value, expected[name], origin=origin) for name, value in changes.items()}
    return _replace(values, checked)


def _replace(values: Values, changes: Mapping[str, Any]) -> Values:
    own = {name: value for name, value in changes.items() if "." not in name}
    sections: dict[str, dict[str, Any]] = {}
    for name in changes.keys() - own.keys():
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = changes[name]
    inner = {section: _replace(getattr(values, section), changed) for section, changed in sections.items()}
    return dataclasses.replace(values, **own, **inner)  # type: ignore[type-var]


def known_value(name: str, kind: type, *, origin: str) -> Value:
    """The description of the field called `name`.

    Raises:
        UserError: there is none; the nearest name is said.
    """
    known = values_of(kind)
    if name in known:
        return known[name]
    by_field = {full.rpartition(".")[2]: full for full in known}
    close = difflib.get_close_matches(name, known, n=1) or [
        by_field[field] for field in difflib.get_close_matches(name.rpartition(".")[2], by_field, n=1)
    ]
    meant = f"did you mean {close[0]}?" if close else "expected a name that a recipe has:"
    raise UserError(f"{origin} sets {name}, which a recipe does not have; {meant} see `fintune-kit recipe show`")


def checked_value(value: Any, expected: Value, *, origin: str) -> Any:
    """The value as its field takes it: lists become tuples, whole numbers become floats where a float is expected.

    Raises:
        UserError: it has another type.
    """
    kinds, optional = _without_none(expected.type)
    if optional and (value is None or value == NONE):
        return None
    if get_origin(kinds) is Literal:
        fits = isinstance(value, str) and value in get_args(kinds)
    elif get_origin(kinds) is tuple:
        fits = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        value = tuple(value) if fits else value
    elif kinds is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        value = float(value) if fits else value
    else:
        fits = type(value) is kinds
    if not fits:
        raise UserError(f"{origin} sets {expected.name} to {_shown(value)}; expected {_described(expected.type)}")
    return value


def parse_value(text: str, expected: Value, *, origin: str) -> Any:
    """A value that was written as text, in a flag or in an environment variable.

    Lists are TOML (`["a", "b"]`) or words with commas between them (`a,b`).

    Raises:
        UserError: the text cannot be read as the type of the field.
    """
    kind, _ = _without_none(expected.type)
    value: Any = text.strip()
    try:
        if value[:1] in ('"', "'", "["):
            value = tomllib.loads(f"value = {value}")["value"]
        elif kind in (int, float) and value != NONE:
            value = kind(value)
        elif kind is bool:
            value = {"true": True, "false": False}[value.lower()]
        elif get_origin(kind) is tuple:
            value = tuple(item.strip() for item in value.split(","))
    except (ValueError, KeyError):
        pass  # the check names what was found and what was expected
    return checked_value(value, expected, origin=origin)


_ASSIGNMENT = re.compile(
    r"""(?: "[^"]*" | '[^']*' | \[[^\]]*\]     # quotes and lists stay whole
          | [^\s,;]
          | [\s,;]+ (?! [\w.-]+ \s* = )       # a separator that no NAME= follows belongs to the value
        )+""",
    re.VERBOSE,
)


def split_assignments(text: str) -> list[str]:
    """The NAME=VALUE parts of one text, with spaces, commas, semicolons or new lines between them.

    A list whose items hold `=` needs its brackets: `data.sources=["a.csv=100", "b.csv=200"]`.
    """
    parts = (part.strip(" \t\r\n,;") for part in _ASSIGNMENT.findall(text))
    return [part for part in parts if part]


def parse_assignment(text: str, kind: type, *, origin: str) -> tuple[str, Any]:
    """`train.learning_rate=1e-4` as the name and the value.

    Raises:
        UserError: `=` is missing, the name is unknown, or the value has another type.
    """
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals:
        raise UserError(f"{origin} is {text!r}; expected NAME=VALUE, as in train.learning_rate=1e-4")
    return name, parse_value(value, known_value(name, kind, origin=origin), origin=origin)


def flattened(tables: Mapping[str, Any], kind: type, *, origin: str) -> dict[str, Any]:
    """`{"train": {"epochs": 2}, "seed": 1}` as `{"train.epochs": 2, "seed": 1}`.

    Raises:
        UserError: a section is not a table.
    """
    sections = {name.partition(".")[0] for name in values_of(kind) if "." in name}
    found: dict[str, Any] = {}
    for name, value in tables.items():
        if name not in sections:
            found[name] = value
        elif not isinstance(value, Mapping):
            raise UserError(f"{origin} sets {name} to {_shown(value)}; expected a table of the values of {name}")
        else:
            found |= {f"{name}.{field}": inner for field, inner in value.items()}
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        MissingInputError: the file does not exist.
        UserError: it is not TOML.
    """
    if not path.is_file():
        raise MissingInputError(f"{path} is missing; expected a recipe in TOML: `fintune-kit recipe show > {path}`")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML ({error}); correct it there") from error


def to_toml(values: Any, *, title: str) -> str:
    """All values as TOML, each under its reason as a comment; `with_changes` of what is read back gives the same.

    Args:
        title: the first comment.
    """
    import tomlkit

    lines, section = _comment(title), ""
    kind: type = type(values)
    for name, value in values_of(kind).items():
        table, _, field = name.rpartition(".")
        if table != section:
            section = table
            purpose = " ".join((type(value_at(values, table)).__doc__ or "").split())
            lines += ["", "", *_comment(purpose), f"[{table}]"]
        current = value_at(values, name)
        written = tomlkit.item(NONE if current is None else current).as_string()
        lines += ["", *_comment(value.reason), f"{field} = {written}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, width=110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def differences(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """The names of the values that differ, with both values."""
    kind: type = type(one)
    pairs = {name: (value_at(one, name), value_at(other, name)) for name in values_of(kind)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _without_none(hint: Any) -> tuple[Any, bool]:
    """`int | None` as `(int, True)`."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    (kind,) = (part for part in get_args(hint) if part is not type(None))
    return kind, True


def _described(hint: Any) -> str:
    kind, optional = _without_none(hint)
    if get_origin(kind) is Literal:
        words = f"one of {', '.join(get_args(kind))}"
    elif get_origin(kind) is tuple:
        words = 'a list of texts, as in ["a", "b"]'
    else:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    return f'{words}, or "{NONE}"' if optional else words


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
