"""Lists of turns that a dataset already holds: OpenAI `messages`, ShareGPT `conversations`, bare lists of texts.

{"role": "user", "content": "What is an ETF?"}              OpenAI
{"from": "human", "value": "What is an ETF?"}               ShareGPT
{"role": "model", "parts": [{"text": "A fund."}]}           Gemini
{"role": "assistant", "content": "A fund.", "weight": 0}    context: read, and not learned
"What is an ETF?"                                           texts alternate, and the user begins
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fintune_kit.conversations import Message
from fintune_kit.data.convert.cells import RowError, is_absent

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bard": "assistant", "bing": "assistant", "ai": "assistant", "chatbot": "assistant", "agent": "assistant",
    "answer": "assistant",
}  # fmt: skip
_ROLE_FIELDS = ("role", "from", "speaker")
_TEXT_FIELDS = ("content", "value", "text", "parts")
_WEIGHT_FIELDS = ("weight", "train", "loss")
_CALLS = ("tool_calls", "function_call")
_READ = frozenset((*_ROLE_FIELDS, *_TEXT_FIELDS, *_WEIGHT_FIELDS, *_CALLS))


def parse_turns(turns: Any, unused: Counter[str] | None = None) -> list[Message]:
    """The messages of a list of turns in any of the spellings.

    Args:
        unused: counts the fields of turns that are not read.

    Raises:
        RowError: it is not a list of turns, a role is unknown, or a part is not text.
    """
    if not isinstance(turns, list) or not turns:
        raise RowError("not_text", f"found {_kind(turns)}, expected a list of turns")
    if all(isinstance(turn, str) for turn in turns):
        return [{"role": "assistant" if index % 2 else "user", "content": turn} for index, turn in enumerate(turns)]
    return [_parse_turn(number, turn, unused) for number, turn in enumerate(turns, start=1)]


def _parse_turn(number: int, turn: Any, unused: Counter[str] | None) -> Message:
    if not isinstance(turn, dict):
        raise RowError("not_text", f"turn {number} is {_kind(turn)}, expected an object with role and content")
    if not turn.keys() & _READ:
        turn = {str(field).strip().lower(): value for field, value in turn.items()}  # "From" and "Value"
    role = _first(turn, _ROLE_FIELDS)
    if not isinstance(role, str) or role.strip().lower() not in _ROLES:
        raise RowError("roles", f"turn {number} has the role {str(role)[:40]!r}, expected system, user or assistant")
    if any(turn.get(field) for field in _CALLS):
        raise RowError("roles", f"turn {number} calls a tool, expected text")
    if unused is not None:
        unused.update(field for field in turn if field not in _READ and turn[field] not in (None, "", [], {}))
    content = _content(number, _first(turn, _TEXT_FIELDS))
    message: Message = {"role": _ROLES[role.strip().lower()], "content": content}
    if message["role"] == "assistant" and _is_context(turn):
        message["weight"] = 0
    return message


def _first(turn: Mapping[str, Any], fields: tuple[str, ...]) -> Any:
    """The value of the first field that is there; a null field counts as absent."""
    return next((turn[field] for field in fields if not is_absent(turn.get(field))), None)


def _is_context(turn: Mapping[str, Any]) -> bool:
    weight = _first(turn, _WEIGHT_FIELDS)
    return isinstance(weight, bool | int | float) and weight == 0


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


def in_order(messages: list[Message], changes: Counter[str] | None = None) -> list[Message]:
    """The messages with small faults of their order mended.

    System messages at the beginning are joined, as are user messages in a row. User messages without an answer at the
    end are left out, and so is everything after the last answer that is learned.

    Args:
        changes: counts what was mended.

    Raises:
        RowError: all answers have weight 0.
    """
    ordered: list[Message] = []
    for message in messages:
        last = ordered[-1] if ordered else None
        joins = last is not None and last["role"] == message["role"] and message["role"] != "assistant"
        if not joins or last is None:
            ordered.append(message)
            continue
        if message["content"].strip() not in last["content"]:
            ordered[-1] = {"role": last["role"], "content": f"{last['content']}\n\n{message['content']}"}
        _count(changes, f"{message['role']} turns in a row joined")
    if any(message["role"] == "assistant" for message in ordered):
        while ordered[-1]["role"] == "user":
            ordered.pop()
            _count(changes, "user turns without an answer at the end left out")
    learned = [i for i, m in enumerate(ordered) if m["role"] == "assistant" and m.get("weight") != 0]
    if not learned and any("weight" in message for message in ordered):
        raise RowError("roles", "every answer has weight 0, so nothing is learned")
    if learned and any("weight" in message for message in ordered[learned[-1] + 1 :]):
        _count(changes, "turns after the last answer with a weight left out")
        ordered = ordered[: learned[-1] + 1]
    return ordered


def _count(changes: Counter[str] | None, change: str) -> None:
    if changes is not None:
        changes[change] += 1


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing", bool: "a truth value"}
    return names.get(type(value), "a number")
