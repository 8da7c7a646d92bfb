"""The validation rows are whole groups."""

from collections import Counter

import pytest

from fintune_kit.data.choose.split import validation_rows


def test_validation_rows_are_whole_groups_of_each_task():
    groups = [f"group {n // 3}" for n in range(300)]
    tasks = ["a" if n < 150 else "b" for n in range(300)]
    chosen = validation_rows(groups, task_types=tasks, share=0.1, seed=1)
    assert Counter(task for task, is_chosen in zip(tasks, chosen, strict=True) if is_chosen) == {"a": 15, "b": 15}
    sides = {group: {bool(h) for g, h in zip(groups, chosen, strict=True) if g == group} for group in set(groups)}
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("rows", [0, 1])
def test_of_too_few_rows_none_is_for_validation(rows: int):
    assert not validation_rows([str(n) for n in range(rows)], task_types=["a"] * rows, share=0.2, seed=1).any()
