"""Scores and their certainty: accuracy, F1, MCC, calibration, confidence intervals and paired tests.

    accuracy        Wilson interval (Wilson 1927), which is also right near 0 and 1
    F1, means       bootstrap interval over questions
    two models      McNemar's exact test on right and wrong; a paired permutation test on shares
    many tasks      Holm's correction (Holm 1979)

Scores are scikit-learn's, tests are scipy's. A bootstrap over the questions of a classification draws the cell counts
of its confusion table. This gives the same distribution as drawing questions, in milliseconds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, permutation_test
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef, precision_recall_fscore_support

RESAMPLES = 2000
PERMUTATIONS = 9999
BINS = 10
UNREADABLE = ""
"""It stands for an answer that is not a label. Such an answer is wrong, and its F1 is not counted."""
Floats = NDArray[np.float64]


def confusion(targets: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.int64]:
    """Counts as int64 `[labels, labels + 1]`: targets by answers; the last column counts all other answers.

    Targets that are not among the labels are left out here. The accuracy counts them as wrong.
    """
    known = set(labels)
    pairs = [(t, a if a in known else UNREADABLE) for t, a in zip(targets, answers, strict=True) if t in known]
    if not pairs:
        return np.zeros((len(labels), len(labels) + 1), np.int64)
    wanted, given = zip(*pairs, strict=True)
    counts = confusion_matrix(wanted, given, labels=[*labels, UNREADABLE])
    return counts[:-1].astype(np.int64)


def classification(targets: Sequence[str], answers: Sequence[str | None], *, seed: int) -> dict[str, Any]:
    """Accuracy, weighted and macro F1 with their 95 % intervals, and Matthews' correlation (MCC).

    F1 is scikit-learn's, over the labels that are a target or an answer.

    Args:
        targets: right labels.
        answers: given labels; None for an unreadable answer, which is wrong.
        seed: of the resampling.
    """
    given = [UNREADABLE if answer is None else answer for answer in answers]
    scored = sorted({*targets, *given} - {UNREADABLE})
    names = sorted({*targets, *given, UNREADABLE})
    table = confusion_matrix(targets, given, labels=names)
    draws = np.random.default_rng(seed).multinomial(table.sum(), table.ravel() / table.sum(), size=RESAMPLES)
    weighted, macro = _f1_of_tables(draws.reshape(-1, *table.shape), is_label=np.isin(names, scored))
    hits = int(np.diagonal(table).sum())
    return {
        "n": len(targets),
        "accuracy": hits / len(targets),
        "accuracy_interval": share_interval(hits, len(targets)),
        "weighted_f1": _f1(targets, given, labels=scored, average="weighted"),
        "weighted_f1_interval": _percentiles(weighted),
        "macro_f1": _f1(targets, given, labels=scored, average="macro"),
        "macro_f1_interval": _percentiles(macro),
        "mcc": float(matthews_corrcoef(targets, given)) if len({*targets, *given}) > 1 else 0.0,
    }


def by_label(targets: Sequence[str], answers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each target label, and its number of questions `n`."""
    labels = sorted(set(targets))
    columns = precision_recall_fscore_support(targets, answers, labels=labels, zero_division=0)
    return {
        label: {"n": int(n), "precision": float(precision), "recall": float(recall), "f1": float(f1)}
        for label, precision, recall, f1, n in zip(labels, *columns, strict=True)
    }


def share_interval(hits: int, n: int) -> list[float]:
    """Wilson's 95 % interval of a share: for 12 of 12 it is 0.757 to 1, not 1 to 1."""
    interval = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def mean_with_interval(values: Sequence[float], *, seed: int) -> dict[str, Any]:
    """A mean over questions and its 95 % interval: Wilson's if all values are 0 or 1, else the bootstrap's."""
    array = np.asarray(values, np.float64)
    assert len(array), "no questions"
    distinct, counts = np.unique(array, return_counts=True)
    if set(distinct.tolist()) <= {0.0, 1.0}:
        return {"mean": float(array.mean()), "interval": share_interval(int(array.sum()), len(array))}
    draws = np.random.default_rng(seed).multinomial(len(array), counts / len(array), size=RESAMPLES)
    return {"mean": float(array.mean()), "interval": _percentiles(draws @ distinct / len(array))}


