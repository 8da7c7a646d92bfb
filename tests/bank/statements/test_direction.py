"""Which way money went: marks, columns of directions, pairs of columns, signs and the running balance."""

from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.statements.direction import balance_note, two_column_amounts
from fintune_kit.bank.statements.load import load_statement
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.errors import UserError


def read(folder: Path, text: str, **options: bool | None) -> Statement:
    path = folder / "bank.csv"
    path.write_text(text, encoding="utf-8")
    return load_statement(path, **options)  # type: ignore[arg-type]


def amounts(statement: Statement) -> list[str]:
    return [str(t.amount) for t in statement.transactions]


def table(*rows: str, header: str = "Date,Description,Amount") -> str:
    return "\n".join([header, *(f"2024-03-{day:02d},{row}" for day, row in enumerate(rows, start=1))]) + "\n"


def decimals(*values: str | None) -> list[Decimal | None]:
    return [None if value is None else Decimal(value) for value in values]


@pytest.mark.parametrize(
    ("debit", "credit", "expected"),
    [
        (["4.20", None], [None, "900"], ["-4.20", "900"]),
        (["-4.20", None], [None, "900"], ["-4.20", "900"]),
        (["4.20", None], [None, "-900"], ["-4.20", "900"]),
        (["4.20", "0"], ["0", "900"], ["-4.20", "900"]),
        (["4.20", "5.00", "-2.00"], [None, None, None], ["-4.20", "-5.00", "2.00"]),  # a reversal turns
        ([None], [None], [None]),
    ],
)
def test_two_columns_are_signed_by_what_they_mean(debit: list, credit: list, expected: list) -> None:
    assert two_column_amounts(decimals(*debit), decimals(*credit)) == decimals(*expected)


def test_a_mark_on_exceptions_only_implies_the_opposite_for_the_rest(tmp_path: Path) -> None:
    assert amounts(read(tmp_path, table("SHOP,10.00", "REFUND,5.00 Cr", "FUEL,20.00"))) == ["-10.00", "5.00", "-20.00"]
    assert amounts(read(tmp_path, table("PAY,10.00", "SHOP,5.00 Dr", "GIFT,20.00"))) == ["10.00", "-5.00", "20.00"]
    assert amounts(read(tmp_path, table("SHOP,-10.00", "REFUND,5.00 CR", "FUEL,(20.00)"))) == [
        "-10.00",
        "5.00",
        "-20.00",
    ]


def test_a_column_of_directions_signs_amounts_without_sign_and_turns_those_against_it(tmp_path: Path) -> None:
    header = "Date,Description,Type,Amount"
    assert amounts(read(tmp_path, table("A,Debit,4.20", "B,Credit,9.00", header=header))) == ["-4.20", "9.00"]
    assert amounts(read(tmp_path, table("A,Debit,-4.20", "B,Credit,9.00", header=header))) == ["-4.20", "9.00"]
    turned = read(tmp_path, table("A,Purchase,4.20", "B,Purchase,5.00", "C,Refund,-9.00", header=header))
    assert amounts(turned) == ["-4.20", "-5.00", "9.00"]
    assert "turned" in turned.notes[0]


def test_a_payment_is_out_of_an_account_and_into_a_card(tmp_path: Path) -> None:
    header = "Date,Description,Type,Amount"
    assert amounts(read(tmp_path, table("A,Payment,4.20", "B,Deposit,9.00", header=header))) == ["-4.20", "9.00"]
    assert amounts(read(tmp_path, table("A,Purchase,4.20", "B,Payment,9.00", header=header))) == ["-4.20", "9.00"]


def test_a_cards_signs_are_turned_and_the_note_says_how_to_keep_them(tmp_path: Path) -> None:
    text = table("BOOKSHOP,18.40", "TRATTORIA,64.10", "AUTOPAY PAYMENT - THANK YOU,-82.50")
    turned = read(tmp_path, text)
    assert amounts(turned) == ["-18.40", "-64.10", "82.50"]
    assert "--no-charges-positive" in turned.notes[0]
    assert amounts(read(tmp_path, text, charges_positive=False)) == ["18.40", "64.10", "-82.50"]
    account = table("PAYROLL,1800.00", "GIFT,64.10", "AUTOPAY ENERGY,-82.50")
    assert amounts(read(tmp_path, account)) == ["1800.00", "64.10", "-82.50"], "a salary says that plus is money in"


def test_signs_that_look_wrong_are_warned_of(tmp_path: Path) -> None:
    all_in = read(tmp_path, table("A,4.20", "B,5.00", "C,6.00"))
    assert "3 of 3 amounts are money in" in all_in.notes[0]
    debits = read(tmp_path, table("DIRECT DEBIT ENERGY,4.20", "CARD PAYMENT SHOP,5.00", "SALARY,-900"))
    assert "--charges-positive" in debits.notes[0]
    assert read(tmp_path, table("SHOP,-4.20", "SALARY,900.00")).notes == []


def test_the_balance_says_the_direction_where_nothing_else_does(tmp_path: Path) -> None:
    header = "Date,Description,Amount,Balance"
    rows = ["A,10.00,110.00", "B,4.20,105.80", "C,900.00,1005.80", "D,5.80,1000.00", "E,1.00,999.00"]
    statement = read(tmp_path, table(*rows, header=header))
    assert amounts(statement) == ["-4.20", "900.00", "-5.80", "-1.00"]
    assert statement.notes[0].startswith("the direction of each amount was taken from the running balance")
    assert "direction cannot be told" in statement.lines_by_reason(), "the first step of the balance is not in the file"


def test_a_balance_that_disagrees_is_noted() -> None:
    balances = decimals("100", "95", "90", "85")
    assert balance_note(decimals("1", "-5", "-5", "-5"), balances) == ""
    assert "1 of 3" in balance_note(decimals("1", "-5", "-7", "-8"), balances)


def test_dated_lines_without_a_readable_amount_are_an_error_and_not_set_aside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 3 dated lines .* \(line 3\)") as failure:
        read(tmp_path, table("SHOP,-4.20", "IRMA,4x20", "SHOP,-5.00"))
    assert "IRMA" not in str(failure.value)
    assert "4x20" not in str(failure.value)
