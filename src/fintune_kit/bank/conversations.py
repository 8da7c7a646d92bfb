"""Labelled transactions as conversations to train on and as rows to evaluate on.

    train.jsonl         {"messages": [user "Categorize: BLUE BOTTLE $6.50", assistant "Food & Dining"], "merchant", ...}
                        {"messages": [system, user "...\n...", assistant '[{"transaction": "...", "category": "..."}]']}
    unseen_merchants.jsonl    {"text": "TIM HORTONS #0412 -$4.10", "target": "Food & Dining", "options": [...]}
    unseen_merchants_batch.jsonl   {"text": "...\n...", "target": "[{...}]", "options": [...]}

Training shows merchants of the training side only, evaluation the unseen ones only. Rows whose merchant is unknown (a
person's own statement) go to one side by the key of their merchant (`merchants.merchant_keys`), so none is on both.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.bank.merchants import MerchantLabels, merchant_keys
from fintune_kit.bank.privacy.name_words import fold
from fintune_kit.bank.taxonomy import Split, load_taxonomy
from fintune_kit.bank.transactions import Transaction, read_statement
from fintune_kit.conversations import Message
from fintune_kit.errors import UserError
from fintune_kit.workspace import read_manifest, replacing_folder, sha256_of, write_manifest

TRAIN, EVALUATION, EVALUATION_BATCH = "train.jsonl", "unseen_merchants.jsonl", "unseen_merchants_batch.jsonl"
TASK_TYPE = "transaction_categorization"

_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "INR": "₹"}
_LINES_NAMED = 5
_UNSEEN_SHARE = 0.2  # of the merchants of a person's own statement
_BATCH = (3, 12)  # transactions of one batch prompt


def single_prompt(text: str) -> list[Message]:
    """The messages that ask for one transaction's category, with the labels, as the evaluation asks.

    Args:
        text: a line as `line_of` writes it.
    """
    return [
        {"role": "system", "content": _SYSTEM.format(labels=_labels())},
        {"role": "user", "content": f"Categorize: {text}"},
    ]


def batch_prompt(text: str) -> list[Message]:
    """The messages that ask for the categories of several transactions, one a line, as strict JSON.

    Args:
        text: lines as `line_of` writes them, joined by newlines.
    """
    return [
        {"role": "system", "content": _SYSTEM_BATCH.format(labels=_labels())},
        {"role": "user", "content": f"Categorize these transactions:\n{text}"},
    ]


def batch_answer(texts: Sequence[str], categories: Sequence[str]) -> str:
    """The strict JSON that answers a batch: one object a transaction, in order."""
    return json.dumps(
        [{"transaction": text, "category": label} for text, label in zip(texts, categories, strict=True)],
        ensure_ascii=False,
    )


def parse_batch_answer(answer: str, *, texts: Sequence[str]) -> list[str] | None:
    """The categories of a model's answer to a batch; None where it is not the strict JSON that was asked for.

    Args:
        answer: the text of the model.
        texts: the transactions of the batch; the answer must name each, in order, with a category of the taxonomy.
    """
    try:
        rows = json.loads(answer)
    except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError too
        return None
    if not isinstance(rows, list) or len(rows) != len(texts):
        return None
    known, labels = load_taxonomy().names, []
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(row, dict) or set(row) != {"transaction", "category"}:
            return None
        if row["transaction"] != text or row["category"] not in known:
            return None
        labels.append(row["category"])
    return labels


def line_of(row: Transaction) -> str:
    """A transaction as a prompt shows it: `BLUE BOTTLE OAKLAND CA $6.50`, money in with a plus sign."""
    size = f"{abs(row.amount):,.2f}"
    sign = "+" if row.amount > 0 else ""
    money = f"{sign}{_SIGNS[row.currency]}{size}" if row.currency in _SIGNS else f"{sign}{size} {row.currency}".rstrip()
    return f"{row.description} {money}"


def to_conversations(
    statement: Path,
    *,
    out: Path,
    seed: int,
    batch_share: float = 0.25,
    evaluation_rows: int = 2_000,
    labels: MerchantLabels | None = None,
) -> dict[str, Any]:
    """Writes a labelled statement as training conversations and as evaluation rows.

    Args:
        statement: a folder of `generate_statements`, or a statement of ours with categories (an import of Mint or
            Firefly, anonymised).
        out: folder for train.jsonl, unseen_merchants.jsonl and unseen_merchants_batch.jsonl.
        seed: of the order, the wording and the batches.
        batch_share: share of the training transactions that are asked for in batches.
        evaluation_rows: unseen-merchant rows to evaluate on at most, as evenly over the categories as possible.
        labels: a person's categories by merchant; they win over those of the statement.

    Returns:
        The manifest, with counts (rows without a category are counted, not used).

    Raises:
        UserError: no row has a category, all rows are of one merchant, or a share is out of range.
    """
    if not 0 <= batch_share <= 1:
        raise UserError(f"the batch share is {batch_share}, expected 0 to 1: choose how much is asked in batches")
    rows = _with_labels(read_statement(Path(statement)), labels, statement=statement)
    labelled = _with_sides([row for row in rows if row.category])
    if not labelled:
        raise UserError(_nothing_labelled(statement, count=len(rows)))
    rng = random.Random(seed)  # noqa: S311 (order and wording, not a secret)
    train = [row for row in labelled if row.split == "train"]
    unseen = _even_sample([row for row in labelled if row.split == "unseen"], count=evaluation_rows, rng=rng)
    _check_sides(statement, train=train, unseen=unseen)
    conversations = _conversations(train, batch_share=batch_share, rng=rng)
    with replacing_folder(Path(out)) as folder:
        counts = {
            "transactions": len(rows),
            "unlabelled": len(rows) - len(labelled),
            "train": _write(folder / TRAIN, conversations),
            "evaluation": _write(folder / EVALUATION, map(_evaluation_row, unseen)),
            "evaluation_batch": _write(folder / EVALUATION_BATCH, _evaluation_batches(unseen)),
            "train_merchants": len({row.merchant for row in train}),
            "evaluation_merchants": len({row.merchant for row in unseen}),
            "evaluation_categories": dict(sorted(Counter(row.category for row in unseen).items())),
        }
        inputs = {"statement": sha256_of(Path(statement))}
        write_manifest(folder, stage="transactions", inputs=inputs, counts=counts, seed=seed, batch_share=batch_share)
    return read_manifest(Path(out), stage="transactions")


_SYSTEM = (
    "You sort bank transactions into categories. The categories are: {labels}. Answer with one category and no more."
)
_SYSTEM_BATCH = (
    "You sort bank transactions into categories. The categories are: {labels}. Answer with a JSON array only: "
    'one object for each transaction, in order, as {{"transaction": "...", "category": "..."}}.'
)
_SINGLE_WORDINGS = (
    "Categorize: {text}",
    "Categorize: {text}",
    "Categorize this transaction: {text}",
    "Which category is this bank transaction? {text}",
    "{text}",
)
_BATCH_WORDINGS = (
    "Categorize these transactions:\n{text}",
    "Categorize these transactions:\n{text}",
    "Sort these lines of my bank statement into categories:\n{text}",
)


def _labels() -> str:
    return ", ".join(load_taxonomy().names)


def _conversations(rows: list[Transaction], *, batch_share: float, rng: random.Random) -> list[dict[str, Any]]:
    """The conversations of the training side in random order, a share of the transactions in batches."""
    rng.shuffle(rows)
    cut = round(len(rows) * batch_share)
    conversations = [*_batches(rows[:cut], rng=rng), *(_single(row, rng=rng) for row in rows[cut:])]
    rng.shuffle(conversations)
    return conversations


def _nothing_labelled(statement: Path, *, count: int) -> str:
    return (
        f"none of the {count} transactions in {statement} has a category of ours; expected labelled rows: generate "
        "some, import an export of Mint, YNAB or Firefly, which carry categories, or label merchants with "
        "`fintune-kit transactions label` and name that file with --labels"
    )


def _single(row: Transaction, *, rng: random.Random) -> dict[str, Any]:
    text, wording = line_of(row), rng.randrange(len(_SINGLE_WORDINGS))
    user: Message = {"role": "user", "content": _SINGLE_WORDINGS[wording].format(text=text)}
    system = single_prompt(text)[:1]
    # the bare form of the plan, `Categorize: ...` alone, is kept for half of its rows; other wordings need the labels
    messages: list[Message] = [user] if wording == 0 else [*system, user]
    return _conversation([*messages, {"role": "assistant", "content": row.category}], merchants=[row.merchant])


def _batches(rows: Sequence[Transaction], *, rng: random.Random) -> Iterator[dict[str, Any]]:
    start = 0
    while start < len(rows):
        batch = rows[start : start + rng.randint(*_BATCH)]
        start += len(batch)
        texts = [line_of(row) for row in batch]
        asked = batch_prompt("\n".join(texts))
        asked[1]["content"] = rng.choice(_BATCH_WORDINGS).format(text="\n".join(texts))
        answer: Message = {"role": "assistant", "content": batch_answer(texts, [row.category for row in batch])}
        yield _conversation([*asked, answer], merchants=[row.merchant for row in batch])


def _conversation(messages: list[Message], *, merchants: Sequence[str]) -> dict[str, Any]:
    return {
        "messages": messages,
        "task_type": TASK_TYPE,
        "merchant": " | ".join(sorted(set(merchants))),
        "split": "train",
    }


def _evaluation_row(row: Transaction) -> dict[str, Any]:
    return {
        "text": line_of(row),
        "target": row.category,
        "options": list(load_taxonomy().names),
        "merchant": row.merchant,
        "amount": str(row.amount),
        "currency": row.currency,
    }


def _evaluation_batches(rows: Sequence[Transaction]) -> Iterator[dict[str, Any]]:
    size = sum(_BATCH) // 2
    asked = rows[: max(len(rows) // 4, 4 * size)]  # a quarter of many rows: whether the JSON holds needs no more
    for start in range(0, len(asked), size):
        batch = asked[start : start + size]
        texts = [line_of(row) for row in batch]
        yield {
            "text": "\n".join(texts),
            "target": batch_answer(texts, [row.category for row in batch]),
            "options": list(load_taxonomy().names),
        }


def _with_labels(rows: list[Transaction], labels: MerchantLabels | None, *, statement: Path) -> list[Transaction]:
    """The rows with categories of ours: a person's for the merchant, else the statement's own, read through aliases.

    Raises:
        UserError: the statement's own category of a row means none of ours.
    """
    taxonomy = load_taxonomy()
    found = [(labels.category_of(row.description) if labels else None) or row.category for row in rows]
    categories = [taxonomy.category_of(label) if label else "" for label in found]
    unknown = [line for line, category in enumerate(categories, start=2) if category is None]
    if unknown:
        raise UserError(
            f"{len(unknown)} transactions in {statement} have a category that is none of ours (line "
            f"{', '.join(map(str, unknown[:_LINES_NAMED]))}{' and others' if len(unknown) > _LINES_NAMED else ''}); "
            "expected one that `fintune-kit transactions taxonomy` lists, or one of its aliases"
        )
    return [replace(row, category=category or "") for row, category in zip(rows, categories, strict=True)]


def _with_sides(rows: list[Transaction]) -> list[Transaction]:
    """A side for rows whose merchant is unknown: one in five of the merchants is unseen, at least one.

    A merchant of the taxonomy keeps the side that it has there, unless that leaves a side empty.
    """
    own = [index for index, row in enumerate(rows) if not row.split]
    texts = [rows[index].merchant or rows[index].description for index in own]
    keys = dict(zip(own, merchant_keys(texts), strict=True))
    known = {fold(m.name): m.split for c in load_taxonomy().categories for g in c.groups for m in g.merchants}
    others = sorted({*keys.values()} - {*known}, key=lambda key: hashlib.sha256(key.encode()).digest())
    unseen = {*others[: round(len(others) * _UNSEEN_SHARE)]} | {key for key in keys.values() if key in known}
    unseen -= {key for key, side in known.items() if side == "train"}
    if not unseen or unseen >= {*keys.values()}:
        mixed = sorted({*keys.values()}, key=lambda key: hashlib.sha256(key.encode()).digest())
        unseen = {*mixed[: max(1, round(len(mixed) * _UNSEEN_SHARE))]}
    sides: dict[bool, Split] = {True: "unseen", False: "train"}
    return [
        replace(row, merchant=keys[index], split=sides[keys[index] in unseen]) if index in keys else row
        for index, row in enumerate(rows)
    ]


def _check_sides(statement: Path, *, train: Sequence[Transaction], unseen: Sequence[Transaction]) -> None:
    """Both sides hold transactions, and no merchant is on both.

    Raises:
        UserError: a side is empty, or a split that was written by hand puts a merchant on both.
    """
    sides = {row.merchant for row in train}, {row.merchant for row in unseen}
    if not all(sides):
        missing = "of unseen merchants to evaluate on" if sides[0] else "to train on"
        raise UserError(
            f"{statement} gives no transaction {missing}: its labelled ones are of {len(sides[0] | sides[1])} "
            "merchants, all on one side; expected merchants on both: import a longer period, or label more merchants"
        )
    if sides[0] & sides[1]:
        raise UserError(
            f"{len(sides[0] & sides[1])} merchants in {statement} have the split train in one line and unseen in "
            "another; expected one for each merchant: empty the column `split`, and it is chosen"
        )


def _even_sample(rows: list[Transaction], *, count: int, rng: random.Random) -> list[Transaction]:
    """At most `count` rows, category after category in turn, each with its merchants in turn."""
    queues: dict[str, list[Transaction]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    shuffled = rng.sample(rows, len(rows))
    turn: dict[int, int] = {}
    for number, row in enumerate(shuffled):
        seen[row.category, row.merchant] += 1
        turn[number] = seen[row.category, row.merchant]
    for number in sorted(range(len(shuffled)), key=lambda n: turn[n]):
        queues.setdefault(shuffled[number].category, []).append(shuffled[number])
    chosen: list[Transaction] = []
    depth = 0
    while len(chosen) < count and any(depth < len(queue) for queue in queues.values()):
        chosen += [queues[label][depth] for label in sorted(queues) if depth < len(queues[label])]
        depth += 1
    return rng.sample(chosen[:count], min(count, len(chosen)))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    written = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    return written
