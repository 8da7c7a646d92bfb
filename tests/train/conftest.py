"""A world small enough to read: a two-layer Qwen2 with grouped-query attention, and packs written by hand."""

import random
from collections.abc import Callable

import pytest
import torch
from datasets import Dataset, Features, List, Value
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.tree import COLUMNS
from tests.evaluate.conftest import encoder, world  # noqa: F401 - the finished run that test_artifacts reads

LENGTH = 12


def pack_row(*examples: tuple[list[int], int], length: int = LENGTH) -> dict[str, list[int]]:
    """An ordinary pack: examples end to end, each with the number of its last tokens that are supervised."""
    row: dict[str, list[int]] = {name: [] for name in COLUMNS}
    for tokens, supervised in examples:
        end = len(row["input_ids"]) + len(tokens)
        targets = [IGNORE] * (len(tokens) - supervised) + tokens[len(tokens) - supervised :]
        row["input_ids"] += tokens
        row["position_ids"] += range(len(tokens))
        row["subtree_end"] += [end] * len(tokens)
        row["shift_labels"] += [*targets[1:], IGNORE]
        row["loss_weight"] += [int(target != IGNORE) for target in targets[1:]] + [0]
    while len(row["input_ids"]) < length:
        row["subtree_end"].append(len(row["input_ids"]) + 1)
        row["input_ids"].append(0)
        row["position_ids"].append(0)
        row["shift_labels"].append(IGNORE)
        row["loss_weight"].append(0)
    assert len(row["input_ids"]) == length, "the examples do not fit"
    return row


EXAMPLES: list[tuple[list[int], int]] = [
    ([5, 6, 7, 8, 9], 2),
    ([10, 11, 12], 1),
    ([5, 6, 7, 20, 21, 22], 3),
    ([30, 31, 32, 33], 2),
    ([5, 6, 40, 41], 1),
    ([50, 51, 52, 53, 54, 55, 56], 4),
    ([60, 61], 1),
]
PACKS = [EXAMPLES[0:2], EXAMPLES[2:4], EXAMPLES[4:5], EXAMPLES[5:7]]


def random_tree(draw: random.Random, length: int) -> list[int]:
    """`subtree_end` of a forest: each subtree is cut into children at random."""
    ends = [0] * length

    def fill(first: int, last: int) -> None:
        while first < last:
            end = draw.randint(first + 1, last)
            ends[first] = end
            fill(first + 1, end)
            first = end

    fill(0, length)
    return ends


@pytest.fixture
def rows() -> Dataset:
    """Four packs of twelve positions, of unequal numbers of supervised tokens."""
    features = Features({name: List(Value("int32"), length=LENGTH) for name in COLUMNS})
    packs = [pack_row(*examples) for examples in PACKS]
    return Dataset.from_dict({name: [pack[name] for pack in packs] for name in COLUMNS}, features=features)


@pytest.fixture
def make_model() -> Callable[..., Qwen2ForCausalLM]:
    """A random Qwen2, the same for the same seed."""

    def make(*, dtype: torch.dtype = torch.float32, seed: int = 0, attention: str = "sdpa") -> Qwen2ForCausalLM:
        config = Qwen2Config(
            vocab_size=96,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.2,  # large enough that attention tells tokens apart
            tie_word_embeddings=True,
            attn_implementation=attention,
        )
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).to(dtype)

    return make
