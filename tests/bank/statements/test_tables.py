"""Tables of transactions: nothing vanishes unsaid, and whatever the style, amounts are read right or asked for."""

# ruff: noqa: E501 (lines as banks write them)

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fintune_kit.bank.statements.load import load_statement
from fintune_kit.bank.statements.statement import Statement, explain
from fintune_kit.errors import UserError


def read(folder: Path, text: str, *, encoding: str = "utf-8", **options: Any) -> Statement:
    path = folder / "bank.csv"
    path.write_bytes(text.encode(encoding))
    return load_statement(path, **options)


MIXED = """Report of an account;;;;
Date;Payee;Details;Amount;Status
2024-03-05;Bakery;bread;-4,20;booked

2024-03-06;Hotel;night;-80,00;pending
2024-03-07;Shop;a; b;-5,00;booked
2024-03-08;Cinema;film;-11,00;declined
;;;;
Total;;;-95,20;
"""


def test_the_terminal_is_told_what_was_read_as_what_and_what_was_set_aside(tmp_path: Path) -> None:
    body = "".join(f"2024-04-{day:02d};Shop {day};x;-1,00;booked\n" for day in range(1, 20))
    statement = read(tmp_path, MIXED + body)
    said = explain(statement.report)
    assert said[0] == "20 transactions (20 out, 0 in) from 28 lines of CSV"
    assert said[1] == "read as: date = Date, status = Status, amount = Amount, payee = Payee, description = Details"
    assert said[2:] == [
        "set aside: 2 lines, blank (lines 4, 8)",
        "set aside: 1 lines, cancelled, declined or reverted (line 7)",
        "set aside: 1 lines, header (line 2)",
        "set aside: 1 lines, more columns than the header (line 6)",
        "set aside: 1 lines, pending (line 5)",
        "set aside: 1 lines, preamble (line 1)",
        "set aside: 1 lines, total (line 9)",
    ]


def test_columns_of_text_that_no_role_took_are_named(tmp_path: Path) -> None:
    text = "Date,Payee,Branch,Amount,Serial,Fee\n2024-03-05,Bakery,Leeds North,-4.20,17,0.00\n2024-03-06,Shop,Leeds West,-5.00,18,0.25\n"
    said = explain(read(tmp_path, text).report)
    assert "columns of text or amounts that were not used: Branch" in said
    assert "note: Fee holds 1 fees, which are not part of the amounts" in said


def test_labels_that_mean_no_category_are_named_by_line_with_the_command_that_lists_them(tmp_path: Path) -> None:
    text = "Date,Payee,Amount,Category\n2024-03-05,Bakery,-4.20,Food > Restaurants\n2024-03-06,Shop,-5.00,Things of Aunt Mary\n"
    statement = read(tmp_path, text)
    assert [t.category for t in statement.transactions] == ["Food & Dining", ""]
    (said,) = [line for line in explain(statement.report) if "labels" in line]
    assert said.startswith("1 labels mean no category of ours (line 3)")
    assert "fintune-kit transactions taxonomy" in said


