"""A guess, by name and content, of the right `--map` for a file whose columns fit no layout or several.

An id is never guessed, one column never plays two roles, and a column of lists of turns is `messages`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fintune_kit.data.convert.cells import is_absent, list_of
from fintune_kit.data.convert.columns import LAYOUTS
from fintune_kit.errors import UserError

MAX_ROWS = 200
"""Rows that a guess looks at."""
_USER_WORDS = ("question", "query", "prompt", "instruction", "problem", "request", "user", "ask", "input", "text",
               "title", "frage", "pregunta")  # fmt: skip
_ASSISTANT_WORDS = ("answer", "response", "output", "completion", "reply", "solution", "assistant", "target",
                    "antwort", "respuesta", "chosen")  # fmt: skip
_LABEL_WORDS = ("label", "sentiment", "class", "category", "topic", "tag")


def unmapped_columns_error(file: str, rows: Sequence[Mapping[str, Any]], finding: str) -> UserError:
    """The error for a file whose columns fit no layout or several: it says what to write after `--map`."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    known = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS if layout.name in SHOWN))
    return UserError(
        f"{file}: the columns {', '.join(map(repr, columns)) or '(none)'} {finding}; expected exactly one of {known} "
        f"or the like: {guess_mapping(rows[:MAX_ROWS], columns)}"
    )


SHOWN = ("Sujet", "Alpaca", "OpenAI messages", "ShareGPT", "question/answer", "prompt/completion", "text/label",
         "text with turns")  # fmt: skip


def guess_mapping(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The end of a sentence with the line to type, or with the column that is missing."""
    values = {name: [row[name] for row in rows if not is_absent(row.get(name))] for name in columns}
    turns = [name for name in columns if values[name] and all(_holds_turns(value) for value in values[name][:20])]
    if turns:
        return f"say which column holds the turns, for example {_line(messages=turns[0])}"
    texts = [name for name in columns if _is_text(name, values[name])]
    labels = [name for name in texts if _has(name, _LABEL_WORDS) and _repeats(values[name])]
    answers = [name for name in texts if _has(name, _ASSISTANT_WORDS)]
    questions = [name for name in texts if _has(name, _USER_WORDS) and name not in answers]
    if labels and not answers:
        bodies = [name for name in (*questions, *texts) if name not in labels]
        if bodies:
            return f"say which column is which, for example {_line(text=bodies[0], label=labels[0])}"
    questions = questions or [name for name in texts if name not in answers and _asks(values[name])]
    question = next((name for name in (*questions, *texts) if name not in answers[:1]), None)
    answer = next((name for name in (*answers, *texts) if name != question), None)
    if question is not None and answer is not None:
        return f"say which column is which, for example {_line(user=question, assistant=answer)}"
    only = f" (only {texts[0]!r} holds text)" if texts else ""
    return f"add a column of questions and one of answers{only}, or one with lists of turns"


def _line(**mapping: str) -> str:
    return " ".join(f"--map {role}={_quoted(column)}" for role, column in mapping.items())


def _quoted(column: str) -> str:
    return f"'{column}'" if " " in column else column


def _holds_turns(value: Any) -> bool:
    found = list_of(value)
    return isinstance(found, list) and bool(found) and all(isinstance(turn, dict | str) for turn in found)


def _is_text(name: str, values: Sequence[Any]) -> bool:
    """Whether a column holds texts to read: not an id, a date or a number."""
    words = name.lower().replace("-", "_").split("_")
    if not values or words[-1] in ("id", "ids", "uuid", "index", "idx", "hash", "url", "date", "time", "timestamp"):
        return False
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < 0.8 * len(values):
        return False
    is_code = [text.strip().isdigit() or (" " not in text.strip() and len(text) >= 16) for text in texts]
    return sum(is_code) < 0.5 * len(texts)


def _has(name: str, words: Sequence[str]) -> bool:
    return any(word in name.lower() for word in words)


def _asks(values: Sequence[Any]) -> bool:
    return sum(str(value).strip().endswith("?") for value in values) > len(values) / 2


def _repeats(values: Sequence[Any]) -> bool:
    return len({str(value) for value in values}) <= max(2, len(values) // 2)
