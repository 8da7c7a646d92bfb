"""Dates and amounts as banks write them."""

# ruff: noqa: E501 (lines as banks write them)

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.bank.statements.values import (
    Style,
    currency_code,
    currency_of,
    parse_amount,
    read_amounts,
    read_dates,
    unguarded,
)
from fintune_kit.errors import UserError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["03/04/2024", "14/04/2024"], ["2024-04-03", "2024-04-14"]),
        (["03/04/2024", "04/14/2024"], ["2024-03-04", "2024-04-14"]),
        (["03.04.24", "5.4.2024", "6. 4. 2024"], ["2024-04-03", "2024-04-05", "2024-04-06"]),
        (["2024-04-03T10:00:00+01:00", "20240404", "20240405120000[-5:EST]"], ["2024-04-03", "2024-04-04", "2024-04-05"]),
        (["3 Apr 2024", "04-Mai-24", "Apr 5, 2024", "6. März 2024"], ["2024-04-03", "2024-05-04", "2024-04-05", "2024-03-06"]),
        (["05/Mar/2024", "05MAR2024", "2024-Mar-05", "Tuesday, March 5, 2024"], ["2024-03-05"] * 4),
        (["5 mars 2024", "5 de marzo de 2024", "5 maart 2024", "mar. 5 mars 2024", "5 marca 2024"], ["2024-03-05"] * 5),
        (["5 août 2024", "5 agosto 2024", "5 sierpnia 2024", "5 srpna 2024", "5 Ağustos 2024", "5 ago 2024"], ["2024-08-05"] * 6),
        (["2024年3月5日", "2024.03.05"], ["2024-03-05"] * 2),
        (["45356", "45357.5"], ["2024-03-05", "2024-03-06"]),
        (["15/03/2024 10:22", "16/03/2024 12:00 AM"], ["2024-03-15", "2024-03-16"]),
        (['="15/03/2024"', "'16/03/2024"], ["2024-03-15", "2024-03-16"]),
        (["01/02/2024", "12/02/2024", "01/03/2024"], ["2024-02-01", "2024-02-12", "2024-03-01"]),
        (["31/02/2024", "total", "", "12.50"], [None, None, None, None]),
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


def test_other_dates_of_the_same_file_decide_what_a_column_leaves_open() -> None:
    assert read_dates(["03/04/2024"], evidence=["31/03/2024"]) == ["2024-04-03"]
    assert read_dates(["03/04/2024"], evidence=["03/31/2024"]) == ["2024-03-04"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            ["1,234.56", "(12.50)", "12.50-", "12.50 DR", "12.50 CR", "12.50-CR", "$(12.50)"],
            ["1234.56", "-12.50", "-12.50", "-12.50", "12.50", "12.50", "-12.50"],
        ),
        (["1.234,56 €", "−12,50 €", "17,8", "4,20-€", "EUR -3,00"], ["1234.56", "-12.50", "17.8", "-4.20", "-3.00"]),
        (
            ["1 234,56", "1'000,00", "-5,00", "2\u00a0000,00", "-1\u202f234,56", "1’000,00"],
            ["1234.56", "1000.00", "-5.00", "2000.00", "-1234.56", "1000.00"],
        ),
        (
            ["₹1,23,456.00", "Rs. 50", "$-6.50", "-$6.50", "+7.00", "Rs 500/-", "50.90 Cr."],
            ["123456.00", "50", "-6.50", "-6.50", "7.00", "500", "50.90"],
        ),
        (["1,234", "12,345,678"], ["1234", "12345678"]),
        (["-US$4.20", "C$12.00", "R$ 5.00", "A$1,900.00"], ["-4.20", "12.00", "5.00", "1900.00"]),
        (["Fr. 12.50", "3.-", "-3.-", "CHF 1’234.50", "5.—"], ["12.50", "3", "-3", "1234.50", "5"]),
        (
            ["12,50 kr", "kr 3,00", "99 Kč", "12,50 zł", "1 500 Ft", "12,-"],
            ["12.50", "3.00", "99", "12.50", "1500", "12"],
        ),
        (['="-4.20"', '="900.00"', "'-3.00", "'5.00"], ["-4.20", "900.00", "-3.00", "5.00"]),
        ([".47", "-.05", "1.00"], ["0.47", "-0.05", "1.00"]),
        (["12,50 S", "3,00 H", "12,50 Soll"], ["-12.50", "3.00", "-12.50"]),
        (["n/a", "", "--", "12:30", "2024-03-05", "12 50", "100K", "two"], [None] * 8),
    ],
)
def test_a_column_of_amounts_is_read(written: list[str], read: list[str | None]) -> None:
    assert read_amounts(written) == [None if value is None else Decimal(value) for value in read]


