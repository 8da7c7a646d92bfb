"""Lists of turns that a dataset already holds: OpenAI `messages`, ShareGPT `conversations`, ChatML text."""

import re
from typing import Any

from fintune_kit.conversations import Message

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bard": "assistant", "bing": "assistant",
}  # fmt: skip

_TURN = re.compile(r"<\|im_start\|>([^\n]*)\n(.*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL)


class RowError(ValueError):
    """One row cannot become a conversation: the rule that it breaks, and what was found in it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.detail = detail


def parse_turns(turns: Any) -> list[Message]:
    """The messages of a list of turns in either spelling. Their content may be a text or a list of text parts.

    Raises:
        RowError: it is not a list of turns, a role is unknown, or a part is not text.
    """
    if not isinstance(turns, list) or not turns:
        raise RowError("not_text", f"found {_kind(turns)}, expected a list of turns")
    return [_parse_turn(number, turn) for number, turn in enumerate(turns, start=1)]


def _parse_turn(number: int, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise RowError("not_text", f"turn {number} is {_kind(turn)}, expected an object with role and content")
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role.strip().lower() not in _ROLES:
        raise RowError("roles", f"turn {number} has the role {str(role)[:40]!r}, expected system, user or assistant")
    if turn.get("tool_calls"):
        raise RowError("roles", f"turn {number} calls a tool, expected text")
    content = turn.get("content", turn.get("value"))
    return {"role": _ROLES[role.strip().lower()], "content": _content(number, content)}


def _content(number: int, content: Any) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        raise RowError("missing_or_empty", f"turn {number} has no content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "".join(texts)
        raise RowError("not_text", f"turn {number} has a part that is not text, expected text parts only")
    raise RowError("not_text", f"turn {number} has {_kind(content)} as content, expected text")


def parse_chatml(text: str) -> list[Message]:
    """The messages of a text that is written in ChatML already.

    Raises:
        RowError: text stands outside the turns.
    """
    if outside := _TURN.sub("", text).strip():
        raise RowError("roles", f"text stands outside the ChatML turns: {outside[:80]!r}")
    turns = [{"role": role, "content": content} for role, content in _TURN.findall(text)]
    return parse_turns(turns)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing", bool: "a truth value"}
    return names.get(type(value), "a number")
