"""The task `transactions`: chosen one at a time, written as JSON in batches, added up by code alone."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.conversations import TASK_TYPE, batch_answer, to_conversations
from fintune_kit.bank.synthetic.generate import generate_statements
from fintune_kit.conversations import Conversation
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate.generation import GeneratedText
from fintune_kit.evaluate.judging import judge
from fintune_kit.evaluate.records import task_record
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.sets.named import load_tasks
from fintune_kit.evaluate.stage import evaluate
from fintune_kit.evaluate.tables import format_table
from fintune_kit.evaluate.tasks import Task
from fintune_kit.evaluate.transactions import format_totals, transactions_tasks
from fintune_kit.publish.model_card import write_model_card
from fintune_kit.workspace import MANIFEST, Workspace, sha256_of, write_json
from tests.evaluate.world import World

ROWS = [  # two currencies; the shop gave some of it back
    {"text": "CORNER CAFE $6.50", "target": "Food & Dining", "amount": "-6.50", "currency": "USD", "merchant": "C"},
    {"text": "CORNER CAFE $3.25", "target": "Food & Dining", "amount": "-3.25", "currency": "USD", "merchant": "C"},
    {"text": "HALDEN SHOES $80.00", "target": "Shopping", "amount": "-80.00", "currency": "USD", "merchant": "H"},
    {"text": "HALDEN SHOES +$20.10", "target": "Shopping", "amount": "20.10", "currency": "USD", "merchant": "H"},
    {"text": "BUS 12 €2.10", "target": "Transport", "amount": "-2.10", "currency": "EUR", "merchant": "B"},
]


def batch(*rows: dict) -> dict:
    texts = [row["text"] for row in rows]
    return {"text": "\n".join(texts), "target": batch_answer(texts, [row["target"] for row in rows])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of stage 1, written by hand."""
    return write(tmp_path / "transactions", ROWS, [batch(*ROWS[:3]), batch(*ROWS[3:])])


