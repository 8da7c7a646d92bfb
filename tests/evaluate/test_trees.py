import numpy as np
import pytest

from fintune_kit.errors import UserError
from fintune_kit.evaluate.trees import TreePack, build_packs, check_depth, option_trie

YES_NO = option_trie([[7, 9], [8, 9]])
"""`yes end` and `no end`: the two first tokens are read, the end is only predicted."""


def prompt(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int64)


def paths(pack: TreePack) -> list[list[int]]:
    """For each position, the tokens that it attends to, itself last: the mask, written out."""
    seen = []
    for query in range(len(pack)):
        keys = [key for key in range(query + 1) if query < pack.subtree_end[key]]
        assert pack.position_ids[query] == len(keys) - 1, "a position is not its depth"
        seen.append([int(pack.input_ids[key]) for key in keys])
    return seen


def test_the_trie_of_two_options() -> None:
    assert YES_NO.inputs.tolist() == [7, 8]
    assert YES_NO.targets.tolist() == [7, 9, 8, 9]
    assert YES_NO.parent.tolist() == [-1, 0, -1, 1]
    assert YES_NO.on_path.tolist() == [[True, True, False, False], [False, False, True, True]]


def test_an_option_that_begins_like_another_shares_its_tokens() -> None:
    trie = option_trie([[5, 9], [5, 6, 9], [5, 6, 7, 9]])
    assert trie.inputs.tolist() == [5, 6, 7]
    assert trie.end.tolist() == [3, 3, 3]
    assert sorted(trie.targets.tolist()) == [5, 6, 7, 9, 9, 9]
    assert trie.on_path.sum(axis=1).tolist() == [2, 3, 4]


def test_layout_of_two_rows_that_share_their_instruction() -> None:
    (pack,) = build_packs([prompt(1, 2, 3), prompt(1, 2, 4)], [YES_NO, YES_NO], length=20)
    #                                      1  2  3  7  8  4  7  8
    assert pack.input_ids.tolist() == [1, 2, 3, 7, 8, 4, 7, 8]
    assert pack.position_ids.tolist() == [0, 1, 2, 3, 3, 2, 3, 3]
    assert pack.subtree_end.tolist() == [8, 8, 5, 4, 5, 8, 7, 8]
    assert pack.parent.tolist() == [2, 3, 2, 4, 5, 6, 5, 7]
    assert pack.target.tolist() == [7, 9, 8, 9, 7, 9, 8, 9]
    assert pack.questions.tolist() == [0, 1]


def test_each_option_attends_to_its_own_prompt_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    prompts = [prompt(*rng.integers(1, 4, size=rng.integers(1, 7))) for _ in range(60)]
    tries = [YES_NO if rng.random() < 0.5 else option_trie([[5, 6, 9], [5, 9], [9]]) for _ in prompts]
    found = 0
    for pack in build_packs(prompts, tries, length=24):
        assert len(pack) <= 24
        seen, at = paths(pack), 0
        for row in pack.questions:
            trie = tries[row]
            for target in range(len(trie.targets)):
                parent = pack.parent[at + target]
                below = seen[parent][len(prompts[row]) :]
                assert seen[parent][: len(prompts[row])] == prompts[row].tolist()
                assert len(below) == (0 if trie.parent[target] < 0 else trie.depth[trie.parent[target]] + 1)
                found += 1
            at += len(trie.targets)
    assert found == sum(len(trie.targets) for trie in tries)


def test_every_row_is_in_exactly_one_pack() -> None:
    prompts = [prompt(1, 2, n) for n in range(50)]
    packs = list(build_packs(prompts, [YES_NO] * 50, length=16))
    assert len(packs) > 3, "one pack could not lose a row"
    assert sorted(row for pack in packs for row in pack.questions) == list(range(50))


def test_a_row_longer_than_a_pack_gets_its_own() -> None:
    packs = list(build_packs([prompt(*range(30)), prompt(1)], [YES_NO] * 2, length=8))
    assert sorted(map(len, packs)) == [3, 32]


def test_a_row_longer_than_the_model_reads_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="task 'fpb' has a question of 6 tokens, the model reads at most 5"):
        check_depth([prompt(*range(5))], [YES_NO], max_depth=5, task="fpb")
    check_depth([prompt(*range(5))], [YES_NO], max_depth=6, task="fpb")
