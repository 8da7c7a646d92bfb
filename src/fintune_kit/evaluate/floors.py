"""What needs no language model: the training split's majority label, and TF-IDF with logistic regression.

A result that does not clear these says nothing for the model. Where training showed no labels of this kind, both are
taken from the evaluated rows themselves (the majority as it is, the regression by cross-validation), and say so.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from fintune_kit.evaluate.metrics import classification
from fintune_kit.evaluate.tasks import Question, Task

MOST_TEXTS = 20_000
"""Training texts of one regression; more of them moved no floor by 0.005."""
FOLDS = 5


def floors(task: Task, *, seed: int) -> dict[str, Any]:
    """Majority and TF-IDF floors of a choice task, each with the scores of `metrics.classification`."""
    majority: list[str | None] = [None] * len(task.questions)
    regression: list[str | None] = [None] * len(task.questions)
    learned_from: set[str] = set()
    for group in dict.fromkeys(question.group for question in task.questions):
        rows = [number for number, question in enumerate(task.questions) if question.group == group]
        questions = [task.questions[number] for number in rows]
        texts, labels = task.labelled.get(group, ((), ()))
        learned_from.add("the training conversations" if labels else "the evaluated rows, cross-validated")
        most_common = Counter(labels or [q.target for q in questions]).most_common(1)[0][0]
        predicted = learn(texts, labels, questions) if labels else cross_validate(questions)
        for number, label in zip(rows, predicted, strict=True):
            majority[number], regression[number] = most_common, label
    targets = [question.target for question in task.questions]
    return {
        "chance": float(np.mean([1 / len(question.options) for question in task.questions])),
        "learned_from": " and ".join(sorted(learned_from)),
        "majority": classification(targets, majority, seed=seed),
        "tfidf": classification(targets, regression, seed=seed),
    }


def learn(texts: Sequence[str], labels: Sequence[str], questions: Sequence[Question]) -> list[str]:
    """Labels of questions from a regression on training texts; the only label where there is one."""
    if len(set(labels)) == 1:
        return [labels[0]] * len(questions)
    step = -(-len(texts) // MOST_TEXTS)
    model = regression(len(texts[::step]))
    model.fit(texts[::step], labels[::step])
    return [str(label) for label in model.predict([question.text for question in questions])]


def cross_validate(questions: Sequence[Question]) -> list[str]:
    """Labels of questions from regressions on the other folds; the majority where a label is too rare to split."""
    targets = [question.target for question in questions]
    counts = Counter(targets)
    folds = min(FOLDS, min(counts.values()))
    if len(counts) < 2 or folds < 2:
        return [counts.most_common(1)[0][0]] * len(questions)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    texts = [question.text for question in questions]
    return [str(label) for label in cross_val_predict(regression(len(texts)), texts, targets, cv=splitter)]


def regression(texts: int) -> Pipeline:
    """TF-IDF of words and pairs and of character 3- to 5-grams, then logistic regression."""
    rarest = 2 if texts >= 1000 else 1
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=rarest, dtype=np.float32),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=rarest, dtype=np.float32),
    )
    return make_pipeline(features, LogisticRegression(C=10.0, max_iter=1000))