def write(folder: Path, rows: Sequence[dict], batches: Sequence[dict]) -> Path:
    folder.mkdir()
    for name, lines in (("unseen_merchants.jsonl", rows), ("unseen_merchants_batch.jsonl", batches)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    files = {path.name: sha256_of(path) for path in folder.iterdir()}
    write_json(folder / MANIFEST, {"stage": "transactions", "files": files})
    return folder


def tasks_of(folder: Path, train: Sequence[Conversation] = ()) -> list[Task]:
    return transactions_tasks(folder, train=train, max_generated=100)


def chosen(task: Task, labels: Sequence[str]) -> list[Answer]:
    pairs = zip(task.questions, labels, strict=True)
    return [Answer(text=label, right=label == q.target, value=float(label == q.target)) for q, label in pairs]


def test_a_transaction_is_asked_as_in_training_with_all_categories(folder: Path) -> None:
    single, _ = tasks_of(folder)
    question = single.questions[0]
    assert (single.name, single.metric, len(single.questions)) == ("transactions", "accuracy", 5)
    assert question.messages[-1]["content"] == "Categorize: CORNER CAFE $6.50"
    assert all(option in question.messages[0]["content"] for option in question.options)
    assert len(question.options) >= 15


def test_floors_learn_from_the_transactions_of_training_only(folder: Path) -> None:
    def row(task_type: str, answer: str) -> Conversation:
        messages = ({"role": "user", "content": "Categorize: X"}, {"role": "assistant", "content": answer})
        return Conversation(row_id="r", messages=messages, task_type=task_type, source="rows.csv", conversation_id="r")

    train = [row(TASK_TYPE, "Shopping"), row(TASK_TYPE, '[{"transaction": "X"}]'), row("topic", "Shopping")]
    assert tasks_of(folder, train)[0].labelled == {"": (("Categorize: X",), ("Shopping",))}


def test_totals_are_exact_sums_by_currency_of_each_sides_labels(folder: Path) -> None:
    single, _ = tasks_of(folder)
    base = chosen(single, ["Shopping"] * 5)
    adapter = chosen(single, ["Food & Dining", "Food & Dining", "Shopping", "Shopping", "Travel"])
    record = task_record(single, {"base": base, "adapter": adapter}, seen=[False] * 5, seed=0)
    assert record["totals"] == {
        "true": {"EUR": {"Transport": "-2.10"}, "USD": {"Food & Dining": "-9.75", "Shopping": "-59.90"}},
        "base": {"EUR": {"Shopping": "-2.10"}, "USD": {"Shopping": "-69.65"}},
        "adapter": {"EUR": {"Travel": "-2.10"}, "USD": {"Food & Dining": "-9.75", "Shopping": "-59.90"}},
    }
    assert format_totals(record).splitlines() == [
        "USD                               true          base       adapter",
        "Food & Dining                    -9.75          0.00         -9.75",
        "Shopping                        -59.90        -69.65        -59.90",
    ]
    assert record["adapter"]["by_category"]["Food & Dining"] == {"n": 2, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert record["base"]["by_category"]["Shopping"] == {
        "n": 2, "precision": 0.4, "recall": 1.0, "f1": pytest.approx(4 / 7),
    }  # fmt: skip


def test_batches_are_counted_by_their_json_and_transactions_by_the_answers_that_parse(folder: Path) -> None:
    _, batches = tasks_of(folder)
    first, second = (question.target for question in batches.questions)
    one_wrong = first.replace('"Shopping"', '"Travel"')
    base = judge(
        batches, [GeneratedText("Food & Dining, I think", True), GeneratedText(f"```json\n{second}\n```", True)]
    )
    adapter = judge(batches, [GeneratedText(one_wrong, True), GeneratedText(second[:-1], False)])
    record = task_record(batches, {"base": base, "adapter": adapter}, seen=[False] * 2, seed=0)
    assert record["base"]["json_valid"]["share"] == 0.0
    assert record["base"]["transactions"] == {"n": 5, "readable": 0, "accuracy": 0.0, "macro_f1": 0.0}
    assert record["adapter"]["json_valid"]["share"] == 0.5
    assert record["adapter"]["transactions"]["readable"] == 3
    assert record["adapter"]["transactions"]["accuracy"] == pytest.approx(2 / 5)
    assert [answer.value for answer in adapter] == [pytest.approx(2 / 3), 0.0]
    assert [answer.unreadable for answer in adapter] == [False, True]
    assert not any(answer.right for answer in adapter), "a batch is right where each of its transactions is"
    assert all(answer.right for answer in judge(batches, [GeneratedText(first, True), GeneratedText(second, True)]))


@pytest.mark.parametrize("answer", ["1" * 5_000, "[" * 100_000, '[{"transaction": "BUS 12 €2.10", "category": []}]'])
def test_no_answer_of_a_model_breaks_the_judging(folder: Path, answer: str) -> None:
    batches = replace(tasks_of(folder)[1], questions=tasks_of(folder)[1].questions[1:])
    assert judge(batches, [GeneratedText(answer, True)])[0].unreadable


def test_at_most_so_many_batches_are_generated(folder: Path) -> None:
    _, batches = transactions_tasks(folder, train=(), max_generated=1)
    assert (len(batches.questions), batches.of_total) == (1, 2)
    assert 1 <= batches.max_new_tokens <= 1024


def test_without_the_folder_the_error_says_which_command_writes_it(folder: Path, tmp_path: Path) -> None:
    for missing in (None, tmp_path / "nothing"):
        with pytest.raises(MissingInputError, match="`fintune-kit transactions conversations`"):
            load_tasks(["transactions"], train=[], transactions=missing, max_generated=1)
    assert len(load_tasks(["transactions"], train=[], transactions=folder, max_generated=1)) == 2
    assert load_tasks([], train=[], transactions=folder, max_generated=1) == []


def test_a_changed_file_is_named_and_none_of_its_rows_is_shown(folder: Path) -> None:
    file = folder / "unseen_merchants.jsonl"
    file.write_text(file.read_text().replace("CORNER", "SECRET"))
    with pytest.raises(UserError, match=r"unseen_merchants.jsonl has changed") as caught:
        tasks_of(folder)
    assert "SECRET" not in str(caught.value)


def test_a_folder_without_unseen_merchants_asks_for_more(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no transaction"):
        tasks_of(write(tmp_path / "transactions", [], []))


def test_evaluated_and_reported_from_the_folder_that_stage_1_writes(world: World, tmp_path: Path) -> None:
    generate_statements(count=60, seed=3, out=tmp_path / "statements")
    to_conversations(tmp_path / "statements", out=tmp_path / "transactions", seed=3)
    adapter = Path(shutil.copytree(world.adapter, tmp_path / "adapter"))
    scores = evaluate(
        world.recipe, Workspace(tmp_path), base=world.base, adapter=adapter, conversations=world.conversations,
        packed=world.packed,
        out=tmp_path / "evaluation", tasks=["transactions"], transactions=tmp_path / "transactions", max_generated=1,
    )  # fmt: skip
    by_name = {task["name"]: task for task in scores["tasks"]}
    true = by_name["transactions"]["totals"]["true"]
    lines = (tmp_path / "transactions" / "unseen_merchants.jsonl").read_text(encoding="utf-8").splitlines()
    amounts = [Decimal(json.loads(line)["amount"]) for line in lines]
    assert sum(Decimal(x) for sums in true.values() for x in sums.values()) == sum(amounts)
    table = format_table(scores)
    assert "transactions in batches, JSON: " in table
    assert "valid JSON, " in table
    manifest = json.loads((tmp_path / "evaluation" / MANIFEST).read_text())
    assert manifest["inputs"]["transactions"] == sha256_of(tmp_path / "transactions" / MANIFEST)
    card = write_model_card(
        adapter, run=world.run, packed=world.packed, conversations=world.conversations,
        evaluation=tmp_path / "evaluation",
    ).read_text()  # fmt: skip
    assert "transactions in batches, JSON, base: 0.000 [0.000 to 0.793] of the answers are the strict JSON" in card
    assert "| currency | category | true | base | adapter |" in card
