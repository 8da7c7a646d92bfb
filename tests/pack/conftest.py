"""A tokenizer made in process, and a folder of conversations such as stage 1 leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation, write_conversations
from fintune_kit.tiny import build_tokenizer
from fintune_kit.workspace import write_manifest

SYSTEM = "You are a financial expert."
REPORT = "Revenue rose 4% to 12 million.\nCosts fell."


def conversation(question: str, answer: str, *, system: str | None = SYSTEM) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


CONVERSATIONS = [
    conversation(f"{REPORT}\nDid revenue rise?", "Yes"),
    conversation(f"{REPORT}\nDid costs rise?", "No, they fell."),
    conversation(f"{REPORT}\nDid costs rise?", "No"),
    conversation("What is an ETF?", "A fund that is traded."),
    conversation("What is a bond?", "A loan that is traded.", system=None),
    conversation("gold " * 200, "too long"),
]


@pytest.fixture(scope="session")
def encoder() -> ChatEncoder:
    texts = (message["content"] for messages in CONVERSATIONS for message in messages)
    return ChatEncoder(build_tokenizer(texts, vocab_size=400))


@pytest.fixture
def make_conversations(tmp_path: Path) -> Callable[..., Path]:
    """Writes a finished `conversations/` folder."""

    def write(train: list[Any] = CONVERSATIONS, validation: list[Any] = CONVERSATIONS[:2]) -> Path:
        folder = tmp_path / "conversations"
        folder.mkdir()
        for split, rows in (("train", train), ("validation", validation)):
            write_conversations(
                folder / f"{split}.parquet",
                [
                    Conversation(
                        row_id=f"{split}.csv#{number}",
                        messages=messages,
                        task_type="qa",
                        source=f"{split}.csv",
                        conversation_id=f"{split}.csv#{number}",
                    )
                    for number, messages in enumerate(rows)
                ],
            )
        write_manifest(folder, stage="conversations", inputs={}, counts={})
        return folder

    return write
