"""From the columns of any instruction dataset to messages.

The columns of a row tell its layout: exactly one must fit. Case makes no difference, and a null column counts as
absent. `--map ROLE=COLUMN` overrides it:

    --map user=Q --map assistant=A [--map context=PARAGRAPH] [--map system=S]     a question and its answer
    --map messages=CHAT                                                           a list of turns
    --map text=BODY --map label=CLASS                                             a text and its label

`--map task_type=C`, `--map conversation_id=C` and `--map origin=C` add to the layout that was recognised. A layout
names the columns that it reads; the stage lists the others.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fintune_kit.conversations import Message
from fintune_kit.data.convert.cells import RowError, first_answer, is_absent, label_of, list_of, says_nothing, text_of
from fintune_kit.data.convert.history import parse_history
from fintune_kit.data.convert.marked_text import holds_turns, parse_marked
from fintune_kit.data.convert.turns import in_order, parse_turns
from fintune_kit.data.read.lines import as_unicode
from fintune_kit.errors import UserError

ROLES = ("user", "assistant", "context", "system", "history", "messages", "text", "label", "task_type",
         "conversation_id", "origin")  # fmt: skip
_NAMED_BY_THEMSELVES = ("task_type", "conversation_id")
"""Columns of these names play these roles in every layout."""


@dataclass(slots=True)
class RowContent:
    """The parts of a conversation that the columns of a row hold."""

    messages: list[Message]
    task_type: str
    origin: str | None
    conversation: str | None
    history: str | None
    """How the turns of a history were found, where the row holds one."""


@dataclass(frozen=True)
class ColumnLayout:
    """Which column plays which role, and how the row is read."""

    name: str
    roles: Mapping[str, str]
    """Role to column. Of a layout that fits a row, these are the row's own columns; all of them are read."""
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role to the columns that may play it, the first one there."""
    task_type: str = "qa"
    """The task type of rows that name none."""
    read: Callable[["ColumnLayout", Mapping[str, Any], Counter[str]], tuple[list[Message], str | None]] = field(
        default=lambda layout, row, unused: _read_pair(layout, row, unused)
    )
    fits: Callable[[Any], bool] = field(default=lambda _: True)
    """Whether the value in the first column fits this layout too."""

    def for_columns(self, columns: Mapping[str, str]) -> "ColumnLayout | None":
        """This layout with the columns of a row in its roles; None if a column that it needs is missing.

        Args:
            columns: names in small letters to names as the row spells them.
        """
        if not all(column in columns for column in self.roles.values()):
            return None
        roles = {role: columns[column] for role, column in self.roles.items()}
        for role, names in {**self.optional, **{name: (name,) for name in _NAMED_BY_THEMSELVES}}.items():
            found = next((columns[name] for name in names if name in columns), None)
            if found is not None and found not in roles.values():
                roles.setdefault(role, found)
        return replace(self, roles=roles, optional={})

    def cell(self, row: Mapping[str, Any], role: str) -> Any:
        """The cell that plays a role; None if no column does."""
        column = self.roles.get(role)
        return None if column is None else row.get(column)

    def text(self, row: Mapping[str, Any], role: str, *, required: bool = False) -> str:
        """The text of the cell that plays a role; see `cells.text_of`."""
        if not required and role not in self.roles:
            return ""
        is_context = role in ("context", "system")
        column, value = self.roles.get(role), self.cell(row, role)
        if role == "assistant" and column is not None and column.strip().lower() == "answers":
            value = first_answer(value)
        return text_of(value, column, required=required, is_context=is_context)


def _read_pair(layout: ColumnLayout, row: Mapping[str, Any], unused: Counter[str]) -> tuple[list[Message], str | None]:
    prompt = list_of(layout.cell(row, "user"))
    if isinstance(prompt, list):  # TRL's conversational prompt and completion
        return parse_turns(prompt, unused) + parse_turns(list_of(layout.cell(row, "assistant")), unused), None
    messages: list[Message] = []
    if system := layout.text(row, "system"):
        messages.append({"role": "system", "content": system})
    messages += _earlier_turns(list_of(layout.cell(row, "history")), unused)
    context = layout.text(row, "context")
    user = layout.text(row, "user", required=True)
    messages.append({"role": "user", "content": f"{user}\n\n{context}" if context.strip() else user})
    messages.append({"role": "assistant", "content": layout.text(row, "assistant", required=True)})
    return messages, None


def _earlier_turns(history: Any, unused: Counter[str]) -> list[Message]:
    """The turns before a question: Alpaca's list of pairs of question and answer, or a list of turns."""
    if is_absent(history) or history in ("", []):
        return []
    if isinstance(history, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        return parse_turns([turn for pair in history for turn in pair], unused)
    return parse_turns(history, unused)


def _read_sujet(layout: ColumnLayout, row: Mapping[str, Any], unused: Counter[str]) -> tuple[list[Message], str | None]:
    """Sujet's `inputs` repeats the prompt, so it is not used. Only rows of `qa_conversation` hold a history."""
    messages, _ = _read_pair(layout, row, unused)
    if layout.cell(row, "task_type") != "qa_conversation":
        return messages, None
    turns, history = parse_history(messages[-2]["content"])
    return [*messages[:-2], *turns, messages[-1]], history


def _read_messages(
    layout: ColumnLayout, row: Mapping[str, Any], unused: Counter[str]
) -> tuple[list[Message], str | None]:
    turns = list_of(layout.cell(row, "messages"))
    if isinstance(turns, str):
        column = layout.roles["messages"]
        raise RowError("not_text", f"column {column!r} holds a text that is not a list of turns: {turns[:60]!r}")
    messages = parse_turns(turns, unused)
    if (system := layout.text(row, "system")) and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages, None


def _read_marked(
    layout: ColumnLayout, row: Mapping[str, Any], _unused: Counter[str]
) -> tuple[list[Message], str | None]:
    return parse_marked(layout.text(row, "text", required=True)), None


def _read_label(
    layout: ColumnLayout, row: Mapping[str, Any], _unused: Counter[str]
) -> tuple[list[Message], str | None]:
    text = layout.text(row, "text", required=True)
    label = label_of(layout.cell(row, "label"), layout.roles["label"])
    return [{"role": "user", "content": text}, {"role": "assistant", "content": label}], None


def _holds_list(value: Any) -> bool:
    return isinstance(list_of(value), list)


_SYSTEM = ("system", "system_prompt")
_QUESTIONS = ("instruction", "question", "query", "prompt", "input", "user")
_ANSWERS = ("output", "response", "answer", "completion", "assistant", "answers")
_TEXTS = ("text", "sentence", "headline")
_LABELS = ("label_text", "label_name", "label", "sentiment")
_TURNS = ("conversation", "dialogue", "dialog", "turns", "chat")


def _pair(user: str, assistant: str) -> ColumnLayout:
    contexts = ("context", "passage", "paragraph", "document") + (("input",) if user == "instruction" else ())
    return ColumnLayout(
        "Alpaca" if (user, assistant) == ("instruction", "output") else f"{user}/{assistant}",
        {"user": user, "assistant": assistant},
        {"context": contexts, "system": _SYSTEM, "history": ("history",)},
    )


def _label(text: str, label: str) -> ColumnLayout:
    number = {} if label == "label" else {"class_number": ("label", "label_id")}  # the name of a class says the same
    return ColumnLayout(
        f"{text}/{label}",
        {"text": text, "label": label},
        {"system": _SYSTEM, **number},
        task_type="classification",
        read=_read_label,
    )


LAYOUTS: tuple[ColumnLayout, ...] = (
    ColumnLayout(
        "Sujet",
        {"user": "user_prompt", "assistant": "answer"},
        {"system": ("system_prompt",), "origin": ("dataset",)},
        read=_read_sujet,
    ),
    ColumnLayout("OpenAI messages", {"messages": "messages"}, {"system": _SYSTEM}, read=_read_messages),
    ColumnLayout("ShareGPT", {"messages": "conversations"}, {"system": _SYSTEM}, read=_read_messages),
    *(
        ColumnLayout(f"turns in {name}", {"messages": name}, {"system": _SYSTEM}, read=_read_messages, fits=_holds_list)
        for name in _TURNS
    ),
    ColumnLayout(
        "text with turns",
        {"text": "text"},
        read=_read_marked,
        fits=lambda value: isinstance(value, str) and holds_turns(value),
    ),
    *(_pair(user, assistant) for user in _QUESTIONS for assistant in _ANSWERS),
    *(_label(text, label) for text in _TEXTS for label in _LABELS),
)
VALUES_DECIDE = frozenset(
    column for layout in LAYOUTS for column in (*_TURNS, "text") if column in layout.roles.values()
)
"""Where a row has one of these columns, its values decide which layout fits."""


def recognise(row: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> ColumnLayout | str:
    """The one layout that fits a row. A text instead says that none fits, or which ones do.

    Columns that are null are taken for absent, unless no layout fits then.
    """
    mapping = mapping or {}
    if chosen := _chosen(row, mapping):
        return chosen
    fitting = _fitting(row, [name for name, value in row.items() if not is_absent(value)]) or _fitting(row, list(row))
    if len(fitting) == 1:
        extras = {role: column for role, column in mapping.items() if column in row}
        return replace(fitting[0], roles={**fitting[0].roles, **extras})
    if fitting:
        return f"fit {' and '.join(layout.name for layout in fitting)}"
    return "fit no known layout"


def _fitting(row: Mapping[str, Any], present: list[str]) -> list[ColumnLayout]:
    """The layouts that fit. One that reads only some of the columns that another one reads is left out."""
    columns: dict[str, str] = {}
    for name in sorted(present, key=lambda name: name != name.strip().lower()):  # exact names go before others
        columns.setdefault(name.strip().lower(), name)
    found = [
        layout
        for known in LAYOUTS
        if (layout := known.for_columns(columns)) is not None and known.fits(row[next(iter(layout.roles.values()))])
    ]
    reads = [set(layout.roles.values()) for layout in found]
    return [layout for layout, own in zip(found, reads, strict=True) if not any(own < other for other in reads)]


def _chosen(row: Mapping[str, Any], mapping: Mapping[str, str]) -> ColumnLayout | None:
    """The layout that `--map` describes, where this row has its columns."""
    for roles, read, task_type in (
        (("messages",), _read_messages, "qa_conversation"),
        (("text", "label"), _read_label, "classification"),
        (("user", "assistant"), _read_pair, "qa"),
    ):
        if all(role in mapping and mapping[role] in row for role in roles):
            own = {name: name for name in _NAMED_BY_THEMSELVES if name in row}
            given = {role: column for role, column in mapping.items() if column in row}
            return ColumnLayout("--map", {**own, **given}, task_type=task_type, read=read)
    return None


def check_mapping(mapping: Mapping[str, str] | None) -> None:
    """Raises UserError where a role is unknown."""
    for role in mapping or {}:
        if role not in ROLES:
            raise UserError(
                f"--map names the role {role!r}; expected one of {', '.join(ROLES)}: write --map ROLE=COLUMN"
            )


def map_row(
    layout: ColumnLayout,
    row: Mapping[str, Any],
    *,
    system_prompt: str | None = None,
    unused: Counter[str] | None = None,
    changes: Counter[str] | None = None,
) -> RowContent:
    """The messages that a row holds, and what it says about them.

    Args:
        system_prompt: added where the row has none.
        unused: counts the fields of turns that are not read.
        changes: counts the faults in the order of turns that were mended.

    Raises:
        RowError: a cell is missing or holds no text, or the turns cannot be read.
    """
    messages, history = layout.read(layout, row, Counter() if unused is None else unused)
    messages = in_order(messages, changes)
    if system_prompt and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    task_type = layout.text(row, "task_type").strip() or _default_task(layout, messages, row)
    conversation = layout.cell(row, "conversation_id")
    if isinstance(conversation, float):
        conversation = None if not math.isfinite(conversation) else int(conversation)
    has_id = isinstance(conversation, str | int) and conversation != ""
    return RowContent(
        messages=messages,
        task_type=as_unicode(task_type),
        origin=as_unicode(layout.text(row, "origin")) or None,
        conversation=as_unicode(str(conversation)) if has_id else None,
        history=history,
    )


def _default_task(layout: ColumnLayout, messages: list[Message], row: Mapping[str, Any]) -> str:
    if sum(message["role"] == "user" for message in messages) > 1:
        return "qa_conversation"
    context = layout.cell(row, "context")
    if layout.task_type == "qa" and isinstance(context, str) and not says_nothing(context, is_context=True):
        return "qa_with_context"
    return layout.task_type
