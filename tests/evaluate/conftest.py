"""A world small enough to read: a random two-layer Qwen2 that reads packs, its tokenizer, a few questions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.evaluate.tasks import Question, Task
from fintune_kit.tiny import build_tokenizer, sample_texts
from fintune_kit.train.loss import enable_packs
from fintune_kit.workspace import sample_folder

if TYPE_CHECKING:
    from tests.evaluate.world import World

SYSTEM = "Say the sentiment of the text: positive, neutral or negative."
SENTIMENT = ("positive", "neutral", "negative")


@pytest.fixture(scope="session")
def encoder() -> ChatEncoder:
    return ChatEncoder(build_tokenizer(sample_texts(sample_folder() / "sujet_sample.csv"), vocab_size=640))


@pytest.fixture(scope="session")
def make_model(encoder: ChatEncoder) -> Callable[..., Qwen2ForCausalLM]:
    """A random model, the same for the same seed; its weights are large enough that attention tells tokens apart."""

    def make(*, seed: int = 0) -> Qwen2ForCausalLM:
        config = Qwen2Config(
            vocab_size=704,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
        enable_packs(model)
        return model

    return make


def question(
    text: str, target: str, options: tuple[str, ...] = SENTIMENT, *, system: str | None = SYSTEM, group: str = ""
) -> Question:
    messages = [Message(role="user", content=text)]
    if system is not None:
        messages.insert(0, Message(role="system", content=system))
    return Question(row_id=text, messages=tuple(messages), text=text, target=target, options=options, group=group)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, encoder: ChatEncoder) -> "World":
    """A finished run; tests that change it copy it first."""
    from tests.evaluate.world import make_world

    return make_world(tmp_path_factory.mktemp("world"), encoder)


QUESTIONS = (
    question("Profit rose 12 % in the third quarter.", "positive"),
    question("The annual general meeting is on 17 March.", "neutral"),
    question("Profit fell.", "negative"),
    question("Profit rose 12 % in the third quarter.", "neutral"),  # the same prompt again
    question("Name the topic.", "Stock", ("Stock", "Stock Movement", "IPO", "Stock Commentary"), system=None),
    question("Does it rise?", "Yes", ("Yes", "No"), system="Yes or No?"),
)


def make_task(*questions: Question, **changes: object) -> Task:
    values = {"name": "t", "title": "a task", "metric": "accuracy", "source": "here", "questions": questions}
    return Task(**{**values, **changes})  # type: ignore[arg-type]
