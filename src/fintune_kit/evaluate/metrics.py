"""How well, and how sure: F1, bootstrap intervals, McNemar's test, calibration; after scikit-learn and scipy.

A bootstrap over rows of a classification is a multinomial draw over the cells of its confusion grid: the same
distribution, in milliseconds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_recall_fscore_support

RESAMPLES = 2000
BINS = 10
Floats = NDArray[np.float64]


def confusion(targets: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.int64]:
    """Counts `[labels, labels + 1]`: rows are targets, columns answers, the last column what was no label at all."""
    index = {label: number for number, label in enumerate(labels)}
    grid = np.zeros((len(labels), len(labels) + 1), np.int64)
    for target, answer in zip(targets, answers, strict=True):
        if target in index:  # a label that training never showed has no row; it counts as wrong elsewhere
            grid[index[target], index.get(answer, len(labels)) if answer is not None else len(labels)] += 1
    return grid


def classification(targets: Sequence[str], answers: Sequence[str | None], *, seed: int) -> dict[str, Any]:
    """Accuracy, weighted and macro F1, each with its 95 % interval.

    Args:
        targets: right labels.
        answers: given labels; None for an unreadable answer, which is wrong.
        seed: of the resampling.
    """
    given = ["" if answer is None else answer for answer in answers]
    labels = sorted(set(targets))  # an unreadable answer is no label with an F1 of its own
    grid = _cells(targets, given)
    names = sorted({label for pair in grid for label in pair})
    table = np.zeros((len(names), len(names)), np.int64)
    for (target, answer), count in grid.items():
        table[names.index(target), names.index(answer)] = count
    draws = np.random.default_rng(seed).multinomial(table.sum(), table.ravel() / table.sum(), size=RESAMPLES)
    samples = np.concatenate([table[None], draws.reshape(-1, *table.shape)])
    accuracy, weighted, macro = _scores(samples.astype(np.float64), np.array([name in labels for name in names]))
    assert np.isclose(
        weighted[0], f1_score(targets, given, labels=labels, average="weighted", zero_division=0), atol=1e-9
    )
    return {
        "n": len(targets),
        "accuracy": float(accuracy[0]),
        "accuracy_interval": _interval(accuracy[1:]),
        "weighted_f1": float(weighted[0]),
        "weighted_f1_interval": _interval(weighted[1:]),
        "macro_f1": float(macro[0]),
        "macro_f1_interval": _interval(macro[1:]),
    }


def by_label(targets: Sequence[str], answers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each label that is a target, with its number of rows `n`."""
    labels = sorted(set(targets))
    columns = precision_recall_fscore_support(targets, answers, labels=labels, zero_division=0)
    return {
        label: {"n": int(n), "precision": float(precision), "recall": float(recall), "f1": float(f1)}
        for label, precision, recall, f1, n in zip(labels, *columns, strict=True)
    }


def mean_with_interval(values: Sequence[float], *, seed: int) -> dict[str, Any]:
    """A mean over rows and its 95 % bootstrap interval."""
    array = np.asarray(values, np.float64)
    assert len(array), "no rows"
    distinct, counts = np.unique(array, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(array), counts / len(array), size=RESAMPLES)
    return {"mean": float(array.mean()), "interval": _interval(draws @ distinct / len(array))}


def paired(before: Sequence[bool], after: Sequence[bool], *, seed: int) -> dict[str, Any]:
    """Base and adapter on the same rows: the exact McNemar test, and the difference with its 95 % interval.

    The test is the two-sided binomial over the rows on which they disagree (McNemar 1947; exact, so for any count).
    """
    first, second = np.asarray(before, bool), np.asarray(after, bool)
    lost, gained = int((first & ~second).sum()), int((~first & second).sum())
    n = len(first)
    cells = np.array([lost, gained, n - lost - gained])
    draws = np.random.default_rng(seed).multinomial(n, cells / n, size=RESAMPLES)
    return {
        "only_base_right": lost,
        "only_adapter_right": gained,
        "difference": (gained - lost) / n,
        "difference_interval": _interval((draws[:, 1] - draws[:, 0]) / n),
        "p_value": float(binomtest(gained, lost + gained, 0.5).pvalue) if lost + gained else 1.0,
    }


def calibration(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Expected calibration error over ten equal bins (Guo et al. 2017, arXiv 1706.04599), and the bins.

    Args:
        confidence: of each row, the probability of the chosen option among the options.
        right: whether it was the right one.
    """
    sure, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    which = np.minimum((sure * BINS).astype(int), BINS - 1)
    counts = np.bincount(which, minlength=BINS)
    filled = counts > 0
    mean_sure = np.bincount(which, weights=sure, minlength=BINS)[filled] / counts[filled]
    mean_hit = np.bincount(which, weights=hit, minlength=BINS)[filled] / counts[filled]
    error = float((np.abs(mean_sure - mean_hit) * counts[filled]).sum() / len(sure))
    bins = [
        {"from": number / BINS, "to": (number + 1) / BINS, "n": int(n), "confidence": float(c), "accuracy": float(a)}
        for number, n, c, a in zip(np.flatnonzero(filled).tolist(), counts[filled], mean_sure, mean_hit, strict=True)
    ]
    return {"expected_error": error, "bins": bins}


def _cells(targets: Sequence[str], answers: Sequence[str]) -> dict[tuple[str, str], int]:
    cells: dict[tuple[str, str], int] = {}
    for pair in zip(targets, answers, strict=True):
        cells[pair] = cells.get(pair, 0) + 1
    return cells


def _scores(tables: Floats, is_label: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Accuracy, weighted F1, macro F1 of confusion grids `[S, labels, labels]`, over the labels that are targets."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support, given = tables.sum(axis=2), tables.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + given, 1)
    total = tables.sum(axis=(1, 2))
    return hits.sum(axis=1) / total, (f1 * support).sum(axis=1) / total, f1[:, is_label].mean(axis=1)


def _interval(draws: Floats) -> list[float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]
