"""N are chosen over tasks and labels, the best of each, the same each time."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.data.choose.selection import select, share_out
from fintune_kit.data.read.sources import Source
from fintune_kit.data.rules.labels import OPEN, labels_of
from tests.data.rows import conversation

ROWS = [conversation(f"text {n}", "neutral" if n % 4 else "positive", row=n, task="mood") for n in range(400)] + [
    conversation(f"question {n}", f"answer {n}", row=n, task="qa", source="qa.csv") for n in range(40)
]
SOURCES = [Source("rows.csv", "rows.csv"), Source("qa.csv", "qa.csv")]
SCORES = [(n % 10) / 10 for n in range(440)]
ORIGINS = [row.source for row in ROWS]


def choose(examples: int, *, scores: list[float] = SCORES, seed: int = 1, **options: Any) -> list[int]:
    return select(
        ROWS,
        range(440),
        examples=examples,
        labels=labels_of(ROWS, ORIGINS),
        is_balanced=options.get("is_balanced", True),
        scores=dict(enumerate(scores)),
        sources=options.get("sources", SOURCES),
        seed=seed,
    )


def test_all_are_taken_where_no_more_pass():
    assert choose(1000) == list(range(440))


def test_a_small_task_gives_all_and_a_big_label_no_more_than_half():
    chosen = choose(200)
    taken = Counter((ROWS[p].task_type, ROWS[p].answer if ROWS[p].task_type == "mood" else "") for p in chosen)
    assert len(chosen) == 200
    assert taken == {("qa", ""): 40, ("mood", "neutral"): 80, ("mood", "positive"): 80}


def test_within_a_stratum_the_best_come_first():
    chosen = choose(200)
    neutral = [p for p in range(400) if ROWS[p].answer == "neutral"]
    assert min(SCORES[p] for p in neutral if p in set(chosen)) >= max(
        SCORES[p] for p in neutral if p not in set(chosen)
    )


def test_the_seed_decides_among_equals_and_nothing_else_does():
    even = [0.5] * 440
    one, again, other = (choose(200, scores=even, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_counts_and_weights_of_sources():
    counted = [Source("rows.csv", "rows.csv", count=30), Source("qa.csv", "qa.csv")]
    chosen = choose(50, sources=counted)
    assert Counter(ROWS[p].source for p in chosen) == {"rows.csv": 30, "qa.csv": 20}
    weighted = [Source("rows.csv", "rows.csv", weight=3.0), Source("qa.csv", "qa.csv", weight=1.0)]
    chosen = choose(80, sources=weighted)
    assert Counter(ROWS[p].source for p in chosen) == {"rows.csv": 60, "qa.csv": 20}


@given(st.integers(0, 500), st.lists(st.tuples(st.integers(0, 100), st.floats(0.1, 10)), max_size=8))
def test_places_are_filled_as_far_as_the_sizes_allow(total: int, strata: list[tuple[int, float]]):
    sizes = {number: size for number, (size, _) in enumerate(strata)}
    filled = share_out(total, sizes=sizes, weights={number: weight for number, (_, weight) in enumerate(strata)})
    assert sum(filled.values()) == min(total, sum(sizes.values()))
    assert all(0 <= filled[number] <= size for number, size in sizes.items())


def test_open_answers_of_all_datasets_compete_with_each_other():
    rows = [conversation(f"q {n}", f"a {n}", row=n) for n in range(20)]
    scores = {n: float(n < 10) for n in range(20)}
    chosen = select(
        rows, range(20), examples=10, labels=[OPEN] * 20, is_balanced=True, scores=scores, sources=SOURCES, seed=1
    )
    assert chosen == list(range(10))


def test_a_random_choice_knows_no_labels():
    chosen = choose(220, scores=[0.0] * 440, is_balanced=False)
    taken = Counter(ROWS[p].task_type for p in chosen)
    assert len(chosen) == 220
    assert taken["mood"] > 190
    assert chosen != choose(220, scores=[0.0] * 440, is_balanced=False, seed=2)
