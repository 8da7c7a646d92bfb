import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fintune_kit.evaluate import metrics

RIGHT = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
GIVEN = ["a"] * 45 + ["b"] * 15 + ["b"] * 20 + ["a"] * 10 + ["c"] * 4 + ["a"] * 6


def test_scores_equal_scikit_learns() -> None:
    found = metrics.classification(RIGHT, GIVEN, seed=0)
    assert found["accuracy"] == pytest.approx(accuracy_score(RIGHT, GIVEN))
    assert found["macro_f1"] == pytest.approx(f1_score(RIGHT, GIVEN, average="macro"))
    assert found["weighted_f1"] == pytest.approx(f1_score(RIGHT, GIVEN, average="weighted"))
    assert found["macro_f1"] != pytest.approx(found["weighted_f1"]), "equal means could be mistaken for one another"


def test_an_unreadable_answer_is_wrong_and_no_label_of_its_own() -> None:
    some_silent: list[str | None] = [*GIVEN]
    some_silent[0] = None
    found = metrics.classification(RIGHT, some_silent, seed=0)
    assert found["accuracy"] == pytest.approx(accuracy_score(RIGHT, GIVEN) - 0.01)
    assert found["macro_f1"] == pytest.approx(
        f1_score(RIGHT, ["" if a is None else a for a in some_silent], labels=["a", "b", "c"], average="macro")
    )


def test_the_interval_is_the_bootstrap_over_rows() -> None:
    rows = np.random.default_rng(1).integers(0, len(RIGHT), size=(2000, len(RIGHT)))
    right, given = np.array(RIGHT), np.array(GIVEN)
    hits = (right == given)[rows].mean(axis=1)
    found = metrics.classification(RIGHT, GIVEN, seed=0)
    assert found["accuracy_interval"] == pytest.approx(np.percentile(hits, [2.5, 97.5]), abs=0.015)
    f1 = [f1_score(right[r], given[r], average="weighted", zero_division=0) for r in rows[:300]]
    assert found["weighted_f1_interval"] == pytest.approx(np.percentile(f1, [2.5, 97.5]), abs=0.03)


def test_the_interval_of_a_mean() -> None:
    found = metrics.mean_with_interval([0.0] * 50 + [1.0] * 50, seed=0)
    assert found["mean"] == 0.5
    assert found["interval"] == pytest.approx([0.4, 0.6], abs=0.01)


def test_mcnemar_counts_only_the_rows_on_which_models_differ() -> None:
    before = [True] * 50 + [False] * 10 + [True] * 2
    after = [True] * 50 + [True] * 10 + [False] * 2
    found = metrics.paired(before, after, seed=0)
    assert (found["only_base_right"], found["only_adapter_right"]) == (2, 10)
    assert found["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # two-sided binomial of 2 in 12
    assert found["difference"] == pytest.approx(8 / 62)
    assert metrics.paired(before, before, seed=0)["p_value"] == 1.0


def test_the_calibration_error_of_a_model_that_is_too_sure() -> None:
    found = metrics.calibration([0.95] * 10 + [0.55] * 10, [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5)
    assert found["expected_error"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert [(b["from"], b["n"], b["accuracy"]) for b in found["bins"]] == [(0.5, 10, 0.5), (0.9, 10, 0.5)]
    assert metrics.calibration([1.0, 1.0], [True, True])["expected_error"] == 0


def test_the_grid_counts_targets_by_answers_and_keeps_a_column_for_the_rest() -> None:
    grid = metrics.confusion(["x", "x", "y", "unseen"], ["x", "y", None, "x"], ["x", "y"])
    assert grid.tolist() == [[1, 1, 0], [0, 0, 1]]