def paired(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    """Compares two models on the same questions by McNemar's exact test (McNemar 1947).

    The test is the two-sided binomial test over the questions on which the models disagree. The interval of the
    difference is that of Agresti and Min (2005), which is also right for few disagreements.

    Args:
        before, after: whether each model's answer to each question is right.
    """
    first, second = np.asarray(before, bool), np.asarray(after, bool)
    lost, gained = int((first & ~second).sum()), int((~first & second).sum())
    return {
        "only_base_right": lost,
        "only_adapter_right": gained,
        "difference": (gained - lost) / len(first),
        "difference_interval": _paired_interval(lost, gained, n=len(first)),
        "test": "McNemar, exact",
        "p_value": float(binomtest(gained, lost + gained, 0.5).pvalue) if lost + gained else 1.0,
    }


def paired_values(before: Sequence[float], after: Sequence[float], *, seed: int) -> dict[str, Any]:
    """Compares two models on the same questions by a paired permutation test of the mean difference of their values.

    Under the null hypothesis the two answers to a question can be exchanged, so the sign of each difference is random.
    A small sample is tested over all signs, a larger one over `PERMUTATIONS` draws. One question shows nothing: both
    signs of its difference are as far from zero.
    """
    differences = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    difference = mean_with_interval(differences.tolist(), seed=seed)
    p_value = 1.0
    if len(differences) > 1 and differences.any():
        random = np.random.default_rng(seed)
        test = permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=PERMUTATIONS, rng=random
        )
        p_value = float(test.pvalue)
    return {
        "difference": difference["mean"],
        "difference_interval": difference["interval"],
        "test": "paired permutation",
        "p_value": p_value,
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the same order. They are valid for all tasks of a table together."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def calibration(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Expected calibration error over ten equal bins (Guo et al. 2017, arXiv 1706.04599), and the bins.

    Args:
        confidence: for each question, the probability of the chosen option among the options.
        right: for each question, whether the chosen option was right.
    """
    accuracy, mean_confidence = calibration_curve(right, np.clip(confidence, 0, 1), n_bins=BINS, strategy="uniform")
    which = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)  # as calibration_curve cuts its bins
    counts = np.bincount(which, minlength=BINS)
    filled = np.flatnonzero(counts)
    bins = [
        {"from": b / BINS, "to": (b + 1) / BINS, "n": int(counts[b]), "confidence": float(c), "accuracy": float(a)}
        for b, c, a in zip(filled.tolist(), mean_confidence, accuracy, strict=True)
    ]
    error = float((np.abs(mean_confidence - accuracy) * counts[filled]).sum() / counts.sum())
    return {"expected_error": error, "bins": bins}


def over_runs(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation (n - 1) of one score over runs with different seeds."""
    array = np.asarray(values, np.float64)
    spread = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    low, high = float(array.min()), float(array.max())
    return {"runs": len(array), "mean": float(array.mean()), "sd": spread, "min": low, "max": high}


def _f1(targets: Sequence[str], given: Sequence[str], *, labels: Sequence[str], average: str) -> float:
    return float(f1_score(targets, given, labels=labels, average=average, zero_division=0))


def _f1_of_tables(tables: NDArray[np.int64], *, is_label: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Weighted and macro F1 of confusion tables `[S, labels, labels]`, as scikit-learn counts them.

    A label that is neither a target nor an answer in a table is left out of this table's mean.
    """
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support, given = tables.sum(axis=2), tables.sum(axis=1)
    used = (support + given > 0) & is_label
    f1 = np.where(used, 2 * hits / np.maximum(support + given, 1), 0)
    weighted = (f1 * support).sum(axis=1) / np.maximum((support * is_label).sum(axis=1), 1)
    return weighted, f1.sum(axis=1) / np.maximum(used.sum(axis=1), 1)


def _paired_interval(lost: int, gained: int, *, n: int) -> list[float]:
    """The Wald interval of the difference, after half a question was added to each of the four cells."""
    size = n + 2
    difference = (gained - lost) / size
    variance = ((lost + gained + 1) - (gained - lost) ** 2 / size) / size**2
    half = float(norm.ppf(0.975)) * variance**0.5
    return [max(-1.0, difference - half), min(1.0, difference + half)]


def _percentiles(draws: Floats) -> list[float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]
