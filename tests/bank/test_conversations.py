"""Labelled transactions become conversations and evaluation rows; no merchant is on both sides."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.conversations import (
    batch_answer,
    batch_prompt,
    line_of,
    parse_batch_answer,
    single_prompt,
    to_conversations,
)
from fintune_kit.bank.synthetic.generate import generate_statements
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction, save_statement
from fintune_kit.conversations import find_fault
from fintune_kit.errors import UserError


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("categorize")
    generate_statements(count=4_000, seed=2, out=folder / "statements")
    to_conversations(folder / "statements", out=folder / "out", seed=4, evaluation_rows=400)
    return folder / "out"


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plain(description: str, amount: str, **values: str) -> Transaction:
    base = {"account": "", "date": "2024-03-01", "currency": "USD", **values}
    return Transaction(description=description, amount=Decimal(amount), **base)


def test_a_line_shows_the_amount_as_people_write_it() -> None:
    assert line_of(plain("Starbucks", "-6.5")) == "Starbucks $6.50"
    assert line_of(plain("ACME PAYROLL", "2500")) == "ACME PAYROLL +$2,500.00"
    assert line_of(plain("COOP", "-3", currency="CHF")) == "COOP 3.00 CHF"


def test_training_holds_single_and_batch_prompts_with_bare_and_json_answers(out: Path) -> None:
    rows = records(out / "train.jsonl")
    assert all(find_fault(row["messages"]) is None for row in rows)
    answers = [row["messages"][-1]["content"] for row in rows]
    batches = [json.loads(answer) for answer in answers if answer.startswith("[")]
    assert len(batches) > 20
    assert {answer for answer in answers if not answer.startswith("[")} <= set(load_taxonomy().names)
    assert {frozenset(entry) for batch in batches for entry in batch} == {frozenset({"transaction", "category"})}
    assert any(row["messages"][0]["content"].startswith("Categorize: ") for row in rows), "the bare form of the plan"


def test_no_merchant_of_the_evaluation_is_trained_on(out: Path) -> None:
    trained = {merchant for row in records(out / "train.jsonl") for merchant in row["merchant"].split(" | ")}
    evaluated = {row["merchant"] for row in records(out / "unseen_merchants.jsonl")}
    assert len(trained) > 100
    assert len(evaluated) > 50
    assert not trained & evaluated
    assert {row["split"] for row in records(out / "train.jsonl")} == {"train"}


def test_evaluation_rows_have_a_target_among_the_options_and_spread_over_categories(out: Path) -> None:
    rows = records(out / "unseen_merchants.jsonl")
    assert len(rows) == 400
    assert all(row["target"] in row["options"] for row in rows)
    assert len({row["target"] for row in rows}) >= 18
    for row in records(out / "unseen_merchants_batch.jsonl"):
        assert parse_batch_answer(row["target"], texts=row["text"].split("\n")) is not None


def test_the_same_seed_gives_the_same_files(out: Path, tmp_path: Path) -> None:
    generate_statements(count=4_000, seed=2, out=tmp_path / "statements")
    to_conversations(tmp_path / "statements", out=tmp_path / "out", seed=4, evaluation_rows=400)
    for name in ("train.jsonl", "unseen_merchants.jsonl", "unseen_merchants_batch.jsonl", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize(
    "answer",
    [
        "Food & Dining",
        '```json\n[{"transaction": "A $1.00", "category": "Health"}]\n```',
        '[{"transaction": "A $1.00", "category": "Pharmacy"}]',
        '[{"transaction": "B $1.00", "category": "Health"}]',
        '[{"transaction": "A $1.00", "category": "Health", "total": 1}]',
        '[{"transaction": "A $1.00", "category": "Health"}, {"transaction": "A $1.00", "category": "Health"}]',
        '{"transaction": "A $1.00", "category": "Health"}',
        "[" * 100_000,
    ],
)
def test_anything_but_the_strict_json_is_not_read(answer: str) -> None:
    assert parse_batch_answer(answer, texts=["A $1.00"]) is None
    assert parse_batch_answer(batch_answer(["A $1.00"], ["Health"]), texts=["A $1.00"]) == ["Health"]


def test_prompts_name_every_category() -> None:
    for messages in (single_prompt("A $1.00"), batch_prompt("A $1.00\nB $2.00")):
        assert all(name in messages[0]["content"] for name in load_taxonomy().names)


def test_a_persons_own_rows_are_split_by_their_words_and_unlabelled_ones_are_counted(tmp_path: Path) -> None:
    own = [plain(f"SHOP {word} {n}", "-1", category="Shopping") for word in map(str.upper, WORDS) for n in range(3)]
    own.append(plain("UNKNOWN", "-1"))
    save_statement(tmp_path / "own.csv", own, source=tmp_path / "bank.csv")
    manifest = to_conversations(tmp_path / "own.csv", out=tmp_path / "out", seed=1, batch_share=0.0)
    assert manifest["counts"]["unlabelled"] == 1
    train = {row["merchant"] for row in records(tmp_path / "out" / "train.jsonl")}
    unseen = {row["merchant"] for row in records(tmp_path / "out" / "unseen_merchants.jsonl")}
    assert train
    assert unseen
    assert not train & unseen


WORDS = (
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
)


def test_a_statement_without_labels_says_where_labels_come_from(tmp_path: Path) -> None:
    save_statement(tmp_path / "own.csv", [plain("SHOP", "-1")], source=tmp_path / "bank.csv")
    with pytest.raises(UserError, match="Mint, YNAB or Firefly"):
        to_conversations(tmp_path / "own.csv", out=tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()