@pytest.mark.parametrize(
    ("written", "style", "read"),
    [
        (["-1.000", "-3.000", "-12"], Style(comma_decimal=True), ["-1000", "-3000", "-12"]),  # a delimiter ; says it
        (["-1.000", "-12"], Style(decimals=2), ["-1000", "-12"]),  # euros have no thousandths
        (["-1.250", "-3.500"], Style(decimals=3), ["-1.250", "-3.500"]),  # dinars have
        (["15.000", "1.500"], Style(decimals=0), ["15000", "1500"]),  # forints have no decimals
        (["-1.250", "-4.20"], Style(), ["-1.250", "-4.20"]),
        (["0.125", "-1.250"], Style(), ["0.125", "-1.250"]),
        (["1.000", "2.000,50"], Style(), ["1000", "2000.50"]),
    ],
)
def test_what_a_lone_mark_means_is_decided_by_column_currency_and_delimiter(
    written: list[str], style: Style, read: list[str]
) -> None:
    assert read_amounts(written, style=style) == [Decimal(value) for value in read]


@pytest.mark.parametrize("written", [["-1.000", "-12"], ["4.200", "12.500"], ["1.50", "1,50"]])
def test_amounts_that_could_be_either_are_asked_for(written: list[str]) -> None:
    with pytest.raises(UserError, match="--decimal"):
        read_amounts(written)
    assert read_amounts(["-1.000", "-12"], mark=",") == [Decimal(-1000), Decimal(-12)]
    assert read_amounts(["-1.000", "-12"], mark=".") == [Decimal("-1.000"), Decimal(-12)]


def test_an_amount_whose_groups_do_not_fit_the_decimal_mark_is_not_read() -> None:
    assert read_amounts(["1.00", "12,5", "1,2345", "1,234.00"], mark=".") == [
        Decimal("1.00"),
        None,
        None,
        Decimal("1234.00"),
    ]


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{:,.2f}", "{:.2f}", "${:,.2f}", "{:,.2f} USD"]))
def test_what_is_written_with_a_point_is_read_back(cents: int, form: str) -> None:
    amount = Decimal(cents).scaleb(-2)
    assert read_amounts([form.format(amount), "0.25"]) == [amount, Decimal("0.25")]


def test_a_written_amount_keeps_its_currency_and_mark() -> None:
    assert parse_amount("-US$4.20") == ("4.20", True, "", "USD", False, "")
    assert parse_amount("1 234,50 EUR DR") == ("1234,50", False, "out", "EUR", True, "")
    assert parse_amount("$4.20") == ("4.20", False, "", "USD", False, "$")


def test_a_currency_is_taken_only_where_all_agree() -> None:
    assert currency_of(["€5", "6,00 EUR"]) == "EUR"
    assert currency_of(["$5", "£6"]) == ""
    assert currency_of(["Betrag (CHF)"]) == "CHF"
    assert currency_of(["Amount in ABC"]) == ""
    assert [currency_code(value) for value in ("eur", "R$", "Kč", "bread")] == ["EUR", "BRL", "CZK", ""]


def test_a_cell_is_freed_from_what_guards_it_from_excel() -> None:
    assert [unguarded(cell) for cell in ('="BAKERY"', "'0012", ' "x" ', "=1")] == ["BAKERY", "0012", '"x"', "1"]


def test_of_years_of_two_digits_that_come_first_the_statement_is_the_shorter_one() -> None:
    assert read_dates(["24-01-05", "24-01-17", "24-02-28"]) == ["2024-01-05", "2024-01-17", "2024-02-28"]
    assert read_dates(["05/01/24", "17/01/24", "20/02/24"]) == ["2024-01-05", "2024-01-17", "2024-02-20"]
    assert read_dates(["12/24/23", "12/25/23", "01/02/24"]) == ["2023-12-24", "2023-12-25", "2024-01-02"]
