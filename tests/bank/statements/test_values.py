"""Dates and amounts as banks write them."""

# ruff: noqa: E501 (lines as banks write them)

from decimal import Decimal

import pytest

from fintune_kit.bank.statements.values import currency_of, read_amounts, read_dates
from fintune_kit.errors import UserError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["03/04/2024", "14/04/2024"], ["2024-04-03", "2024-04-14"]),
        (["03/04/2024", "04/14/2024"], ["2024-03-04", "2024-04-14"]),
        (["03.04.24", "5.4.2024"], ["2024-04-03", "2024-04-05"]),
        (["2024-04-03T10:00:00+01:00", "20240404", "20240405120000[-5:EST]"], ["2024-04-03", "2024-04-04", "2024-04-05"]),
        (["3 Apr 2024", "04-Mai-24", "Apr 5, 2024", "6. März 2024"], ["2024-04-03", "2024-05-04", "2024-04-05", "2024-03-06"]),
        (["01/02/2024", "12/02/2024", "01/03/2024"], ["2024-02-01", "2024-02-12", "2024-03-01"]),
        (["31/02/2024", "total", ""], [None, None, None]),
    ],
)  # fmt: skip
def test_a_column_of_dates_is_read_in_its_own_order(written: list[str], read: list[str]) -> None:
    assert read_dates(written) == read


def test_dates_that_could_be_either_are_asked_for_and_then_read_as_told() -> None:
    either = ["03/04/2024", "03/04/2024"]
    with pytest.raises(UserError, match="--date-order"):
        read_dates(either)
    assert read_dates(either, order="mdy") == ["2024-03-04"] * 2
    assert read_dates(either, day_first_hint=True) == ["2024-04-03"] * 2


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1,234.56", "(12.50)", "12.50-", "12.50 DR", "12.50 CR"], ["1234.56", "-12.50", "-12.50", "-12.50", "12.50"]),
        (["1.234,56 €", "−12,50 €", "17,8"], ["1234.56", "-12.50", "17.8"]),
        (["1 234,56", "1'000,00", "-5,00"], ["1234.56", "1000.00", "-5.00"]),
        (["₹1,23,456.00", "Rs. 50", "$-6.50", "-$6.50", "+7.00"], ["123456.00", "50", "-6.50", "-6.50", "7.00"]),
        (["1,234", "12,345,678"], ["1234", "12345678"]),
        (["n/a", "", "--", "12:30"], [None] * 4),
    ],
)
def test_a_column_of_amounts_decides_what_a_comma_means(written: list[str], read: list[str | None]) -> None:
    assert read_amounts(written) == [None if value is None else Decimal(value) for value in read]


def test_a_currency_is_taken_only_where_all_agree() -> None:
    assert currency_of(["€5", "6,00 EUR"]) == "EUR"
    assert currency_of(["$5", "£6"]) == ""
