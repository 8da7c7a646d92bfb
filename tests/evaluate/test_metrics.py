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


def test_the_interval_of_f1_is_the_bootstrap_over_questions() -> None:
    rows = np.random.default_rng(1).integers(0, len(RIGHT), size=(300, len(RIGHT)))
    right, given = np.array(RIGHT), np.array(GIVEN)
    found = metrics.classification(RIGHT, GIVEN, seed=0)
    f1 = [f1_score(right[r], given[r], average="weighted", zero_division=0) for r in rows]
    assert found["weighted_f1_interval"] == pytest.approx(np.percentile(f1, [2.5, 97.5]), abs=0.03)


def test_the_interval_of_a_mean() -> None:
    found = metrics.mean_with_interval([0.0] * 50 + [1.0] * 50, seed=0)
    assert found["mean"] == 0.5
    assert found["interval"] == pytest.approx([0.4038, 0.5962], abs=1e-4)  # Wilson, from the formula
    shares = metrics.mean_with_interval([0.25] * 50 + [0.75] * 50, seed=0)
    assert shares["interval"] == pytest.approx([0.45, 0.55], abs=0.01)


def test_all_right_is_not_certain() -> None:
    assert metrics.share_interval(12, 12) == pytest.approx([0.7575, 1.0], abs=1e-4)
    assert metrics.share_interval(0, 12) == pytest.approx([0.0, 0.2425], abs=1e-4)
    assert metrics.classification(["a"] * 12, ["a"] * 12, seed=0)["accuracy_interval"][0] < 0.76


def test_macro_f1_counts_labels_that_only_the_model_uses_as_scikit_learn_does() -> None:
    right, given = ["a", "a", "b", "b"], ["a", "a", "b", "c"]
    found = metrics.classification(right, given, seed=0)
    assert found["macro_f1"] == pytest.approx(f1_score(right, given, average="macro", zero_division=0))
    assert found["macro_f1"] < f1_score(right, given, labels=["a", "b"], average="macro")


def test_matthews_correlation_is_zero_for_a_constant_answer() -> None:
    assert metrics.classification(["a", "b"], ["a", "a"], seed=0)["mcc"] == 0
    assert metrics.classification(["a", "b"], ["a", "b"], seed=0)["mcc"] == 1
    assert metrics.classification(["a", "a"], ["a", "a"], seed=0)["mcc"] == 0, "one label alone says nothing"


def test_shares_are_compared_by_signs_that_could_be_exchanged() -> None:
    before, after = [0.0, 0.1, 0.2, 0.3, 0.1], [0.5, 0.6, 0.4, 0.9, 0.8]
    found = metrics.paired_values(before, after, seed=0)
    assert found["p_value"] == pytest.approx(2 / 2**5), "all five differences have one sign: 2 of 32 assignments"
    assert found["difference"] == pytest.approx(0.5)
    low, high = found["difference_interval"]
    assert 0 < low < 0.5 < high
    assert metrics.paired_values(before, before, seed=0)["p_value"] == 1.0
    assert metrics.paired_values([0.0], [1.0], seed=0)["p_value"] == 1.0, "one question shows nothing"
    many = metrics.paired_values([0.0] * 100, [0.1, -0.1] * 50, seed=0)
    assert many["p_value"] > 0.9, "equal gains and losses are no difference"


def test_holm_multiplies_the_smallest_by_the_number_of_tests() -> None:
    assert metrics.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert metrics.holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert metrics.holm([]) == []


def test_no_disagreement_leaves_room_around_zero() -> None:
    low, high = metrics.paired([True] * 20, [True] * 20)["difference_interval"]
    assert low < 0 < high


def test_three_runs_have_a_mean_and_a_spread() -> None:
    assert metrics.over_runs([0.5, 0.6, 0.7]) == {
        "runs": 3, "mean": pytest.approx(0.6), "sd": pytest.approx(0.1), "min": 0.5, "max": 0.7,
    }  # fmt: skip
    assert metrics.over_runs([0.5])["sd"] == 0


def test_mcnemar_counts_only_the_rows_on_which_models_differ() -> None:
    before = [True] * 50 + [False] * 10 + [True] * 2
    after = [True] * 50 + [True] * 10 + [False] * 2
    found = metrics.paired(before, after)
    assert (found["only_base_right"], found["only_adapter_right"]) == (2, 10)
    assert found["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # two-sided binomial of 2 in 12
    assert found["difference"] == pytest.approx(8 / 62)
    assert found["difference_interval"] == pytest.approx([0.0189, 0.2311], abs=1e-4)  # (10 - 2) / 64 -+ 1.96 x 0.0541
    assert metrics.paired(before, before)["p_value"] == 1.0


def test_the_calibration_error_of_a_model_that_is_too_sure() -> None:
    found = metrics.calibration([0.95] * 10 + [0.55] * 10, [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5)
    assert found["expected_error"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert [(b["from"], b["n"], b["accuracy"]) for b in found["bins"]] == [(0.5, 10, 0.5), (0.9, 10, 0.5)]
    assert metrics.calibration([1.0, 1.0], [True, True])["expected_error"] == 0


def test_the_grid_counts_targets_by_answers_and_keeps_a_column_for_the_rest() -> None:
    grid = metrics.confusion(["x", "x", "y", "unseen"], ["x", "y", None, "x"], ["x", "y"])
    assert grid.tolist() == [[1, 1, 0], [0, 0, 1]]
