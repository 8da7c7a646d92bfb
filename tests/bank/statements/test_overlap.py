"""Several exports of one account: the payments of the days that two of them share are counted once."""

# ruff: noqa: E501 (lines as banks write them)

from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.privacy.anonymise import private_transactions
from fintune_kit.bank.statements.load import import_statements
from fintune_kit.bank.statements.statement import explain
from fintune_kit.bank.transactions import Transaction, read_statement
from fintune_kit.cli.main import main

MARCH = """Date,Description,Amount
2024-03-04,CORNER BAKERY,-4.20
2024-03-30,HARBOUR BOOKS,-31.75
2024-03-31,REEF COFFEE,-3.00
2024-03-31,REEF COFFEE,-3.00
"""
APRIL = """Date,Description,Amount
2024-03-30,HARBOUR  Books,-31.75
2024-03-31,REEF COFFEE,-3.00
2024-03-31,REEF COFFEE,-3.00
2024-04-02,RENT,-800.00
"""
SAVINGS = """Date,Description,Amount
2024-03-29,INTEREST,0.45
2024-03-30,HARBOUR BOOKS,-31.75
2024-03-31,TO HOLIDAYS,-50.00
2024-03-31,TO CAR,-60.00
2024-04-01,FROM MAIN ACCOUNT,200.00
"""
OFX = """OFXHEADER:100

<OFX><BANKMSGSRSV1><STMTTRNRS><STMTRS><CURDEF>EUR<BANKACCTFROM><ACCTID>{account}</BANKACCTFROM><BANKTRANLIST>
{lines}</BANKTRANLIST></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>
"""


def ofx(*lines: tuple[str, str, str, str], account: str = "7001") -> str:
    """An OFX file of lines of day, amount, FITID and name."""
    texts = (
        f"<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>{day}<TRNAMT>{amount}<FITID>{number}<NAME>{name}</STMTTRN>"
        for day, amount, number, name in lines
    )
    return OFX.format(account=account, lines="\n".join(texts))


def read(folder: Path, *texts: str, suffix: str = "csv") -> tuple[list[Transaction], list[str]]:
    """The transactions of some files together, and everything that is said about the last one."""
    files = []
    for number, text in enumerate(texts, start=1):
        files.append(folder / f"{number}.{suffix}")
        files[-1].write_text(text, encoding="utf-8")
    rows, reports = private_transactions(files)
    return rows, explain(reports[-1])


def amounts(rows: list[Transaction]) -> str:
    return " ".join(f"{row.date[5:]} {row.amount}" for row in rows)


def test_a_payment_in_two_exports_of_an_account_is_counted_once(tmp_path: Path) -> None:
    rows, said = read(tmp_path, MARCH, APRIL)
    assert amounts(rows) == "03-04 -4.20 03-30 -31.75 03-31 -3.00 03-31 -3.00 04-02 -800.00"
    assert sum(row.amount for row in rows) == Decimal("-841.95")
    assert "left out: 3 transactions that 1.csv holds too (lines 2, 3, 4): each is counted once" in said


def test_a_payment_whose_text_has_changed_is_kept_and_named(tmp_path: Path) -> None:
    march = MARCH + "2024-03-31,HOTEL RESERVATION,-90.00\n"
    april = APRIL.replace("2024-04-02", "2024-03-31,HOTEL LINDNER KIEL,-90.00\n2024-04-02")
    rows, said = read(tmp_path, march, april)
    assert amounts(rows).count("03-31 -90.00") == 2
    assert (
        "note: 1 transaction agrees with one of 1.csv in day and amount, and not in text: both are kept, so look whether "
        "they are one payment"
    ) in said
    assert not any("not in text" in sentence for sentence in read(tmp_path, MARCH, APRIL)[1])


def test_equal_lines_of_one_file_are_two_payments(tmp_path: Path) -> None:
    alone, said = read(tmp_path, MARCH)
    assert amounts(alone) == "03-04 -4.20 03-30 -31.75 03-31 -3.00 03-31 -3.00"
    assert not any("left out" in sentence for sentence in said)
    with_a_third = APRIL.replace("2024-04-02", "2024-03-31,REEF COFFEE,-3.00\n2024-04-02")
    rows, _ = read(tmp_path, MARCH, with_a_third)
    assert amounts(rows).count("03-31 -3.00") == 3
    again, _ = read(tmp_path, MARCH, with_a_third, with_a_third)
    assert amounts(again) == amounts(rows)


def test_one_equal_line_does_not_make_one_account_of_two(tmp_path: Path) -> None:
    rows, said = read(tmp_path, MARCH, SAVINGS)
    assert len(rows) == 4 + 5
    assert (
        "note: 1 transaction agrees with one of 1.csv in day, amount and text, and most of their common days do not: "
        "the files were taken as two accounts, and all transactions are kept"
    ) in said


