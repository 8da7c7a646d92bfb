"""Synthetic statements: seeded, labelled, split by merchant."""

import hashlib
import json
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.synthetic.generate import generate_statements, synthetic_transactions
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import (
    HEADER,
    Transaction,
    read_statement,
    save_statement,
    totals_by_category,
)
from fintune_kit.errors import MissingInputError, UserError


@pytest.fixture(scope="module")
def rows() -> list[Transaction]:
    return list(synthetic_transactions(count=9_000, seed=5))


def row(description: str = "SHOP", amount: str = "-1.00", **changes: str) -> Transaction:
    values = {"account": "a", "date": "2024-03-01", "currency": "USD", "category": "Shopping", **changes}
    return Transaction(description=description, amount=Decimal(amount), **values)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate_statements(count=700, seed=seed, out=tmp_path / name)
    digests = {n: hashlib.sha256((tmp_path / n / "statements.csv").read_bytes()).hexdigest() for n in "abc"}
    assert digests["a"] == digests["b"] != digests["c"]
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_exactly_as_many_rows_as_asked_for_and_read_back_as_written(tmp_path: Path) -> None:
    manifest = generate_statements(count=1_234, seed=1, out=tmp_path / "out")
    assert read_statement(tmp_path / "out") == list(synthetic_transactions(count=1_234, seed=1))
    assert manifest["counts"]["transactions"] == 1_234 == sum(manifest["counts"]["category"].values())
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["seed"] == 1


def test_more_people_do_not_change_the_people_before_them() -> None:
    few, many = (list(synthetic_transactions(count=count, seed=3)) for count in (500, 2_500))
    assert [r.date for r in few] == [r.date for r in many[:500]]
    assert [r.amount for r in few] == [r.amount for r in many[:500]]


def test_a_merchant_has_one_category_and_one_side(rows: list[Transaction]) -> None:
    sides = defaultdict(set)
    for r in rows:
        sides[r.merchant, r.category].add(r.split)
    assert {len(splits) for splits in sides.values()} == {1}
    merchants = Counter(merchant for merchant, _ in sides)
    assert all(merchants[m] == 1 for m in merchants if m.isupper() and " " not in m)
    share = sum(r.split == "unseen" for r in rows) / len(rows)
    assert 0.1 < share < 0.35


def test_people_have_salaries_rent_subscriptions_refunds_and_journeys(rows: list[Transaction]) -> None:
    assert {r.category for r in rows} == set(load_taxonomy().names)
    assert all(r.amount > 0 for r in rows if r.category == "Income")
    assert any(r.amount > 0 and r.category == "Shopping" for r in rows), "no refund"
    assert any("@" in r.description and "EUR" in r.description and r.currency != "EUR" for r in rows), "no journey"
    assert {r.currency for r in rows} == {"USD", "GBP", "EUR", "INR"}
    contracts = defaultdict(list)
    for r in rows:
        if r.category == "Subscriptions":
            contracts[r.account, r.merchant].append(r.amount)
    longest = max(contracts.values(), key=len)
    assert len(longest) >= 6
    assert len(set(longest)) == 1, "a subscription costs the same each month"


def test_a_statement_is_in_the_order_of_its_days(rows: list[Transaction]) -> None:
    by_account = defaultdict(list)
    for r in rows:
        by_account[r.account].append(r.date)
    assert len(by_account) > 3
    assert all(dates == sorted(dates) for dates in by_account.values())


def test_lines_read_as_banks_write_them(rows: list[Transaction]) -> None:
    text = "\n".join(r.description for r in rows)
    for sign in ("SQ *", "POS DEBIT", "UPI", "SEPA", "CARD PAYMENT TO", "IBAN"):
        assert sign in text, sign
    own_forms = ("AMZN", "AMAZON", "Amazon", "Spotify P", "NETFLIX.COM ", "UBER *", "AIRBNB *", "EBAY O*")
    assert any(form in text for form in own_forms), "no merchant is written as it writes itself"
    assert "{" not in text
    assert len({r.description for r in rows}) > 0.6 * len(rows)


def test_totals_are_added_by_code_per_currency_and_category() -> None:
    rows = [row(amount="-0.10"), row(amount="-0.20"), row(amount="5", currency="EUR"), row("X", "-1", category="")]
    assert totals_by_category(rows) == {
        "USD": {"Shopping": Decimal("-0.30"), "": Decimal("-1")},
        "EUR": {"Shopping": Decimal("5")},
    }
    relabelled = totals_by_category(rows, labels={"SHOP": "Health"})
    assert relabelled["USD"] == {"Health": Decimal("-0.30"), "": Decimal("-1")}


@pytest.mark.parametrize(("count", "seed", "flag"), [(0, 1, "--count"), (5, -1, "--seed")])
def test_what_cannot_be_generated_is_refused_by_name(count: int, seed: int, flag: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=flag):
        generate_statements(count=count, seed=seed, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_statement_is_named_by_its_line_and_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "statements.csv"
    file.write_text(f"{HEADER}\na,2024-03-01,IRMA OYELARAN 4111111111111111,twelve,USD,,,\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 2") as failure:
        read_statement(file)
    assert "OYELARAN" not in str(failure.value)
    assert "4111" not in repr(failure.value.__context__ if not failure.value.__suppress_context__ else "")
    with pytest.raises(MissingInputError, match="transactions generate"):
        read_statement(tmp_path / "nowhere.csv")


def test_a_file_that_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "taxes.csv"
    precious.write_text("my only copy", encoding="utf-8")
    with pytest.raises(UserError, match="not ours"):
        save_statement(precious, [row()], source=tmp_path / "bank.csv")
    assert precious.read_text(encoding="utf-8") == "my only copy"
    assert [p.name for p in tmp_path.iterdir()] == ["taxes.csv"]
