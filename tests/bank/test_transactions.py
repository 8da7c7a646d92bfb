"""Synthetic statements: seeded, labelled, split by merchant."""

import datetime
import hashlib
import json
import re
import tomllib
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.statements.load import load_statement
from fintune_kit.bank.synthetic import descriptors
from fintune_kit.bank.synthetic.generate import (
    generate_statements,
    synthetic_transactions,
    write_bank_export,
)
from fintune_kit.bank.taxonomy import Merchant, load_taxonomy
from fintune_kit.bank.transactions import (
    HEADER,
    Transaction,
    read_statement,
    save_statement,
    spending_by_month,
    totals_by_category,
)
from fintune_kit.errors import MissingInputError, UserError

DESCRIPTORS = Path(descriptors.__file__).with_suffix(".toml")


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
    for sign in (
        "SQ *",
        "TST* ",
        "POS DEBIT",
        "UPI",
        "SEPA",
        "CARD PAYMENT TO",
        "IBAN",
        " debited from A/c ",
        "Paid Rs ",
    ):
        assert sign in text, sign
    own_forms = ("AMZN", "AMAZON", "Amazon", "Spotify P", "NETFLIX.COM ", "UBER *", "AIRBNB *", "EBAY O*")
    assert any(form in text for form in own_forms), "no merchant is written as it writes itself"
    assert "{" not in text
    assert len({r.description for r in rows}) > 0.6 * len(rows)


def test_a_tills_prefix_fits_the_trade(rows: list[Transaction]) -> None:
    restaurants = [r for r in rows if r.description.startswith("TST*")]
    assert len(restaurants) > 5
    assert {r.category for r in restaurants} == {"Food & Dining"}
    assert "Groceries" not in {r.category for r in rows if r.description.startswith(("SQ *", "ZTL*", "SumUp"))}


def test_a_chain_stands_in_its_own_country_and_is_paid_in_its_language() -> None:
    writer = descriptors.Descriptors(seed=1)
    homes = {"REWE": "eu", "MERCADONA": "eu", "H-E-B": "us"}
    found = {
        name: [
            writer.line(
                Merchant(name=name, category="Groceries", regions=(region,), split="train"),
                kind="card",
                region=region,
                day=datetime.date(2024, 3, 1),
                person=("Ada", "Lovelace"),
                place=place,
                cents=-500,
                currency="EUR",
            )
            for place in range(200)
        ]
        for name, region in homes.items()
    }
    assert any(text.startswith("KARTENZAHLUNG REWE") for text in found["REWE"])
    assert not [text for text in found["REWE"] if re.match("CB |PAIEMENT|COMPRA|BEA,|PAGAMENTO", text)]
    assert any(text.startswith("COMPRA EN MERCADONA") for text in found["MERCADONA"])
    states = {match[1] for text in found["H-E-B"] if (match := re.search(r"H-E-B (?:[A-Z]+ )+([A-Z]{2})$", text))}
    assert states == {"TX"}


def test_an_amount_in_the_text_is_the_transactions_own(rows: list[Transaction]) -> None:
    told = [(r.amount, m[1]) for r in rows if (m := re.search(r"(?:Rs\.? ?|INR )(\d+(?:\.\d\d)?)\b", r.description))]
    assert len(told) > 50
    assert all(abs(amount) == Decimal(text) for amount, text in told)


def test_an_amount_abroad_times_its_rate_is_the_amount(rows: list[Transaction]) -> None:
    found = [(r, m) for r in rows if (m := re.search(r"(\d+\.\d\d) ([A-Z]{3}) @ (\d+\.\d+)", r.description))]
    assert len(found) > 10
    for r, m in found:
        assert m[2] != r.currency
        assert float(m[1]) * float(m[3]) == pytest.approx(abs(float(r.amount)), rel=0.01, abs=0.01 * float(m[3]))


def test_words_of_the_trade_are_taught_and_no_word_is_an_unseen_merchant(rows: list[Transaction]) -> None:
    categories = load_taxonomy().categories
    words = {word.upper() for c in categories for word in (*c.aliases, *c.words)}
    merchants = {m.name for c in categories for g in c.groups for m in g.merchants}
    plain = [r for r in rows if r.merchant in words - merchants]
    assert 0.05 < len(plain) / len(rows) < 0.15
    assert {r.split for r in plain} == {"train"}
    assert {r.category for r in plain} == set(load_taxonomy().names)
    assert sum(r.description.upper() == r.merchant for r in rows if r not in plain) > 0.03 * len(rows), "no bare names"


def test_money_that_arrives_by_transfer_comes_from_somebody(rows: list[Transaction]) -> None:
    arrived = [r.description for r in rows if r.category == "Transfers" and r.amount > 0]
    assert len(arrived) > 20
    assert not [text for text in arrived if re.search(r" TO [A-Z][a-z]+ [A-Z]|/DR/", text)]


def test_every_chain_with_a_home_is_a_merchant_of_the_taxonomy_and_every_home_has_a_town() -> None:
    table = tomllib.loads(DESCRIPTORS.read_text(encoding="utf-8"))
    merchants = {m.name: m for c in load_taxonomy().categories for g in c.groups for m in g.merchants}
    areas = {*("DE", "FR", "ES", "NL", "IT"), *table["towns"], *table["places"]["gb"], *table["places"]["in"]}
    areas |= {place[-2:] for place in table["places"]["us"]}
    for homes, chains in table["homes"].items():
        assert set(homes.split()) <= areas, homes
        assert set(chains.split("; ")) <= set(merchants), homes


def test_spending_is_money_out_less_money_back_by_month_without_income_and_transfers() -> None:
    rows = [
        row(amount="-5.00"),
        row(amount="2.00"),
        row(amount="-1.00", date="2024-04-30"),
        row(amount="-3.00", category=""),
        row(amount="900", category="Income"),
        row(amount="-50", category="Transfers"),
    ]
    assert spending_by_month(rows) == {
        "USD": {"Shopping": {"2024-03": Decimal(3), "2024-04": Decimal(1)}, "": {"2024-03": Decimal(3)}}
    }


def test_the_export_of_an_invented_bank_is_read_with_its_signs_and_balance(tmp_path: Path) -> None:
    written = write_bank_export(tmp_path / "bank.csv", count=60, seed=7)
    statement = load_statement(tmp_path / "bank.csv")
    assert written == len(statement.transactions) == 60
    own = list(synthetic_transactions(count=60, seed=7))
    assert [(t.date, t.amount, t.currency) for t in statement.transactions] == [
        (t.date, t.amount, t.currency) for t in own
    ]
    assert not any(t.category for t in statement.transactions)
    assert statement.notes == []


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
