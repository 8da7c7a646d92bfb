"""N are chosen over tasks and labels, the best of each, the same each time; and the split keeps groups together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.data.choose.selection import hold_out_groups, labels_of, select, water_fill
from fintune_kit.data.read.sources import Source
from tests.data.rows import candidate

ROWS = [candidate(f"text {n}", "neutral" if n % 4 else "positive", row=n, task="mood") for n in range(400)] + [
    candidate(f"question {n}", f"answer {n}", row=n, task="qa", source="qa.csv", origin="qa.csv") for n in range(40)
]
SOURCES = [Source("rows.csv", "rows.csv"), Source("qa.csv", "qa.csv")]
SCORES = [(n % 10) / 10 for n in range(440)]


def test_labels_are_known_by_their_repetition():
    labels = labels_of(ROWS)
    assert Counter(labels) == {"neutral": 300, "positive": 100, "(open)": 40}


def test_all_are_taken_where_no_more_pass():
    assert select(ROWS, examples=1000, scores=SCORES, sources=SOURCES, seed=1) == list(range(440))


def test_a_small_task_gives_all_and_a_big_label_no_more_than_half():
    chosen = select(ROWS, examples=200, scores=SCORES, sources=SOURCES, seed=1)
    taken = Counter((ROWS[p].task_type, ROWS[p].answer if ROWS[p].task_type == "mood" else "") for p in chosen)
    assert len(chosen) == 200
    assert taken == {("qa", ""): 40, ("mood", "neutral"): 80, ("mood", "positive"): 80}


def test_within_a_stratum_the_best_come_first():
    chosen = select(ROWS, examples=200, scores=SCORES, sources=SOURCES, seed=1)
    neutral = [p for p in range(400) if ROWS[p].answer == "neutral"]
    assert min(SCORES[p] for p in neutral if p in set(chosen)) >= max(
        SCORES[p] for p in neutral if p not in set(chosen)
    )


def test_the_seed_decides_among_equals_and_nothing_else_does():
    even = [0.5] * 440
    one, again, other = (select(ROWS, examples=200, scores=even, sources=SOURCES, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_counts_and_weights_of_sources():
    counted = [Source("rows.csv", "rows.csv", count=30), Source("qa.csv", "qa.csv")]
    chosen = select(ROWS, examples=50, scores=SCORES, sources=counted, seed=1)
    assert Counter(ROWS[p].source for p in chosen) == {"rows.csv": 30, "qa.csv": 20}
    weighted = [Source("rows.csv", "rows.csv", weight=3.0), Source("qa.csv", "qa.csv", weight=1.0)]
    chosen = select(ROWS, examples=80, scores=SCORES, sources=weighted, seed=1)
    assert Counter(ROWS[p].source for p in chosen) == {"rows.csv": 60, "qa.csv": 20}


@given(st.integers(0, 500), st.lists(st.tuples(st.integers(0, 100), st.floats(0.1, 10)), max_size=8))
def test_places_are_filled_as_far_as_the_sizes_allow(total: int, strata: list[tuple[int, float]]):
    sizes = {number: size for number, (size, _) in enumerate(strata)}
    filled = water_fill(total, sizes=sizes, weights={number: weight for number, (_, weight) in enumerate(strata)})
    assert sum(filled.values()) == min(total, sum(sizes.values()))
    assert all(0 <= filled[number] <= size for number, size in sizes.items())


def test_held_out_rows_are_whole_groups_of_each_task():
    groups = [f"group {n // 3}" for n in range(300)]
    tasks = ["a" if n < 150 else "b" for n in range(300)]
    held = hold_out_groups(groups, task_types=tasks, share=0.1, seed=1)
    assert Counter(task for task, is_held in zip(tasks, held, strict=True) if is_held) == {"a": 15, "b": 15}
    sides = {group: {bool(h) for g, h in zip(groups, held, strict=True) if g == group} for group in set(groups)}
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_hold_nothing_out(rows: int):
    assert not hold_out_groups([str(n) for n in range(rows)], task_types=["a"] * rows, share=0.2, seed=1).any()
