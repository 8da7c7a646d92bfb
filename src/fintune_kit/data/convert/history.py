"""Sujet's `qa_conversation` prompts: one text that holds a whole history is divided into turns.

Revenue was 12.1 in 2018.          context, before any label      user       Revenue was 12.1 in 2018.
                                                                             \\n\\n What was revenue?
User: What was revenue?            a labelled turn
Assistant: 12.1                    a labelled turn                assistant  12.1
<three newlines>
And the year before?               a turn without a label:        user       And the year before?
                                   the other role speaks
"""

import re
from typing import Literal

from fintune_kit.conversations import Message

History = Literal["labelled turns", "turns after three newlines", "a single question", "kept as one message"]

_LABEL = re.compile(r"^[\u200b\ufeff]*(User|Assistant):[ \t]*", re.MULTILINE)
_BREAK = re.compile(r"\n{3,}")
MAX_REMARK_WORDS = 20
"""A piece without a label and without a question is a remark of the user up to this length, and else a paragraph."""
_ASKS = re.compile(
    r"(?:and |so |ok,? |then |also,? )*(?:who|whom|whose|what|when|where|why|how|which|is|are|was|were|do|does|did|can|"
    r"could|should|would|will|has|have|explain|describe|list|give|tell|compare|calculate|compute|name|please|summari[sz]e|"
    r"show|find|define|identify|state|discuss|provide|write)\b",
    re.IGNORECASE,
)


def parse_history(text: str) -> tuple[list[Message], History]:
    """The turns of a history that ends with the user's question, and how they were found.

    A label counts only at the start of a line: `Note to User:` inside a sentence is text. A text is not such a history
    where the turns do not alternate, where one is empty or where the assistant speaks last. Without labels, the pieces
    must look like a talk, because paragraphs are not turns: the user asks first, then asks or makes a short remark. A
    text that is not a history is kept as one user message.
    """
    text = text.replace("\r\n", "\n").strip("\n")
    if not _LABEL.search(text) and not _BREAK.search(text):
        return [{"role": "user", "content": text.strip()}], "a single question"
    turns = _labelled(text) if _LABEL.search(text) else _unlabelled(text)
    if turns is None:
        return [{"role": "user", "content": text.strip()}], "kept as one message"
    if len(turns) == 1:
        return turns, "a single question"
    return turns, "turns after three newlines" if _BREAK.search(text) else "labelled turns"


def _labelled(text: str) -> list[Message] | None:
    context, *parts = _LABEL.split(text)
    turns: list[Message] = []
    for role, content in zip(parts[::2], parts[1::2], strict=True):
        for index, piece in enumerate(_BREAK.split(content.strip("\n"))):
            following = "user" if turns and turns[-1]["role"] == "assistant" else "assistant"
            turns.append({"role": role.lower() if index == 0 else following, "content": piece.strip()})
    if turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()  # the cue for the answer, which is in another column
    if turns and context.strip():
        if turns[0]["role"] == "user":
            turns[0]["content"] = f"{context.strip()}\n\n{turns[0]['content']}"
        else:
            turns.insert(0, {"role": "user", "content": context.strip()})
    return turns if _alternate(turns) else None


def _unlabelled(text: str) -> list[Message] | None:
    pieces = [piece.strip() for piece in _BREAK.split(text)]
    turns: list[Message] = [
        {"role": "assistant" if index % 2 else "user", "content": piece} for index, piece in enumerate(pieces)
    ]
    said = [turn["content"] for turn in turns]
    is_talk = (
        _asks(said[0])
        and all(_asks(text) or len(text.split()) <= MAX_REMARK_WORDS for text in said[2::2])
        and not any(text.rstrip().endswith("?") for text in said[1::2])
    )
    return turns if is_talk and _alternate(turns) else None


def _asks(text: str) -> bool:
    """Whether the last sentence of a text is a question or a request."""
    last = re.split(r"(?<=[.!?])\s+|\n", text.strip())[-1]
    return last.rstrip("\"'”’)").endswith("?") or _ASKS.match(last) is not None


def _alternate(turns: list[Message]) -> bool:
    """Whether user and assistant alternate, the user speaks first and last, and no turn is empty."""
    return len(turns) % 2 == 1 and all(
        turn["content"] and turn["role"] == ("assistant" if index % 2 else "user") for index, turn in enumerate(turns)
    )
