"""Task `transactions`: bank lines of merchants that are not in training, one at a time and in batches.

transactions/unseen_merchants.jsonl         ->  task transactions         a choice among the taxonomy's categories
             unseen_merchants_batch.jsonl   ->  task transactions_batch   a category each, written as strict JSON

The totals by category are added up here, from the labels. A language model is never asked to add.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from fintune_kit.bank.conversations import (
    EVALUATION,
    EVALUATION_BATCH,
    TASK_TYPE,
    batch_prompt,
    parse_batch_answer,
    single_prompt,
)
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction, totals_by_category
from fintune_kit.conversations import Conversation
from fintune_kit.errors import UserError
from fintune_kit.evaluate import metrics
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.tasks import Question, Task, evenly_chosen
from fintune_kit.workspace import WRITTEN_BY, check_files, read_manifest

NAME = "transactions"
"""The name of both for `--task`."""
MAX_TOKENS = 1024
"""The largest length of a batch's answer. Seven transactions take 300 to 450 tokens."""


def transactions_tasks(folder: Path, *, train: Sequence[Conversation], max_generated: int) -> list[Task]:
    """The choice task and, if the folder holds batches, the batch task.

    Args:
        folder: written by `bank.conversations.to_conversations`.
        train: training conversations. The floors learn from those about transactions.
        max_generated: the largest number of batches; they are evenly spread.

    Raises:
        MissingInputError: the folder is missing or unfinished.
        UserError: a file has changed, or the folder holds no transaction of an unseen merchant.
    """
    check_files(folder, read_manifest(folder, stage="transactions"), stage="transactions")
    rows, batches = (_read(folder / name) for name in (EVALUATION, EVALUATION_BATCH))
    if not rows:
        raise UserError(
            f"{folder / EVALUATION} holds no transaction; expected some of merchants that training never showed: run "
            f"{WRITTEN_BY['transactions']} with more transactions"
        )
    names = load_taxonomy().names
    about = [c for c in train if c.task_type == TASK_TYPE and c.answer in names]
    questions = tuple(_single(number, row, options=names) for number, row in enumerate(rows, start=1))
    tasks = [
        Task(
            name=NAME,
            title="transactions, unseen merchants",
            metric="accuracy",
            questions=questions,
            source=f"transactions/{EVALUATION}",
            labelled={"": (tuple(c.question for c in about), tuple(c.answer for c in about))},
            statement=tuple(_transaction(row) for row in rows),
        )
    ]
    chosen = [batches[number] for number in evenly_chosen(len(batches), max_chosen=max_generated)]
    if chosen:
        tasks.append(
            Task(
                name=f"{NAME}_batch",
                title="transactions in batches, JSON",
                metric="categories",
                questions=tuple(_batch(number, row) for number, row in enumerate(chosen, start=1)),
                source=f"transactions/{EVALUATION_BATCH}",
                max_new_tokens=min(MAX_TOKENS, max(len(row["target"]) for row in chosen) // 2),
                of_total=len(batches),
            )
        )
    return tasks


def batch_record(task: Task, answers: Sequence[Answer], *, seed: int) -> dict[str, Any]:
    """Scores one model's answers to the batch task, by their JSON and by their labels.

    If an answer is not the JSON of the prompt, all transactions of its batch count as wrong.

    Returns:
        `json_valid`: the share of batches with valid JSON and its 95 % interval. `transactions`: their number `n`, the
        number of `readable` ones, `accuracy` and `macro_f1`.
    """
    valid = metrics.mean_with_interval([not answer.unreadable for answer in answers], seed=seed)
    targets: list[str] = []
    given: list[str | None] = []
    for question, answer in zip(task.questions, answers, strict=True):
        wanted = json.loads(question.target)
        labels = parse_batch_answer(answer.text, texts=[entry["transaction"] for entry in wanted])
        targets += [entry["category"] for entry in wanted]
        given += labels or [None] * len(wanted)
    scores = metrics.classification(targets, given, seed=seed)
    return {
        "json_valid": {"share": valid["mean"], "interval": valid["interval"]},
        "transactions": {
            "n": len(targets),
            "readable": sum(label is not None for label in given),
            "accuracy": scores["accuracy"],
            "macro_f1": scores["macro_f1"],
        },
    }


def totals(task: Task, base: Sequence[Answer], adapter: Sequence[Answer]) -> dict[str, dict[str, dict[str, str]]]:
    """Sums by currency and category, with the right labels (`true`) and with the labels of both models.

    Returns:
        `{"true": {"USD": {"Food & Dining": "-212.40", ...}, ...}, "base": ..., "adapter": ...}`, exact decimals.
    """
    labels = {
        "true": [transaction.category for transaction in task.statement],
        "base": [answer.text for answer in base],
        "adapter": [answer.text for answer in adapter],
    }
    return {who: _as_text(_totals(task.statement, given)) for who, given in labels.items()}


def format_totals(record: Mapping[str, Any]) -> str:
    """The totals of the currency with the most categories, as a table in plain text.

    USD                              true          base       adapter
    Food & Dining                 -212.40        -12.00       -212.40
    """
    sums = record["totals"]
    currency = max(sums["true"], key=lambda name: len(sums["true"][name]))
    columns = {who: sums[who].get(currency, {}) for who in ("true", "base", "adapter")}
    names = sorted({name for column in columns.values() for name in column})
    lines = [f"{currency:<24}" + "".join(f"{who:>14}" for who in columns)]
    lines += [
        f"{name[:23]:<24}" + "".join(f"{Decimal(column.get(name, 0)):>14,.2f}" for column in columns.values())
        for name in names
    ]
    return "\n".join(lines)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _single(number: int, row: Mapping[str, Any], *, options: tuple[str, ...]) -> Question:
    return Question(
        row_id=f"{EVALUATION}#{number}",
        messages=tuple(single_prompt(row["text"])),
        text=row["text"],
        target=row["target"],
        options=options,
    )


def _batch(number: int, row: Mapping[str, Any]) -> Question:
    return Question(
        row_id=f"{EVALUATION_BATCH}#{number}",
        messages=tuple(batch_prompt(row["text"])),
        text=row["text"],
        target=row["target"],
    )


def _transaction(row: Mapping[str, Any]) -> Transaction:
    return Transaction(
        account="",
        date="",
        description=row["text"],
        amount=Decimal(row["amount"]),
        currency=row["currency"],
        category=row["target"],
        merchant=row["merchant"],
    )


def _totals(transactions: Sequence[Transaction], labels: Sequence[str]) -> dict[str, dict[str, Decimal]]:
    return totals_by_category(replace(one, category=label) for one, label in zip(transactions, labels, strict=True))


def _as_text(sums: Mapping[str, Mapping[str, Decimal]]) -> dict[str, dict[str, str]]:
    return {currency: {name: str(sums[currency][name]) for name in sorted(sums[currency])} for currency in sorted(sums)}
