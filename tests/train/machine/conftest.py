"""A pack of six examples as one prefix tree, and a model with an adapter that reads it."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from fintune_kit.chat.examples import Example, Examples
from fintune_kit.pack.tree import arrange, write_columns
from fintune_kit.train import attention, batch
from fintune_kit.train.blocks import packed
from fintune_kit.train.loss import enable_packs

LENGTH = 48
EXAMPLES = (
    ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14], 3),
    ([5, 6, 7, 8, 9, 20, 21, 22, 23], 2),
    ([5, 6, 7, 8, 9, 20, 30, 31, 32, 33, 34, 35], 4),
    ([40, 41, 42, 43, 44, 45], 3),
    ([5, 6, 7, 50, 51, 52, 53], 2),
    ([40, 41, 42, 43, 44, 46], 3),
)
"""Tokens, and how many of the last ones are supervised: four share a prefix, of three depths; two begin their answers
alike."""


@pytest.fixture
def pack(monkeypatch):
    """The examples as one prefix tree; chunks of eight queries, so that several chunks look at one another."""
    monkeypatch.setattr(batch, "QUERY_CHUNK", 8)
    monkeypatch.setattr(batch, "KEYS_TOGETHER", 12)  # so that some keys only fill up
    examples = Examples.of(
        [Example(np.array(t, np.int32), np.arange(len(t)) >= len(t) - supervised) for t, supervised in EXAMPLES]
    )
    arrangement = arrange(examples, max_length=LENGTH, seed=0)
    columns = write_columns(examples, arrangement, first=0, last=len(arrangement), max_length=LENGTH, pad_id=0)
    assert len(columns["input_ids"]) == 1, "all examples must lie in one pack"
    return {name: column[0] for name, column in columns.items()}


@pytest.fixture
def reader(make_model):
    """Makes the model in a dtype."""

    def make(dtype=torch.float32):
        base = make_model(attention=attention.TREE_ATTENTION, dtype=dtype).requires_grad_(False)
        enable_packs(base, head_chunk=4)
        torch.manual_seed(0)
        model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.float64 if dtype is torch.float64 else torch.float32)
        packed.use_packed_blocks(base, dtype=dtype)
        return model

    return make
