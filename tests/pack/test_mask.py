import numpy as np
import torch

from fintune_kit.pack.mask import tree_mask
from fintune_kit.pack.tree import arrange, write_columns
from tests.pack.world import THREE_LEVELS, examples


def test_mask_of_two_branches_on_one_prefix():
    mask = tree_mask(torch.tensor([[5, 5, 3, 5, 5, 6]]))
    assert mask.shape == (1, 1, 6, 6)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],  # padding sees itself: a row of no keys would be NaN
    ]


def test_each_position_sees_its_own_example_and_nothing_else():
    some = examples(*THREE_LEVELS)
    columns = write_columns(some, arrange(some, max_length=40), first=0, last=1, max_length=40, pad_id=0)
    mask = tree_mask(torch.from_numpy(columns["subtree_end"]))[0, 0].numpy()
    seen = {tuple(columns["input_ids"][0][np.flatnonzero(row)].tolist()) for row in mask[:34]}
    prefixes = {
        tuple((prompt + answer)[: n + 1]) for prompt, answer in THREE_LEVELS for n in range(len(prompt + answer))
    }
    assert columns["input_ids"][0][33:36].tolist() == [39, 0, 0], "the six examples are written in 34 positions"
    assert seen == prefixes
