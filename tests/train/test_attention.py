import random

import numpy as np
import pytest
import torch

from fintune_kit.pack.tree import arrange, write_columns
from fintune_kit.train import attention
from fintune_kit.train.attention import KEYS_TOGETHER, TREE_ATTENTION, attention_inputs, query_chunks, tree_mask
from fintune_kit.train.loss import enable_packs
from tests.pack.world import THREE_LEVELS, examples

DRAWN = [12, 12, 5, 5, 5, 9, 9, 9, 9, 12, 12, 12]
"""`subtree_end` of the tree in the module's drawing."""


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


def seen_by(chunks, row: int, length: int) -> torch.Tensor:
    """The `[L, L]` mask that chunks amount to, for one row of the batch."""
    seen = torch.zeros(length, length, dtype=torch.bool)
    for chunk in chunks:
        for number, query in enumerate(range(chunk.queries.start, chunk.queries.stop)):
            visible = chunk.keys[row][chunk.mask[row, 0, number]].tolist()
            assert len(visible) == len(set(visible)), "a key that counts twice would weigh twice"
            seen[query, visible] = True
    return seen


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


def test_a_chunk_takes_the_ancestors_of_its_first_token_and_its_own():
    chunks = query_chunks(torch.tensor([DRAWN]), size=4)
    assert [chunk.queries for chunk in chunks] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    used = [sorted(set(chunk.keys[0][chunk.mask[0, 0].any(dim=0)].tolist())) for chunk in chunks]
    assert used == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 5, 6, 7, 8, 9, 10, 11]]
    assert all(chunk.keys.shape[1] % KEYS_TOGETHER == 0 for chunk in chunks)


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_chunks_see_what_the_whole_mask_shows(size):
    draw = random.Random(size)
    for _ in range(20):
        ends = torch.tensor([random_tree(draw, 24) for _ in range(3)])
        chunks = query_chunks(ends, size=size)
        for row in range(3):
            assert torch.equal(seen_by(chunks, row, 24), tree_mask(ends)[row, 0])


def test_far_fewer_products_are_computed():
    """Forty examples of fifty tokens: a dense kernel would take 2,000 keys for each query."""
    ends = torch.tensor([[50 * (position // 50 + 1) for position in range(2000)]])
    computed = sum(chunk.mask.numel() for chunk in query_chunks(ends, size=250))
    assert computed <= 2000 * (250 + 50 + KEYS_TOGETHER)


def test_eager_attention_gets_the_same_mask_as_numbers():
    subtree_end = torch.tensor([[2, 2, 3]])
    allowed = attention_inputs(subtree_end, implementation="sdpa")["attention_mask"]
    added = attention_inputs(subtree_end, implementation="eager")["attention_mask"]
    assert allowed[0, 0].tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert (added == 0).tolist() == allowed.tolist()
    assert (added[~allowed] < -1e30).all()


def test_hidden_states_and_gradients_are_those_of_the_whole_mask(make_model, monkeypatch):
    monkeypatch.setattr(attention, "QUERY_CHUNK", 5)
    draw = random.Random(3)
    ends = torch.tensor([random_tree(draw, 24) for _ in range(2)])
    tokens = torch.tensor([[draw.randrange(96) for _ in range(24)] for _ in range(2)])
    found = {}
    for implementation in ("sdpa", TREE_ATTENTION):
        model = make_model(dtype=torch.float64, attention=implementation)
        hidden = model.model(
            input_ids=tokens,
            position_ids=tree_mask(ends)[:, 0].sum(dim=-1) - 1,
            use_cache=False,
            **attention_inputs(ends, implementation=implementation),
        ).last_hidden_state
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