@pytest.mark.parametrize(("second", "count"), [("Main", 5), ("Joint", 8)])
def test_files_that_name_their_account_are_compared_within_it(second: str, count: int, tmp_path: Path) -> None:
    header, *lines = MARCH.splitlines()
    march = "\n".join([f"Account,{header}", *(f"Main,{line}" for line in lines)]) + "\n"
    header, *lines = APRIL.splitlines()
    april = "\n".join([f"Account,{header}", *(f"{second},{line}" for line in lines)]) + "\n"
    assert len(read(tmp_path, march, april)[0]) == count


def test_the_banks_own_number_decides_where_there_is_one(tmp_path: Path) -> None:
    """Two coffees with two numbers are two; one payment whose text the bank has mended meanwhile is one."""
    first = ofx(("20240330", "-9.00", "A1", "PAYMENT"), ("20240331", "-3.00", "A2", "COFFEE"))
    second = ofx(
        ("20240330", "-9.00", "A1", "HARBOUR BOOKS"),
        ("20240331", "-3.00", "A3", "COFFEE"),
        ("20240402", "-8", "A4", "X"),
    )
    rows, said = read(tmp_path, first, second, suffix="ofx")
    assert amounts(rows) == "03-30 -9.00 03-31 -3.00 03-31 -3.00 04-02 -8"
    assert "left out: 1 transactions that 1.ofx holds too (entry 1): each is counted once" in said
    assert (
        "note: 1 transaction agrees with one of 1.ofx in day, amount and text, and has another reference of the bank: "
        "both are kept"
    ) in said


def test_two_numbers_are_two_payments_even_where_nothing_else_tells_them_apart(tmp_path: Path) -> None:
    rows, _ = read(
        tmp_path, ofx(("20240331", "-3.00", "A1", "TEA")), ofx(("20240331", "-3.00", "A2", "TEA")), suffix="ofx"
    )
    assert amounts(rows) == "03-31 -3.00 03-31 -3.00"


def test_numbers_that_a_bank_gives_anew_in_each_export_decide_nothing(tmp_path: Path) -> None:
    days = [("20240329", "-1.00"), ("20240330", "-2.00"), ("20240331", "-3.00")]
    first = ofx(*((day, amount, f"X{number}", "SHOP") for number, (day, amount) in enumerate(days)))
    second = ofx(*((day, amount, f"Y{number}", "SHOP") for number, (day, amount) in enumerate(days)))
    rows, said = read(tmp_path, first, second, suffix="ofx")
    assert amounts(rows) == "03-29 -1.00 03-30 -2.00 03-31 -3.00"
    assert any("the bank numbers each export anew" in sentence for sentence in said)


def test_a_column_of_the_banks_numbers_decides_too(tmp_path: Path) -> None:
    header = "Date,Description,Amount,Transaction ID\n"
    march = f"{header}2024-03-30,BOOKS,-31.75,TX90001\n2024-03-31,COFFEE,-3.00,TX90002\n"
    april = f"{header}2024-03-30,BOOKS,-31.75,TX90001\n2024-03-31,COFFEE,-3.00,TX90003\n"
    rows, said = read(tmp_path, march, april)
    assert amounts(rows) == "03-30 -31.75 03-31 -3.00 03-31 -3.00"
    assert any("reference = Transaction ID" in sentence for sentence in said)


def test_camt_and_mt940_give_the_banks_reference(tmp_path: Path) -> None:
    camt = """<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt><Stmt><Acct><Id><IBAN>DE89</IBAN></Id>
</Acct>{}</Stmt></BkToCstmrStmt></Document>"""
    entry = (
        '<Ntry><Amt Ccy="EUR">3.00</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>2024-03-31</Dt></BookgDt>'
        "<AcctSvcrRef>{}</AcctSvcrRef><AddtlNtryInf>KAFFEE</AddtlNtryInf></Ntry>"
    )
    one, two = (camt.format(entry.format(number)) for number in ("20240331-1", "20240331-2"))
    assert len(read(tmp_path, one, two, suffix="xml")[0]) == 2
    assert len(read(tmp_path, one, one, suffix="xml")[0]) == 1
    mt940 = """:20:STARTUMSE
:25:10010010/0123456789
:28C:00001/001
:60F:C240401EUR1000,00
:61:2404020402DR17,80N024NONREF//{}
:86:005?00LASTSCHRIFT?20Einkauf?32REWE MARKT
:62F:C240430EUR982,20
-
"""
    one, two = mt940.format("BK2404021"), mt940.format("BK2404022")
    assert len(read(tmp_path, one, two, suffix="sta")[0]) == 2
    assert len(read(tmp_path, one, one, suffix="sta")[0]) == 1


def test_import_joins_files_and_reports_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("march.csv", MARCH), ("april.csv", APRIL)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    out = tmp_path / "all.csv"
    files = [str(tmp_path / name) for name in ("march.csv", "april.csv")]
    assert main(["transactions", "import", *files, "--out", str(out)]) == 0
    assert "left out: 3 transactions that march.csv holds too" in capsys.readouterr().out
    assert sum(row.amount for row in read_statement(out)) == Decimal("-841.95")
    reports = import_statements([Path(file) for file in files], out=out)
    assert [report["transactions"] for report in reports] == [4, 4]
    assert [report["left_out"]["transactions"] for report in reports] == [0, 3]
