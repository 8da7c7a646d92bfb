"""A sign that several currencies share means the one that the file tells, and a note says where it tells none."""

from pathlib import Path

import pytest

from fintune_kit.bank.statements.load import load_statement

YUAN = "交易时间,交易对方,收/支,金额{},当前状态\n2024-03-15 10:00:00,面包店,支出,¥{},支付成功\n"


def currencies(folder: Path, text: str, **reading: str) -> tuple[list[str], str]:
    """The currency of each transaction of a file, and the notes about it."""
    file = folder / "bank.csv"
    file.write_text(text, encoding="utf-8")
    statement = load_statement(file, **reading)
    return [transaction.currency for transaction in statement.transactions], " ".join(statement.notes)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (YUAN.format("(元)", "25.00"), "CNY"),
        (YUAN.format("", "25.00"), "CNY"),
        ("Date,Payee,Amount (CNY)\n2024-03-04,NOODLES,-¥25\n2024-03-05,SHOP,-¥30\n", "CNY"),
        ("Date,Payee,Amount\n2024-03-04,NOODLES,-¥25.80\n2024-03-05,SHOP,-¥30.00\n", "CNY"),
        ("日付,内容,金額\n2024/03/04,コンビニ,-¥1200\n2024/03/15,給与,¥250000\n", "JPY"),
        ("日付,内容,金額(円)\n2024/03/04,本屋,-¥1200\n2024/03/15,給与,¥250000\n", "JPY"),
        ("Date,Description,CAD$\n2024-03-04,COFFEE,-$4.50\n2024-03-05,PAYROLL,$250.00\n", "CAD"),
        ("Date,Description,Amount,Balance (AUD)\n2024-03-04,COFFEE,-$4.50,$9.00\n2024-03-05,PAY,$2.00,$11.00\n", "AUD"),
        ("Date,Details,Currency,Amount ($)\n2024-03-04,TRAM,HKD,-3.00\n2024-03-05,SALARY,HKD,20.00\n", "HKD"),
        ("Account currency:,PKR\nDate,Narration,Debit,Credit\n04/03/2024,TEA,Rs 500,\n15/03/2024,PAY,,Rs 900\n", "PKR"),
        ("Date,Narration,Amount,Balance\n2024-03-04,TEA,-Rs 500,LKR 900\n2024-03-05,PAY,Rs 90,LKR 990\n", "LKR"),
        ("Dato;Tekst;Beløb i DKK\n04-03-2024;Kiosk;-45,00 kr.\n05-03-2024;Løn;2.000,00 kr.\n", "DKK"),
        ("Date,Description,Amount (EGP)\n2024-03-04,CAFE NILE,-£45.00\n2024-03-05,SALARY,£9000.00\n", "EGP"),
        ("Date;Libellé;Montant XOF\n04/03/2024;MARCHE;-4500 Fr\n15/03/2024;SALAIRE;250000 Fr\n", "XOF"),
    ],
)
def test_a_shared_sign_means_the_currency_that_the_file_tells(text: str, code: str, tmp_path: Path) -> None:
    found, notes = currencies(tmp_path, text)
    assert set(found) == {code}
    assert "the sign of several currencies" not in notes


@pytest.mark.parametrize(("sign", "code"), [("$", "USD"), ("£", "GBP"), ("Rs ", "INR"), ("kr ", ""), ("¥", "JPY")])
def test_where_nothing_tells_it_the_usual_currency_is_taken_and_a_note_says_so(
    sign: str, code: str, tmp_path: Path
) -> None:
    text = f"Date,Description,Amount\n2024-03-04,BAKERY,-{sign}450\n2024-03-05,PAYROLL,{sign}2500\n"
    found, notes = currencies(tmp_path, text)
    assert found == [code, code]
    assert f"{sign.strip()} is the sign of several currencies" in notes
    assert "--currency" in notes


def test_the_user_says_which_dollar_it_is(tmp_path: Path) -> None:
    text = "Date,Description,Amount\n2024-03-04,BAKERY,-$4.50\n2024-03-05,PAYROLL,$250.00\n"
    assert currencies(tmp_path, text, currency="AUD") == (["AUD", "AUD"], "")
    assert currencies(tmp_path, text, currency="EUR")[0] == ["USD", "USD"]


def test_a_dollar_beside_another_dollar_keeps_its_own_meaning(tmp_path: Path) -> None:
    text = "Date,Description,Amount (SGD)\n2024-03-04,BAKERY,-$4.50\n2024-03-05,HOTEL,-US$90.00\n"
    assert currencies(tmp_path, text)[0] == ["SGD", "USD"]


def test_of_two_currencies_that_a_file_tells_none_is_taken(tmp_path: Path) -> None:
    text = "Accounts in AUD and NZD\nDate,Description,Amount\n2024-03-04,BAKERY,-$4.50\n2024-03-05,PAYROLL,$250.00\n"
    found, notes = currencies(tmp_path, text)
    assert found == ["", ""]
    assert "its transactions have no currency: say it with --currency" in notes
