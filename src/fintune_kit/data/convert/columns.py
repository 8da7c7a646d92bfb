"""From the columns of any instruction dataset to messages.

The columns of a row tell its layout: exactly one must fit. `--map ROLE=COLUMN` overrides it:

    --map user=Q --map assistant=A [--map context=PARAGRAPH] [--map system=S]     a question and its answer
    --map messages=CHAT                                                           a list of turns
    --map text=BODY --map label=CLASS                                             a text and its label

`--map task_type=C`, `--map conversation_id=C` and `--map origin=C` add to the layout that was recognised.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fintune_kit.conversations import Message
from fintune_kit.data.convert.history import parse_history
from fintune_kit.data.convert.turns import RowError, parse_chatml, parse_turns
from fintune_kit.data.read.lines import as_unicode
from fintune_kit.errors import UserError

ROLES = (
    "user",
    "assistant",
    "context",
    "system",
    "messages",
    "text",
    "label",
    "task_type",
    "conversation_id",
    "origin",
)
_NAMED_BY_THEMSELVES = ("task_type", "conversation_id")
"""Columns of these names play these roles in every layout."""


@dataclass(frozen=True)
class ColumnLayout:
    """Which column plays which role, and how the row is read."""

    name: str
    roles: Mapping[str, str]
    """Role to column."""
    optional: Mapping[str, str] = field(default_factory=dict)
    task_type: str = "qa"
    """The task type of rows that name none."""
    read: Callable[["ColumnLayout", Mapping[str, Any]], tuple[list[Message], str | None]] = field(
        default=lambda layout, row: _read_pair(layout, row)
    )
    fits: Callable[[Mapping[str, Any]], bool] = field(default=lambda _: True)
    """Whether the values of a row fit this layout too."""

    def column(self, role: str) -> str | None:
        """The column that plays a role; None where no column does."""
        return self.roles.get(role) or self.optional.get(role) or (role if role in _NAMED_BY_THEMSELVES else None)


@dataclass(slots=True)
class RowContent:
    """The parts of a conversation that the columns of a row hold."""

    messages: list[Message]
    task_type: str
    origin: str | None
    conversation: str | None
    history: str | None
    """How the turns of a history were found, where the row holds one."""


def _cell(layout: ColumnLayout, row: Mapping[str, Any], role: str) -> Any:
    column = layout.column(role)
    return row.get(column) if column else None


def _text(row: Mapping[str, Any], column: str | None, *, required: bool) -> str:
    """A cell as text. Numbers and truth values are written out; a missing cell is '' where it is optional."""
    value = row.get(column) if column else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        value = ""
    if isinstance(value, bool | int | float):
        value = {True: "true", False: "false"}[value] if isinstance(value, bool) else _number(value)
    if not isinstance(value, str):
        raise RowError("not_text", f"column {column!r} holds a {type(value).__name__}, expected text")
    if value.strip() in _NOTHING:
        value = ""
    if required and not value.strip():
        raise RowError("missing_or_empty", f"column {column!r} is missing or empty")
    return value


_NOTHING = frozenset({"nan", "NaN", "<noinput>", "NULL"})


def _number(value: float) -> str:
    try:
        return str(value)
    except ValueError as error:  # Python refuses to write out integers of thousands of digits
        raise RowError("not_text", f"a number that cannot be written out ({error})") from error


def _read_pair(layout: ColumnLayout, row: Mapping[str, Any]) -> tuple[list[Message], str | None]:
    prompt = _cell(layout, row, "user")
    if isinstance(prompt, list):  # TRL's conversational prompt and completion
        return parse_turns(prompt) + parse_turns(_cell(layout, row, "assistant")), None
    messages: list[Message] = []
    if system := _text(row, layout.column("system"), required=False):
        messages.append({"role": "system", "content": system})
    context = _text(row, layout.column("context"), required=False)
    user = _text(row, layout.column("user"), required=True)
    messages.append({"role": "user", "content": f"{user}\n\n{context}" if context.strip() else user})
    messages.append({"role": "assistant", "content": _text(row, layout.column("assistant"), required=True)})
    return messages, None


def _read_sujet(layout: ColumnLayout, row: Mapping[str, Any]) -> tuple[list[Message], str | None]:
    """Sujet's `inputs` repeats the prompt, so it is not used. Only rows of `qa_conversation` hold a history."""
    messages, _ = _read_pair(layout, row)
    if row.get("task_type") != "qa_conversation":
        return messages, None
    turns, history = parse_history(messages[-2]["content"])
    return [*messages[:-2], *turns, messages[-1]], history


def _read_messages(layout: ColumnLayout, row: Mapping[str, Any]) -> tuple[list[Message], str | None]:
    turns = _cell(layout, row, "messages")
    if isinstance(turns, str):  # a CSV column of JSON
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError) as error:
            raise RowError(
                "not_text", f"column {layout.column('messages')!r} is not a list of turns ({error})"
            ) from error
    messages = parse_turns(turns)
    system = _text(row, layout.column("system"), required=False)
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages, None


def _read_chatml(layout: ColumnLayout, row: Mapping[str, Any]) -> tuple[list[Message], str | None]:
    return parse_chatml(_text(row, layout.column("text"), required=True)), None


