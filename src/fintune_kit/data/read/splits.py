"""Splits, in a folder and on the hub alike: which files or splits hold rows to train on.

Files and splits for evaluation (test, validation, dev, eval) are left out where the source has others.

    train-00000.parquet  validation-00000.parquet     the first is read
    rows.jsonl  data/test/rows.jsonl                   the first is read
    test.csv                                           it is read: there is nothing else
"""

import re
from collections.abc import Sequence

_EVALUATION = frozenset({"test", "tests", "testing", "validation", "valid", "val", "dev", "eval", "evaluation"})
_WORD = re.compile(r"[a-z]+")


def is_evaluation(name: str) -> bool:
    """Whether the name of a split, or the path of a file in its source, says that it is for evaluation."""
    return not _EVALUATION.isdisjoint(_WORD.findall(name.lower()))


def left_out(names: Sequence[str]) -> set[str]:
    """The names to leave out: those for evaluation, where there are others."""
    evaluation = {name for name in names if is_evaluation(name)}
    return evaluation if len(evaluation) < len(names) else set()
