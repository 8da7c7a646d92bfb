"""Label errors: rows of a closed question whose label is very unlikely to be right, by confident learning.

Northcutt et al. 2021 (arXiv 1911.00068, from `cleanlab`): a regression on TF-IDF features predicts each row's label
from the other rows. A row is doubtful if the regression is as sure of another label as it usually is for rows with that
label. A question that is asked about several things ("... going up?", "... in the past?") is judged for each of them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.rules.labels import OPEN

MIN_ROWS = 300
"""A question with fewer rows teaches the regression too little."""
MIN_LABEL_ROWS = 20
"""Rows of a rarer label are not judged."""
MIN_ACCURACY = 0.85
"""Where the regression agrees with the labels less often, its doubts are mostly its own errors."""
MAX_PROBABILITY = 0.15
"""Of the given label. With a higher one the row is hard, and not wrong."""
MIN_OTHER_PROBABILITY = 0.7
"""Of the other label."""
MIN_DOUBTFUL_SHARE = 0.02
"""Of a question's rows. Where fewer are doubtful, the regression errs more often than the labels: read by eye, 6 of 20
doubts among 0.4 % of the rows were right."""
MIN_LINE_ROWS = 100
"""A last line that so many rows share is the question about the text above it."""
TOLERANCE = 0.03
"""How far the accuracy of one fold may be from that of all."""
FOLDS = 5
MAX_CHARACTERS = 2_000
_SEED = 20240405  # of the folds: fixed, so that doubts do not depend on a recipe's seed


def label_errors(conversations: Sequence[Conversation], labels: Sequence[str], kept: Sequence[int]) -> Findings:
    """Rows whose label is probably wrong, with the label that is more likely."""
    findings: Findings = {}
    for indices in _questions(conversations, labels, kept):
        texts = [conversations[index].prompt[-MAX_CHARACTERS:] for index in indices]
        names = sorted({labels[index] for index in indices})
        given = np.array([names.index(labels[index]) for index in indices])
        probabilities = _predict(texts, given)
        if probabilities is None or (probabilities.argmax(axis=1) == given).mean() < MIN_ACCURACY:
            continue
        doubtful = _doubtful(given, probabilities).tolist()
        if len(doubtful) < MIN_DOUBTFUL_SHARE * len(indices):
            continue
        for row in doubtful:
            other = int(probabilities[row].argmax())
            findings[indices[row]] = (
                f"the label {names[given[row]]!r} has probability {probabilities[row, given[row]]:.2f}, "
                f"{names[other]!r} {probabilities[row, other]:.2f}"
            )
    return dict(sorted(findings.items()))


def _questions(conversations: Sequence[Conversation], labels: Sequence[str], kept: Sequence[int]) -> list[list[int]]:
    """The rows of each closed question that has enough of them and of two labels or more."""
    lines = {
        index: conversations[index].question.rstrip().rpartition("\n")[2] for index in kept if labels[index] != OPEN
    }
    uses = Counter(lines.values())
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, line in lines.items():
        conversation = conversations[index]
        asked = line if uses[line] >= MIN_LINE_ROWS else ""
        groups[conversation.task_type, conversation.system, asked].append(index)
    found = []
    for indices in groups.values():
        counts = Counter(labels[index] for index in indices)
        judged = [index for index in indices if counts[labels[index]] >= MIN_LABEL_ROWS]
        if len(judged) >= MIN_ROWS and len({labels[index] for index in judged}) >= 2:
            found.append(judged)
    return found


def _predict(texts: Sequence[str], given: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The probability of each label (columns) for each text (rows), from a regression on the texts of other folds.

    None if the first fold already shows that the regression agrees with too few labels.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier

    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts).tocsr()
    regression = OneVsRestClassifier(LogisticRegression(solver="liblinear", C=10, tol=1e-2, random_state=_SEED))
    probabilities = np.zeros((len(texts), int(given.max()) + 1))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=_SEED)
    for fold, (others, own) in enumerate(folds.split(features, given)):
        probabilities[own] = regression.fit(features[others], given[others]).predict_proba(features[own])
        if fold == 0 and (probabilities[own].argmax(axis=1) == given[own]).mean() < MIN_ACCURACY - TOLERANCE:
            return None
    return probabilities


def _doubtful(given: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    from cleanlab.filter import find_label_issues

    issues = find_label_issues(given, probabilities, filter_by="confident_learning", n_jobs=1)
    is_unlikely = probabilities[np.arange(len(given)), given] <= MAX_PROBABILITY
    return np.flatnonzero(issues & is_unlikely & (probabilities.max(axis=1) >= MIN_OTHER_PROBABILITY))