def _read_label(layout: ColumnLayout, row: Mapping[str, Any]) -> tuple[list[Message], str | None]:
    text = _text(row, layout.column("text"), required=True)
    label = _text(row, layout.column("label"), required=True)
    if label.lstrip("-").isdigit():
        detail = f"label {label} is a number without a name; name the column of label names with --map label=COLUMN"
        raise RowError("not_text", detail)
    return [{"role": "user", "content": text}, {"role": "assistant", "content": label}], None


def _holds_chatml(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("text"), str) and "<|im_start|>" in row["text"]


def _pair(user: str, assistant: str) -> ColumnLayout:
    optional = {"context": "context", "system": "system"}
    return ColumnLayout(f"{user}/{assistant}", {"user": user, "assistant": assistant}, optional)


_SUJET_EXTRAS = {
    "system": "system_prompt",
    "task_type": "task_type",
    "conversation_id": "conversation_id",
    "origin": "dataset",
}

LAYOUTS: tuple[ColumnLayout, ...] = (
    ColumnLayout("Sujet", {"user": "user_prompt", "assistant": "answer"}, _SUJET_EXTRAS, read=_read_sujet),
    ColumnLayout("Alpaca", {"user": "instruction", "assistant": "output"}, {"context": "input", "system": "system"}),
    ColumnLayout("OpenAI messages", {"messages": "messages"}, read=_read_messages),
    ColumnLayout("ShareGPT", {"messages": "conversations"}, {"system": "system"}, read=_read_messages),
    ColumnLayout("ChatML text", {"text": "text"}, read=_read_chatml, fits=_holds_chatml),
    ColumnLayout("text/label", {"text": "text", "label": "label_text"}, task_type="classification", read=_read_label),
    ColumnLayout(
        "text/label",
        {"text": "text", "label": "label"},
        task_type="classification",
        read=_read_label,
        fits=lambda row: "label_text" not in row,
    ),
    _pair("input", "response"),
    _pair("prompt", "completion"),
    _pair("prompt", "response"),
    _pair("question", "answer"),
    _pair("query", "answer"),
    _pair("instruction", "response"),
)


def recognise(row: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> ColumnLayout | str:
    """The one layout that fits a row. A text instead says that none fits, or which ones do."""
    mapping = mapping or {}
    if chosen := _chosen(row, mapping):
        return chosen
    fitting = [layout for layout in LAYOUTS if all(c in row for c in layout.roles.values()) and layout.fits(row)]
    if len(fitting) == 1:
        extras = {role: column for role, column in mapping.items() if column in row}
        only = fitting[0]
        return (
            ColumnLayout(only.name, only.roles, {**only.optional, **extras}, only.task_type, only.read)
            if extras
            else only
        )
    if fitting:
        return f"fit {' and '.join(layout.name for layout in fitting)}"
    return "fit no known layout"


def _chosen(row: Mapping[str, Any], mapping: Mapping[str, str]) -> ColumnLayout | None:
    """The layout that `--map` describes, where this row has its columns."""
    for roles, read, task_type in (
        (("messages",), _read_messages, "qa_conversation"),
        (("text", "label"), _read_label, "classification"),
        (("user", "assistant"), _read_pair, "qa"),
    ):
        if all(role in mapping and mapping[role] in row for role in roles):
            main = {role: mapping[role] for role in roles}
            rest = {role: column for role, column in mapping.items() if role not in roles}
            return ColumnLayout("--map", main, rest, task_type, read)
    return None


def check_mapping(mapping: Mapping[str, str] | None) -> None:
    """Raises UserError where a role is unknown."""
    for role in mapping or {}:
        if role not in ROLES:
            raise UserError(
                f"--map names the role {role!r}; expected one of {', '.join(ROLES)}: write --map ROLE=COLUMN"
            )


def map_row(layout: ColumnLayout, row: Mapping[str, Any], *, system_prompt: str | None = None) -> RowContent:
    """The messages that a row holds, and what it says about them.

    Args:
        system_prompt: added where the row has none.

    Raises:
        RowError: a cell is missing or holds no text, or the turns cannot be read.
    """
    messages, history = layout.read(layout, row)
    if system_prompt and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    task_type = _text(row, layout.column("task_type"), required=False).strip() or _default_task(layout, messages, row)
    conversation = _cell(layout, row, "conversation_id")
    if isinstance(conversation, float):
        conversation = None if not math.isfinite(conversation) else int(conversation)
    return RowContent(
        messages=messages,
        task_type=as_unicode(task_type),
        origin=as_unicode(_text(row, layout.column("origin"), required=False)) or None,
        conversation=as_unicode(str(conversation))
        if isinstance(conversation, str | int) and conversation != ""
        else None,
        history=history,
    )


def _default_task(layout: ColumnLayout, messages: list[Message], row: Mapping[str, Any]) -> str:
    if sum(message["role"] == "user" for message in messages) > 1:
        return "qa_conversation"
    if layout.task_type == "qa" and _cell(layout, row, "context"):
        return "qa_with_context"
    return layout.task_type


def unmapped_columns_error(file: str, columns: list[str], finding: str) -> UserError:
    """The error for a file whose columns fit no layout or several: it says what to write after `--map`."""
    guess = [column for column in columns if column][:2] or ["COLUMN", "COLUMN"]
    line = f"--map user={guess[0]} --map assistant={guess[-1]}"
    known = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
    return UserError(
        f"{file}: the columns {', '.join(map(repr, columns)) or '(none)'} {finding}; expected exactly one of {known}: "
        f"say which column is which, for example {line}"
    )
