import random

import numpy as np
import torch

from fintune_kit.pack.tree import arrange, write_columns
from fintune_kit.train import batch
from fintune_kit.train.attention import TREE_ATTENTION, dense_mask, tree_mask
from fintune_kit.train.loss import enable_packs, states_of_packs
from tests.pack.world import THREE_LEVELS, examples
from tests.train.conftest import random_tree


def test_mask_of_two_branches_on_one_prefix():
    mask = tree_mask(torch.tensor([[5, 5, 3, 5, 5, 6]]))
    assert mask.shape == (1, 1, 6, 6)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],  # padding sees itself: a query without keys would give NaN
    ]


def test_each_position_sees_its_own_example_and_nothing_else():
    some = examples(*THREE_LEVELS)
    columns = write_columns(some, arrange(some, max_length=40), first=0, last=1, max_length=40, pad_id=0)
    mask = tree_mask(torch.from_numpy(columns["subtree_end"]))[0, 0].numpy()
    seen = {tuple(columns["input_ids"][0][np.flatnonzero(keys)].tolist()) for keys in mask[:34]}
    prefixes = {
        tuple((prompt + answer)[: n + 1]) for prompt, answer in THREE_LEVELS for n in range(len(prompt + answer))
    }
    assert columns["input_ids"][0][33:36].tolist() == [39, 0, 0], "the six examples are written in 34 positions"
    assert seen == prefixes


def test_eager_attention_gets_the_same_mask_as_numbers():
    subtree_end = torch.tensor([[2, 2, 3]])
    allowed = dense_mask(subtree_end, implementation="sdpa")
    added = dense_mask(subtree_end, implementation="eager")
    assert allowed[0, 0].tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert (added == 0).tolist() == allowed.tolist()
    assert (added[~allowed] < -1e30).all()


def test_hidden_states_and_gradients_are_those_of_the_whole_mask(make_model, monkeypatch):
    monkeypatch.setattr(batch, "QUERY_CHUNK", 5)
    draw = random.Random(3)
    ends = torch.tensor([random_tree(draw, 24) for _ in range(2)])
    columns = {
        "input_ids": torch.tensor([[draw.randrange(96) for _ in range(24)] for _ in range(2)]),
        "position_ids": tree_mask(ends)[:, 0].sum(dim=-1) - 1,
        "subtree_end": ends,
    }
    found = {}
    for implementation in ("sdpa", TREE_ATTENTION):
        model = make_model(dtype=torch.float64, attention=implementation)
        hidden = states_of_packs(model, columns)
        hidden.square().sum().backward()
        weights = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found[implementation] = {"hidden": hidden.detach(), **weights}
    assert len(found["sdpa"]) > 20
    for name, expected in found["sdpa"].items():
        torch.testing.assert_close(found[TREE_ATTENTION][name], expected, rtol=1e-9, atol=1e-11)


def test_ordinary_calls_and_generation_are_unchanged(make_model):
    plain, ours = make_model(), make_model(attention=TREE_ATTENTION)
    enable_packs(ours)
    tokens = torch.tensor([[5, 6, 7], [0, 8, 9]])
    padded = torch.tensor([[1, 1, 1], [0, 1, 1]])
    torch.testing.assert_close(ours(input_ids=tokens).logits, plain(input_ids=tokens).logits)
    options = {"attention_mask": padded, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert ours.generate(tokens, **options).tolist() == plain.generate(tokens, **options).tolist()
