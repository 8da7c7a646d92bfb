"""What was forgotten: a few general-knowledge and arithmetic questions of our own writing, four options each.

They are no benchmark: an adapter that answers clearly fewer of them than its base has lost more than style.
"""

import json
from importlib import resources

from fintune_kit.conversations import Message
from fintune_kit.evaluate.tasks import Question, Task

KINDS = {"knowledge": "general knowledge", "arithmetic": "arithmetic"}


def general_tasks() -> list[Task]:
    """A task a kind, from `general.jsonl` beside this module."""
    lines = resources.files("fintune_kit.evaluate").joinpath("general.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tasks = []
    for kind, title in KINDS.items():
        questions = tuple(
            Question(
                row_id=f"general.jsonl#{number}",
                messages=(
                    Message(role="system", content="Answer the question. Only reply with the answer."),
                    Message(role="user", content=row["text"]),
                ),
                text=row["text"],
                target=row["target"],
                options=tuple(row["options"]),
            )
            for number, row in enumerate(rows, start=1)
            if row["kind"] == kind
        )
        tasks.append(
            Task(
                name=f"general_{kind}",
                title=title,
                metric="accuracy",
                questions=questions,
                source="general.jsonl, written for this project",
            )
        )
    return tasks
