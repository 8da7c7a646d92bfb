"""A merchant has one key, whatever its bank writes around it; a person's label is found in any statement."""

from collections import defaultdict

import pytest

from fintune_kit.bank.merchants import MerchantLabels, merchant_keys
from fintune_kit.bank.synthetic.generate import synthetic_transactions


def test_tills_codes_towns_and_placeholders_are_no_part_of_the_key() -> None:
    lines = [
        "SQ *WILLOWMERE BAKES 0423 OAKLAND CA",
        "POS DEBIT 4471 WILLOWMERE BAKES",
        "WILLOWMERE BAKES [REF-90aa3f]",
        "Willowmere Bakes",
    ]
    assert set(merchant_keys(lines)) == {"willowmere bakes"}


def test_words_that_a_statement_writes_before_and_after_many_merchants_are_learned_from_it() -> None:
    shops = ("alpha", "bravo", "charlie", "delta", "echo")
    assert merchant_keys([f"Zettelkauf {shop} Oberhof" for shop in shops]) == list(shops)


def test_a_merchant_of_the_taxonomy_is_its_own_key_and_a_service_only_where_nothing_else_is_named() -> None:
    assert merchant_keys(["UPI/[REF-1]/DR/SWIGGY/HDFC", "ZELLE TO [NAME-5be01c]"]) == ["swiggy", "zelle"]


def test_glued_and_longer_spellings_are_one_merchant() -> None:
    assert len(set(merchant_keys(["WILLOWMERE BAKES", "WILLOWMERE BAKES SOUTH", "PAYPAL *WILLOWMEREBAKES"]))) == 1


def test_a_line_without_a_merchant_has_an_empty_key() -> None:
    assert merchant_keys(["[REF-90aa3f] 123"]) == [""]


def test_few_merchants_of_generated_statements_have_more_than_one_key() -> None:
    rows = [
        row
        for row in synthetic_transactions(count=3_000, seed=9)
        if row.category not in ("Transfers", "Housing & Utilities")
    ]
    keys = defaultdict(set)
    for row, key in zip(rows, merchant_keys([row.description for row in rows]), strict=True):
        keys[row.merchant].add(key)
    assert len(keys) > 300
    assert sum(len(found) > 1 for found in keys.values()) < 0.06 * len(keys)


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ("SQ *BLUE BOTTLE 0423 OAKLAND", "Groceries"),
        ("Blue  Bottle Coffee", "Health"),
        ("BLUE BOTTLED WATER", None),
        ("BLUE BOTTLE COFFEE AT BLUE BOTTLE", "Health"),
        ("BLUE BOTTLE AND BLUE BOTTLE COFFEE", "Health"),
        ("SHOP [NAME-b1]", None),
    ],
)
def test_the_longest_labelled_merchant_in_whole_words_decides(line: str, category: str | None) -> None:
    labels = MerchantLabels({"blue bottle": "Groceries", "Blue Bottle Coffee": "Health", "name": "Travel"})
    assert labels.category_of(line) == category
