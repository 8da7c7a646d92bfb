"""Scores that need no language model: a constant answer, and TF-IDF with logistic regression.

A model that does not beat these has learned nothing useful. The floors of a choice task:

    majority               the best constant answer: the most frequent label of the test questions themselves
    majority_of_training   the most frequent label of training, a lower floor if training's labels are balanced
    tfidf                  a regression on the same training texts that the adapter learned from

If training holds no such labels, the regression is cross-validated on the test questions, and the record says so.
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

MAX_TEXTS = 20_000
"""Training texts of one regression. With more texts, no floor changed by 0.005 or more."""
FOLDS = 5
FROM_TRAINING = "the training conversations"
FROM_TEST = "the test questions, cross-validated"


def floors(task: Task, *, seed: int) -> dict[str, Any]:
    """The floors of a choice task, each with the scores of `metrics.classification`, and `chance` as a share.

    If each question has its own options, no constant answer exists and a regression cannot learn. Then `chance` is the
    only floor, and the others are None.
    """
    chance = float(np.mean([1 / len(question.options) for question in task.questions]))
    if _share_no_options(task):
        return {"chance": chance, "learned_from": None} | dict.fromkeys(("majority", "majority_of_training", "tfidf"))
    predictions: dict[str, list[str]] = {name: [""] * len(task.questions) for name in ("majority", "training", "tfidf")}
    learned_from: set[str] = set()
    for group in dict.fromkeys(question.group for question in task.questions):
        indices = [index for index, question in enumerate(task.questions) if question.group == group]
        questions = [task.questions[index] for index in indices]
        texts, labels = task.labelled.get(group, ((), ()))
        learned_from.add(FROM_TRAINING if labels else FROM_TEST)
        majority = _most_frequent([question.target for question in questions])
        of_training = _most_frequent(labels) if labels else majority
        learned = learn(texts, labels, questions) if labels else cross_validate(questions)
        for index, label in zip(indices, learned, strict=True):
            predictions["majority"][index] = majority
            predictions["training"][index] = of_training
            predictions["tfidf"][index] = label
    targets = [question.target for question in task.questions]
    scores = {name: classification(targets, labels, seed=seed) for name, labels in predictions.items()}
    return {
        "chance": chance,
        "learned_from": " and ".join(sorted(learned_from)),
        "majority": scores["majority"],
        "majority_of_training": scores["training"],
        "tfidf": scores["tfidf"],
    }


def learn(texts: Sequence[str], labels: Sequence[str], questions: Sequence[Question]) -> list[str]:
    """Labels of questions by a regression on training texts. If training has one label only, it is that label."""
    if len(set(labels)) == 1:
        return [labels[0]] * len(questions)
    step = -(-len(texts) // MAX_TEXTS)
    if len(set(labels[::step])) == 1:
        step = 1
    model = regression(len(texts[::step]))
    model.fit(texts[::step], labels[::step])
    return [str(label) for label in model.predict([question.text for question in questions])]


def cross_validate(questions: Sequence[Question]) -> list[str]:
    """Labels of questions by regressions on the other folds; the majority if a label is too rare for two folds."""
    targets = [question.target for question in questions]
    counts = Counter(targets)
    folds = min(FOLDS, min(counts.values()))
    if len(counts) < 2 or folds < 2:
        return [_most_frequent(targets)] * len(questions)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    texts = [question.text for question in questions]
    return [str(label) for label in cross_val_predict(regression(len(texts)), texts, targets, cv=splitter)]


def regression(texts: int) -> Pipeline:
    """TF-IDF of words, word pairs and character 3- to 5-grams, then logistic regression."""
    rarest = 2 if texts >= 1000 else 1
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=rarest, dtype=np.float32),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=rarest, dtype=np.float32),
    )
    return make_pipeline(features, LogisticRegression(C=10.0, max_iter=1000))


def _share_no_options(task: Task) -> bool:
    """Whether most questions have options of their own, and training shows no labels."""
    if any(labels for _, labels in task.labelled.values()):
        return False
    counts = Counter(frozenset(question.options) for question in task.questions)
    return len(task.questions) > 1 and len(counts) > len(task.questions) / 2


def _most_frequent(labels: Sequence[str]) -> str:
    """The most frequent label, and the first of equally frequent ones."""
    return Counter(labels).most_common(1)[0][0]
