import random

import numpy as np
import pytest
import torch

from fintune_kit.chat.examples import IGNORE
from fintune_kit.train.attention import TreeAttention, tree_mask
from fintune_kit.train.batch import KEYS_TOGETHER, MAX_GROUPS, cut_points, lay_out
from tests.train.conftest import random_tree

DRAWN = [12, 12, 5, 5, 5, 9, 9, 9, 9, 12, 12, 12]
"""`subtree_end` of the tree in the drawing of `train.attention`."""


def columns_of(ends):
    """Tokens that say where they stand: pack x 100 + position."""
    ends = np.array(ends)
    packs, length = ends.shape
    tokens = np.arange(packs)[:, None] * 100 + np.arange(length)
    labels = np.where(tokens % 3 == 1, tokens + 1, IGNORE)
    weights = np.where(labels == IGNORE, 0, tokens % 5 + 1)
    columns = {"input_ids": tokens, "position_ids": tokens % 7, "subtree_end": ends}
    return {**columns, "shift_labels": labels, "loss_weight": weights}


def seen_by(batch) -> dict[int, list[int]]:
    """The tokens that each token looks at."""
    seen = {}
    for group in batch.groups:
        allowed = (group.key_positions[:, None] <= group.query_positions[:, :, None]) & (
            group.query_positions[:, :, None] < group.key_ends[:, None]
        )
        queries = batch.input_ids[group.queries].view(group.query_positions.shape)
        for chunk in range(len(queries)):
            for number, query in enumerate(queries[chunk].tolist()):
                visible = batch.input_ids[group.keys[chunk]][allowed[chunk, number]].tolist()
                assert len(visible) == len(set(visible)), "a key that counts twice would weigh twice"
                seen[query] = sorted(visible)
    return seen


def test_a_chunk_looks_at_the_ancestors_of_its_first_token_and_at_its_own():
    batch = lay_out(columns_of([DRAWN]), chunk=4)
    used = {}
    for group in batch.groups:
        for queries, keys, ends in zip(group.query_positions, group.key_positions, group.key_ends, strict=True):
            used[queries.tolist()[0]] = keys[ends > 0].tolist()
    assert used == {0: [0, 1, 2, 3], 4: [0, 1, 2, 3, 4, 5, 6, 7], 8: [0, 1, 5, 6, 7, 8, 9, 10, 11]}
    assert all(group.keys.shape[1] % KEYS_TOGETHER == 0 for group in batch.groups)


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_what_is_seen_is_what_the_whole_mask_shows(size):
    draw = random.Random(size)
    for _ in range(20):
        ends = [random_tree(draw, 24) for _ in range(3)]
        mask = tree_mask(torch.tensor(ends))[:, 0].numpy()
        expected = {p * 100 + q: (p * 100 + np.flatnonzero(mask[p, q])).tolist() for p in range(3) for q in range(24)}
        assert seen_by(lay_out(columns_of(ends), chunk=size)) == expected


def test_every_position_keeps_its_columns_and_can_be_found_again():
    draw = random.Random(1)
    columns = columns_of([random_tree(draw, 21) for _ in range(2)])
    batch = lay_out(columns, chunk=4)
    assert batch.input_ids.tolist() != columns["input_ids"].ravel().tolist(), "nothing was moved"
    assert batch.input_ids[batch.natural_order].tolist() == columns["input_ids"].ravel().tolist()
    assert batch.position_ids[batch.natural_order].tolist() == columns["position_ids"].ravel().tolist()
    found = (batch.input_ids[batch.supervised], batch.targets, batch.weights)
    supervised = [token for token in columns["input_ids"].ravel().tolist() if token % 3 == 1]
    expected = [(token, token + 1, token % 5 + 1) for token in supervised]
    assert sorted(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_far_fewer_products_are_computed():
    """Forty examples of fifty tokens: a dense kernel would take 2,000 keys for each query."""
    ends = [[50 * (position // 50 + 1) for position in range(2000)]]
    groups = lay_out(columns_of(ends), chunk=250).groups
    assert len(groups) <= MAX_GROUPS
    products = sum(group.query_positions.numel() * group.keys.shape[1] for group in groups)
    assert products <= 2000 * (250 + 50 + KEYS_TOGETHER)


def test_groups_are_cut_where_the_number_of_keys_jumps():
    assert cut_points([10, 11, 12, 90, 91, 500], [4] * 6) == [0, 3, 5, 6]
    assert cut_points([10, 11, 90, 12], [4, 4, 4, 1]) == [0, 1, 2, 3, 4], "the last chunk of a pack may be shorter"
    assert cut_points([7], [4]) == [0, 1]


def test_the_kernel_is_given_the_same_mask_for_each_key_head():
    batch = lay_out(columns_of([DRAWN]), chunk=4)
    tree = TreeAttention.of(batch.groups, kv_heads=2, dtype=torch.float16)
    all_rows = tree.key_indices.split([2 * group.keys.numel() for group in batch.groups])
    for group, inputs, its_rows in zip(batch.groups, tree.groups, all_rows, strict=True):
        chunks, keys = group.keys.shape
        rows = its_rows.view(chunks, 2, keys)
        assert torch.equal(rows[:, 0], group.keys * 2)
        assert torch.equal(rows[:, 1], group.keys * 2 + 1)
        bias = inputs.bias.view(chunks, 2, -1, keys)
        assert torch.equal(bias[:, 0], bias[:, 1])
        assert bias.dtype is torch.float16
        assert bool(torch.isfinite(bias).any(dim=-1).all()), "a query that sees no key would give NaN"
