"""Keeps the answers of finished tasks, so that a killed evaluation can continue: one JSON file per model and task.

    evaluation.progress/
        adapter-validation_sentiment_analysis.json    {"of": <SHA-256 of model, task and settings>, "answers": [...]}

The folder lies beside the target folder, and is removed when the evaluation is complete. A file is used again only for
exactly the same model, questions and settings.
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
    """The folder with the answers of finished tasks."""

    def __init__(self, folder: Path, *, identity: Any) -> None:
        """
        Args:
            folder: created when the first task is done.
            identity: everything that answers depend on besides the task: adapter, base, precision.
        """
        self.folder = folder
        self._identity = identity

    def load(self, who: str, task: Task) -> list[Answer] | None:
        """The answers of a model to a task, or None if they are missing, incomplete or of other settings."""
        path = self._path(who, task)
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["of"] != self._key(who, task):
                return None
            return [
                Answer(**{**fields, "log_probabilities": tuple(fields["log_probabilities"])})
                for fields in found["answers"]
            ]
        except (ValueError, KeyError, TypeError):
            return None  # the file is damaged: the task is answered again

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
