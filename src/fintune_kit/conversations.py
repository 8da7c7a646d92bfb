"""Conversations are the one form of data between the stages. This module defines, reads and writes `conversations/`.

conversations/train.parquet, validation.parquet      a row a conversation
    messages         [{"role": "user", "content": "Is revenue rising?"}, {"role": "assistant", "content": "Yes"}]
    task_type        "yes_no_question"
    source           the file or hub dataset that the row came from
    conversation_id  rows of one conversation share it
    row_id           "rows.csv#17", the 17th row of that file
    context_turns    [1]: message 1 is an answer that is read and not learned; null where all answers are learned
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from fintune_kit.errors import MissingInputError, UserError, first_line
from fintune_kit.workspace import WRITTEN_BY

SPLITS = ("train", "validation")
SCHEMA = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("task_type", pa.string()),
        ("source", pa.string()),
        ("conversation_id", pa.string()),
        ("row_id", pa.string()),
        ("context_turns", pa.list_(pa.int32())),
    ]
)
"""The columns of both splits."""
MAX_OPTIONS = 64
"""A system prompt with more distinct answers than this asks an open question."""
MAX_OPTION_CHARACTERS = 48
"""Sujet's longest label is `Treasuries | Corporate Debt`."""
_ROWS_AT_ONCE = 4096


class Message(TypedDict):
    """One turn; `role` is system, user or assistant. An answer of weight 0 is context: it is not supervised."""

    role: str
    content: str
    weight: NotRequired[int]


@dataclass(slots=True, kw_only=True)
class Conversation:
    """One row of a split."""

    row_id: str
    messages: list[Message]
    task_type: str
    source: str
    conversation_id: str

    @property
    def system(self) -> str:
        """The system prompt; empty where there is none."""
        first = self.messages[0]
        return first["content"] if first["role"] == "system" else ""

    @property
    def question(self) -> str:
        """The last user message."""
        return self.messages[-2]["content"]

    @property
    def prompt(self) -> str:
        """Everything before the last answer, without the system prompt."""
        return "\n".join(message["content"] for message in self.messages[:-1] if message["role"] != "system")

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.messages[-1]["content"]


def find_fault(messages: Sequence[Any]) -> str | None:
    """The first fault of `messages`, in words; None if they have no fault. Conversations with a fault are not learned.

    The system message comes first and at most once; it may be empty (the template then writes an empty one). User and
    assistant follow in turn, from a user to an assistant. None of their messages is empty or blank.
    """
    roles = [message.get("role") for message in messages]
    for index, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, str):
            return f"message {index} has content of type {type(content).__name__}, expected text"
        if not _is_unicode(content):
            return f"message {index} ({roles[index]}) is not valid Unicode (a lone surrogate)"
        if not content.strip() and roles[index] != "system":
            return f"message {index} ({roles[index]}) is empty"
    turns = roles[1:] if roles[:1] == ["system"] else roles
    for index, role in enumerate(turns, start=len(roles) - len(turns)):
        expected = "user" if (index - (len(roles) - len(turns))) % 2 == 0 else "assistant"
        if role != expected:
            return f"message {index} has role {role!r}, expected {expected!r}"
    if not turns or turns[-1] != "assistant":
        return f"the last message has role {roles[-1]!r}, expected 'assistant'" if roles else "there is no message"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def closed_instructions(conversations: Iterable[Conversation]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The closed questions among some conversations: (task type, system prompt) to options, most frequent first.

    A system prompt asks a closed question where its answers are few, short and repeated: on average, at least two rows
    give each of them. Spellings that differ in case only are one option, in the spelling that is most frequent.
    """
    return closed_questions(((c.task_type, c.system), c.answer) for c in conversations)


def closed_questions(answers: Iterable[tuple[tuple[str, str], str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """As `closed_instructions`, from pairs of (task type, system prompt) and answer."""
    counts_of: dict[tuple[str, str], Counter[str]] = {}
    for question, answer in answers:
        counts_of.setdefault(question, Counter())[answer] += 1
    closed = {}
    for question, counts in counts_of.items():
        options: dict[str, str] = {}
        for answer, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            options.setdefault(fold_label(answer), answer)
        few = 2 <= len(options) <= MAX_OPTIONS and counts.total() >= 2 * len(options)
        if few and all(len(option) <= MAX_OPTION_CHARACTERS for option in options.values()):
            closed[question] = tuple(options.values())
    return closed


def fold_label(text: str) -> str:
    """A label in small letters, without outer blanks and without a final full stop. Equal labels become equal texts."""
    return text.strip().rstrip(".").strip().casefold()


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Writes a split, a row a conversation, in the columns of `SCHEMA`."""
    rows = list(conversations)
    columns: dict[str, Any] = {
        name: [getattr(conversation, name) for conversation in rows] for name in SCHEMA.names if name != "context_turns"
    }
    columns["context_turns"] = [_context_turns(conversation.messages) for conversation in rows]
    pq.write_table(pa.table(columns, schema=SCHEMA), path, compression="zstd")


def _context_turns(messages: Sequence[Message]) -> list[int] | None:
    return [index for index, message in enumerate(messages) if message.get("weight") == 0] or None


def _conversation(row: dict[str, Any]) -> Conversation:
    for index in row.pop("context_turns") or ():
        row["messages"][index]["weight"] = 0
    return Conversation(**row)


def read_conversations(folder: Path, split: str) -> list[Conversation]:
    """The conversations of a split, in their order on disk.

    Args:
        folder: stage 1's output.
        split: `train` or `validation`.

    Raises:
        MissingInputError: the split is missing.
        UserError: the file cannot be read, or has other columns than stage 1 writes.
    """
    return [conversation for batch in batches_of_conversations(folder, split) for conversation in batch]


def batches_of_conversations(folder: Path, split: str) -> Iterator[list[Conversation]]:
    """As `read_conversations`, but some thousand at a time, so that not all of them are in memory at once."""
    path = _file_of(folder, split)
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; run {WRITTEN_BY['conversations']} again")
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=SCHEMA.names):
            yield [_conversation(row) for row in batch.to_pylist()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} could not be read ({first_line(error)}); expected the Parquet file that stage 1 writes: "
            f"run {WRITTEN_BY['conversations']} again"
        ) from error


def count_conversations(folder: Path, split: str) -> int:
    """How many rows a split has, read from its footer."""
    return pq.ParquetFile(_file_of(folder, split)).metadata.num_rows


def _file_of(folder: Path, split: str) -> Path:
    path = folder / f"{split}.parquet"
    if not path.is_file():
        raise MissingInputError(f"{path} is missing; run {WRITTEN_BY['conversations']} again")
    return path
