"""The answers that a killed evaluation has already got: one JSON file for each (model, task), beside its target folder.

    evaluation.progress/
        adapter-validation_sentiment_analysis.json    {"of": <SHA-256 of model, task and settings>, "answers": [...]}

A file counts only for exactly the same model, questions and settings. All are removed once the evaluation is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.tasks import Task
from fintune_kit.workspace import write_json


class Progress:
    """The folder of answers that are already there."""

    def __init__(self, folder: Path, *, identity: Any) -> None:
        """
        Args:
            folder: made when the first task is done.
            identity: everything besides the task that answers depend on: adapter, base, precision.
        """
        self.folder = folder
        self._identity = identity

    def load(self, who: str, task: Task) -> list[Answer] | None:
        """The answers of a model to a task, or None where they are not there whole."""
        path = self._path(who, task)
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["of"] != self._key(who, task):
                return None
            return [Answer(**{**row, "log_probabilities": tuple(row["log_probabilities"])}) for row in found["answers"]]
        except (ValueError, KeyError, TypeError):
            return None  # a damaged file costs no more than its task again

    def save(self, who: str, task: Task, answers: Sequence[Answer]) -> None:
        """Keeps the answers of a model to a task."""
        value = {"of": self._key(who, task), "answers": [asdict(answer) for answer in answers]}
        write_json(self._path(who, task), value)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, who: str, task: Task) -> Path:
        return self.folder / f"{who}-{task.name}.json"

    def _key(self, who: str, task: Task) -> str:
        content = [self._identity, who, task.name, task.metric, task.max_new_tokens, list(map(asdict, task.questions))]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