@pytest.mark.parametrize(
    ("encoding", "text", "name"),
    [
        (
            "cp1250",
            "Data;Opis;Kwota\n2024-03-05;Żabka Łódź;-4,20\n2024-03-06;Piekarnia Święty Józef;-5,00\n",
            "Żabka Łódź",
        ),
        (
            "cp1250",
            "Datum;Popis;Castka\n2024-03-05;Pekařství U Dvou koček;-4,20\n2024-03-06;Růžena Květinářství;-5,00\n",
            "Pekařství U Dvou koček",
        ),
        (
            "cp1250",
            "Datum;Leiras;Osszeg\n2024-03-05;Főtéri Pékség Győr;-420\n2024-03-06;Műszaki Bolt;-500\n",
            "Főtéri Pékség Győr",
        ),
        ("cp1252", "Datum;Text;Betrag\n2024-03-05;Bäckerei Größl;-4,20\n", "Bäckerei Größl"),
        ("cp1252", "Date;Libellé;Montant\n2024-03-05;Pâtisserie Chloë Évry;-4,20\n", "Pâtisserie Chloë Évry"),
        ("cp1252", "Dato;Tekst;Beløb\n2024-03-05;Bageri Ålborg Sø;-4,20\n", "Bageri Ålborg Sø"),
        ("cp1252", "Data;Descrição;Valor\n2024-03-05;Pão e Maçã São João;-4,20\n", "Pão e Maçã São João"),
        ("cp1254", "Tarih;Açıklama;Tutar\n2024-03-05;Fırın Şişli Beşiktaş;-4,20\n", "Fırın Şişli Beşiktaş"),
        ("cp1251", "Дата;Описание;Сумма\n2024-03-05;Булочная;-4,20\n", "Булочная"),
        ("cp932", "日付,摘要,金額\n2024/03/05,コンビニ,-420\n", "コンビニ"),
        ("gb18030", "交易日期,交易摘要,交易金额\n2024-03-05,面包店,-4.20\n", "面包店"),
        ("utf-16", "Date,Description,Amount\n2024-03-05,Bäckerei,-4.20\n", "Bäckerei"),
        ("utf-8-sig", "Date,Description,Amount\n2024-03-05,Bäckerei,-4.20\n", "Bäckerei"),
    ],
)
def test_the_encoding_is_told_by_known_names_and_plausible_letters(
    encoding: str, text: str, name: str, tmp_path: Path
) -> None:
    assert read(tmp_path, text, encoding=encoding).transactions[0].description == name


def test_lines_that_were_quoted_as_a_whole_are_read(tmp_path: Path) -> None:
    text = '"Date,Description,Amount"\n"2024-03-05,""Bakery, the old"",-4.20"\n"2024-03-06,Shop,-5.00"\n'
    statement = read(tmp_path, text)
    assert [(t.description, str(t.amount)) for t in statement.transactions] == [
        ("Bakery, the old", "-4.20"),
        ("Shop", "-5.00"),
    ]


def test_a_table_without_a_header_is_answered_with_the_map_to_write(tmp_path: Path) -> None:
    text = '"03/15/2024","-6.50","*","","IRMA 4111111111111111"\n"03/16/2024","-7.50","*","","SHOP OF IRMA"\n'
    with pytest.raises(UserError, match="--map date=1 --map description=5 --map amount=2") as failure:
        read(tmp_path, text)
    assert "IRMA" not in str(failure.value)


def test_a_column_that_names_the_account_holder_throughout_is_not_the_counterparty(tmp_path: Path) -> None:
    text = "Buchungstag;Auftraggeber;Empfänger;Verwendungszweck;Betrag\n05.03.2024;Irma O;Bäcker;Brot;-4,20\n06.03.2024;Irma O;Kino;Film;-11,00\n"
    assert [t.description for t in read(tmp_path, text).transactions] == ["Bäcker Brot", "Kino Film"]


DAYS = st.lists(st.dates(datetime.date(2023, 1, 1), datetime.date(2024, 12, 31)), min_size=1, max_size=12).map(
    sorted
)  # statements are in order
FORMS = {
    "dmy": "%d/%m/%Y",
    "mdy": "%m/%d/%Y",
    "ymd": "%Y-%m-%d",
    "dotted": "%d.%m.%Y",
    "named": "%d %b %Y",
    "compact": "%Y%m%d",
}
MARKS = {"point": "{:,.2f}", "plain": "{:.2f}", "comma": "{:,.2f}", "whole": "{:,.0f}"}


@settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=DAYS, cents=st.lists(st.integers(-300_000, 300_000), min_size=12, max_size=12), form=st.sampled_from(sorted(FORMS)),
    mark=st.sampled_from(sorted(MARKS)), delimiter=st.sampled_from(",;\t"), style=st.sampled_from(["signed", "columns", "type", "suffix", "brackets", "trailing"]),
)  # fmt: skip
def test_any_style_is_read_right_or_asked_for(
    days: list, cents: list[int], form: str, mark: str, delimiter: str, style: str, tmp_path: Path
) -> None:
    amounts = [
        Decimal(c if c else 1) * (1 if mark == "whole" else Decimal("0.01")) for c, _ in zip(cents, days, strict=False)
    ]

    def written(amount: Decimal) -> str:
        text = MARKS[mark].format(abs(amount))
        return text.translate(str.maketrans(",.", ".,")) if mark == "comma" else text

    def cells(day: datetime.date, amount: Decimal) -> list[str]:
        size, out = written(amount), amount < 0
        sign = {
            "signed": f"{'-' * out}{size}",
            "suffix": f"{size} {'DR' if out else 'CR'}",
            "brackets": f"({size})" if out else size,
            "trailing": f"{size}{'-' * out}",
        }
        money = {"columns": ["", size][:: 1 if not out else -1], "type": [size, "debit" if out else "credit"]}.get(
            style, [sign.get(style, "")]
        )
        return [day.strftime(FORMS[form]), "SHOP", *money]

    names = {"columns": ["Money out", "Money in"], "type": ["Amount", "Debit/Credit"]}.get(style, ["Amount"])
    lines = [["Date", "Description", *names], *(cells(day, amount) for day, amount in zip(days, amounts, strict=False))]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines) + "\n"
    asked, found = "", None
    try:
        found = read(tmp_path, text, charges_positive=False if style in ("signed", "brackets", "trailing") else None)
    except UserError as error:
        asked = str(error)
    if found is None:
        assert ("--date-order" in asked and form in ("dmy", "mdy")) or "--decimal" in asked, asked
    else:
        read_back = [(t.date, t.amount) for t in found.transactions]
        assert read_back == [(d.isoformat(), a) for d, a in zip(days, amounts, strict=False)]


def signed(statement: Statement) -> list[tuple[str, str, str]]:
    return [(row.date, str(row.amount), row.currency) for row in statement.transactions]


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("Date;Text;Amount;Currency;Amount in EUR", "HOTEL;-100,00;GBP;-117,20", "SHOP;-12,30;EUR;-12,30"),
        ("Date;Text;Betrag (EUR);Betrag;Währung", "HOTEL;-117,20;-100,00;GBP", "SHOP;-12,30;-12,30;EUR"),
        (
            "Date;Text;Transaction Amount;Transaction Currency;Account Amount;Account Currency",
            "HOTEL;-100,00;GBP;-117,20;EUR",
            "SHOP;-12,30;EUR;-12,30;EUR",
        ),
    ],
)
def test_of_amounts_in_two_currencies_those_of_the_account_are_read(
    tmp_path: Path, header: str, first: str, second: str
) -> None:
    statement = read(tmp_path, f"{header}\n2024-01-22;{first}\n2024-01-23;{second}\n")
    assert signed(statement) == [("2024-01-22", "-117.20", "EUR"), ("2024-01-23", "-12.30", "EUR")]


def test_a_column_of_amounts_for_each_currency(tmp_path: Path) -> None:
    text = "Date,Text,CAD$,USD$\n2024-01-22,COFFEE,-12.10,\n2024-01-23,BOOKS,,-5.00\n2024-01-24,PAY,900.00,\n"
    statement = read(tmp_path, text)
    assert signed(statement) == [
        ("2024-01-22", "-12.10", "CAD"),
        ("2024-01-23", "-5.00", "USD"),
        ("2024-01-24", "900.00", "CAD"),
    ]


def test_a_second_column_of_amounts_is_named_and_a_net_amount_has_its_fee_taken_off(tmp_path: Path) -> None:
    text = "Date,Name,Gross,Fee,Net\n2024-01-22,Buyer,100.00,-3.20,96.80\n2024-01-23,Shop,-20.00,0.00,-20.00\n"
    said = explain(read(tmp_path, text).report)
    assert "columns of text or amounts that were not used: Gross" in said
    assert "note: Fee holds 1 fees, which are already taken off the amounts" in said


def test_a_few_lines_that_did_not_move_are_enough_to_read_a_column_as_the_status(tmp_path: Path) -> None:
    text = "Date,Text,Amount,Status\n2024-01-22,SHOP,-12.00,CARD CHARGED\n2024-01-23,RENT,-20.00,PAYMENT SENT\n2024-01-24,CAFE,-3.00,FAILED\n"
    statement = read(tmp_path, text)
    assert [row.description for row in statement.transactions] == ["SHOP", "RENT"]
    assert "cancelled, declined or reverted" in statement.lines_by_reason()


def test_words_of_a_sentence_are_no_status(tmp_path: Path) -> None:
    text = "Date,Name,Info,Amount\n2024-01-22,TENNIS,Melbourne open tickets,-80.00\n2024-01-23,SHOP,hold music,-5.00\n"
    assert len(read(tmp_path, text).transactions) == 2


@pytest.mark.parametrize(
    "text",
    [
        "Date,Text,Amount,Pending\n2024-01-22,SHOP,-12.10,false\n2024-01-23,HOTEL,-20.00,true\n2024-01-24,CAFE,-1.00,false\n",
        "Date,Text,Amount\n2024-01-22,SHOP,-12.10\n2024-01-23,PENDING - HOTEL,-20.00\n2024-01-24,CAFE,-1.00\n",
        "Datum;Text;Betrag\n22.01.2024;SHOP;-12,10\n23.01.2024;Vorgemerkt: HOTEL;-20,00\n24.01.2024;CAFE;-1,00\n",
    ],
)
def test_pending_lines_are_marked_by_yes_and_no_or_in_their_text(tmp_path: Path, text: str) -> None:
    statement = read(tmp_path, text)
    assert [row.description for row in statement.transactions] == ["SHOP", "CAFE"]
    assert statement.lines_by_reason()["pending"] == (1, [3])


def test_a_merchant_whose_name_begins_like_a_status_is_read(tmp_path: Path) -> None:
    text = "Date,Text,Amount\n2024-01-22,Pendente Bar,-8.00\n2024-01-23,RESERVATION - HOTEL,-5.00\n"
    assert len(read(tmp_path, text).transactions) == 2


def test_a_balance_at_the_end_does_not_hide_the_column_of_money_in(tmp_path: Path) -> None:
    text = "Datum;Text;Soll;Haben;Währung\n22.01.2024;SHOP;-12,30;;EUR\n23.01.2024;Lohn;;2.000,00;EUR\nKontostand;31.01.2024;2.345,00;EUR;\n"
    assert [str(row.amount) for row in read(tmp_path, text).transactions] == ["-12.30", "2000.00"]


def test_amounts_cut_in_two_by_their_decimal_comma_are_refused(tmp_path: Path) -> None:
    text = "Datum,Text,Betrag,Saldo\n22.01.2024,SHOP,-12,10,100,00\n23.01.2024,LOHN,500,00,600,00\n"
    with pytest.raises(UserError, match="cuts its amounts in two"):
        read(tmp_path, text)


def test_pounds_are_not_read_as_a_polish_letter_and_latin_2_is_told_from_its_windows_kin(tmp_path: Path) -> None:
    pounds = "Date,Text,Paid out,Paid in\n22 Jan 2024,SHOP,£12.10,\n23 Jan 2024,PAY,,£900.00\n"
    assert signed(read(tmp_path, pounds, encoding="cp1252"))[0] == ("2024-01-22", "-12.10", "GBP")
    czech = "Datum;Popis;Castka\n22.01.2024;Žabka Řepy;-12,10\n23.01.2024;Výplata;100,00\n"
    for encoding in ("iso8859-2", "cp1250"):
        assert read(tmp_path, czech, encoding=encoding).transactions[0].description == "Žabka Řepy"
