"""A bank's export becomes transactions, with every line accounted for; what is none ends in one sentence."""

# ruff: noqa: E501 (lines as banks write them)

import json
import logging
from decimal import Decimal
from pathlib import Path

import pytest

from fintune_kit.bank.statements.load import import_statements, load_statement, parse_mapping
from fintune_kit.errors import MissingInputError, UserError

GERMAN = """"Kontonummer:";"DE89370400440532013000 / Girokonto";

"Buchungstag";"Wertstellung";"Auftraggeber / Begünstigter";"Verwendungszweck";"Betrag (EUR)";
"02.04.2024";"02.04.2024";"REWE SAGT DANKE";"Einkauf";"-1.017,80";
"01.04.2024";"01.04.2024";"Muster GmbH";"Gehalt";"2.850,00";
"";"";"";"";"";
"Summe";"";"";"";"1.832,20";
"""
MINT = """"Date","Description","Original Description","Amount","Transaction Type","Category","Account Name","Labels","Notes"
"4/13/2023","Starbucks","STARBUCKS STORE 04423","6.50","debit","Coffee Shops","CHECKING","",""
"4/02/2023","Acme","ACME PAYROLL","2,500.00","credit","Paycheck","CHECKING","",""
"4/01/2023","Aunt","AUNT","1.00","debit","Things of Aunt Mary","CHECKING","",""
"""
YNAB = """"Account","Flag","Date","Payee","Category Group/Category","Category Group","Category","Memo","Outflow","Inflow","Cleared"
"Checking","","13/04/2023","Tesco","Everyday: Groceries","Everyday","Groceries","",£23.40,£0.00,"Cleared"
"Checking","","02/04/2023","Employer","Inflow: Ready to Assign","Inflow","Ready to Assign","",£0.00,"£2,100.00","Cleared"
"""
FIREFLY = """user_id,journal_id,created_at,type,currency_code,amount,description,date,source_name,destination_name,category
1,1,2023-01-09T10:00:00+01:00,Withdrawal,EUR,-12.5,Lunch,2023-01-05T00:00:00+01:00,Checking,Vapiano,Restaurants
1,2,2023-01-09T10:00:00+01:00,Deposit,EUR,2000,Salary,2023-01-06T00:00:00+01:00,Boss,Checking,Salary
"""
TWO_COLUMNS = """Date,Narration,Debit Amount,Credit Amount,Closing Balance
01/04/24,UPI-SWIGGY,"1,23,456.00",0.00,1000.00
15/04/24,NEFT CR-ACME,0.00,50000.00,51000.00
"""
BRITISH = """Statement of JANE DOE
Date|Details|Amount|Balance
13 Apr 2024|"TESCO| STORES 3297"|(£23.40)|£100.00
14 Apr 2024|REFUND|£5.00 CR|£105.00

Date|Details|Amount|Balance
15 Apr 2024|SHELL|12.50-|£92.50
|Total||£92.50
16 Apr 2024|Opening balance|100.00|
17 Apr 2024|NO AMOUNT||
"""
DUTCH = """"Datum";"Naam / Omschrijving";"Af Bij";"Bedrag (EUR)";"Mededelingen"
"20240405";"Albert Heijn 1234";"Af";"17,80";"Pas 001"
"20240404";"Salaris BV";"Bij";"2100,00";""
"""
OFX = """OFXHEADER:100
DATA:OFXSGML
VERSION:102

<OFX><BANKMSGSRSV1><STMTTRNRS><STMTRS><CURDEF>USD<BANKACCTFROM><ACCTID>999</BANKACCTFROM><BANKTRANLIST>
<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>20240105120000[-5:EST]<TRNAMT>-12.50<FITID>1<NAME>SQ *BLUE & CO<MEMO>x</STMTTRN>
<STMTTRN><TRNTYPE>CREDIT</TRNTYPE><DTPOSTED>20240106</DTPOSTED><TRNAMT>1200.00</TRNAMT><NAME>PAY</NAME></STMTTRN>
<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>never<TRNAMT>-1.00<FITID>3<NAME>BROKEN</STMTTRN>
</BANKTRANLIST></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>
"""
MT940 = """:20:STARTUMSE
:25:10010010/0123456789
:28C:00001/001
:60F:C240401EUR1000,00
:61:2404020402DR17,80N024NONREF
:86:005?00LASTSCHRIFT?20Einkauf?32REWE MARKT
:61:2404030403CR2100,00N051NONREF
:86:051?00GUTSCHRIFT?20GEHALT?32ACME
:62F:C240430EUR3082,20
-
"""
CAMT = """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt><Stmt><Acct><Id><IBAN>DE89</IBAN></Id></Acct>
<Ntry><Amt Ccy="EUR">17.80</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>2024-04-02</Dt></BookgDt>
<NtryDtls><TxDtls><RltdPties><Cdtr><Nm>REWE MARKT</Nm></Cdtr></RltdPties><RmtInf><Ustrd>Einkauf</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>
<Ntry><Amt Ccy="EUR">5</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>PDNG</Sts><BookgDt><Dt>2024-04-02</Dt></BookgDt></Ntry>
</Stmt></BkToCstmrStmt></Document>
"""


def written(folder: Path, text: str, *, encoding: str = "utf-8", name: str = "bank.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "expected", "set_aside"),
    [
        (GERMAN, [("2024-04-02", "-1017.80", "EUR", "REWE SAGT DANKE Einkauf", ""), ("2024-04-01", "2850.00", "EUR", "Muster GmbH Gehalt", "")],
         {"preamble": 1, "header": 1, "blank": 2, "total": 1}),
        (MINT, [("2023-04-13", "-6.50", "", "STARBUCKS STORE 04423", "Food & Dining"), ("2023-04-02", "2500.00", "", "ACME PAYROLL", "Income"),
                ("2023-04-01", "-1.00", "", "AUNT", "")], {"header": 1}),
        (YNAB, [("2023-04-13", "-23.40", "GBP", "Tesco", "Groceries"), ("2023-04-02", "2100.00", "GBP", "Employer", "Income")], {"header": 1}),
        (FIREFLY, [("2023-01-05", "-12.5", "EUR", "Vapiano Lunch", "Food & Dining"), ("2023-01-06", "2000", "EUR", "Boss Salary", "Income")], {"header": 1}),
        (TWO_COLUMNS, [("2024-04-01", "-123456.00", "", "UPI-SWIGGY", ""), ("2024-04-15", "50000.00", "", "NEFT CR-ACME", "")], {"header": 1}),
        (BRITISH, [("2024-04-13", "-23.40", "GBP", "TESCO| STORES 3297", ""), ("2024-04-14", "5.00", "GBP", "REFUND", ""), ("2024-04-15", "-12.50", "GBP", "SHELL", "")],
         {"preamble": 1, "header": 1, "blank": 1, "repeated header": 1, "total": 1, "balance": 1, "no amount": 1}),
        (DUTCH, [("2024-04-05", "-17.80", "EUR", "Albert Heijn 1234 Pas 001", ""), ("2024-04-04", "2100.00", "EUR", "Salaris BV", "")], {"header": 1}),
        (OFX, [("2024-01-05", "-12.50", "USD", "SQ *BLUE & CO x", ""), ("2024-01-06", "1200.00", "USD", "PAY", "")], {"no readable date or amount": 1}),
        (MT940, [("2024-04-02", "-17.80", "EUR", "REWE MARKT Einkauf", ""), ("2024-04-03", "2100.00", "EUR", "ACME GEHALT", "")],
         {"header": 3, "balance": 2, "envelope": 1}),
        (CAMT, [("2024-04-02", "-17.80", "EUR", "REWE MARKT Einkauf", "")], {"pending": 1}),
    ],
    ids=["german", "mint", "ynab", "firefly", "two-columns", "british", "dutch", "ofx", "mt940", "camt"],
)  # fmt: skip
def test_layouts_that_people_meet_are_read_and_every_line_is_accounted_for(
    text: str, expected: list[tuple], set_aside: dict[str, int], tmp_path: Path
) -> None:
    statement = load_statement(written(tmp_path, text))
    assert [(r.date, str(r.amount), r.currency, r.description, r.category) for r in statement.transactions] == expected
    report = statement.report
    unit = statement.unit
    assert {reason: entry[unit] for reason, entry in report["set_aside"].items()} == set_aside
    assert report[f"{unit}_in_file"] == report[f"{unit}_of_transactions"] + sum(set_aside.values())
    if unit == "lines":
        assert report["lines_in_file"] == len(text.splitlines())


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8-sig", "utf-16", "utf-16-le"])
def test_the_encodings_of_banks_are_told_apart(encoding: str, tmp_path: Path) -> None:
    statement = load_statement(written(tmp_path, GERMAN.replace("REWE", "MÜLLER"), encoding=encoding))
    assert statement.transactions[0].description == "MÜLLER SAGT DANKE Einkauf"


def test_a_card_that_writes_charges_with_a_plus_sign_is_turned(tmp_path: Path) -> None:
    path = written(tmp_path, "Date,Description,Amount\n2024-04-13,SHOP,6.50\n")
    assert load_statement(path).transactions[0].amount == Decimal("6.50")
    assert load_statement(path, charges_positive=True).transactions[0].amount == Decimal("-6.50")


def test_an_unknown_layout_shows_its_header_and_reads_once_it_is_mapped(tmp_path: Path) -> None:
    path = written(tmp_path, "When,What,How much\n04/13/2024,SHOP,-6.50\n")
    with pytest.raises(UserError, match=r"found When, What, How much; .*--map date=") as failure:
        load_statement(path)
    assert "SHOP" not in str(failure.value)
    mapping = parse_mapping(["date=When", "description=What", "amount=How much"])
    assert load_statement(path, mapping=mapping).transactions[0].description == "SHOP"


def test_a_file_without_a_header_shows_shapes_and_never_the_first_row(tmp_path: Path) -> None:
    path = written(tmp_path, '"04/13/2024","-6.50","*","IRMA 4111111111111111"\n"04/14/2024","-7.50","*","X"\n')
    with pytest.raises(UserError, match=r"1: 99/99/9999 \| 2: -9.99") as failure:
        load_statement(path)
    assert "IRMA" not in str(failure.value)
    assert "4111" not in str(failure.value)
    rows = load_statement(path, mapping=parse_mapping(["date=1", "amount=2", "description=4"])).transactions
    assert [row.amount for row in rows] == [Decimal("-6.50"), Decimal("-7.50")]


BAD = {
    "pdf": (b"%PDF-1.7 IRMA", "is a PDF"),
    "empty": (b" \n", "is empty"),
    "zip": (b"PK\x03\x04 IRMA", "zip file"),
    "old excel": (b"\xd0\xcf\x11\xe0 IRMA", "workbook"),
    "binary": (b"Date,Amount\n\x00\x01\x02IRMA", "binary"),
    "cyrillic": ("Дата,Сумма,Описание\n2024-01-01,1.00,ИРМА\n".encode("koi8-r"), "--encoding"),
    "columns": (b",".join([b"a"] * 1_000_000), "1,000,000 columns"),
    "page": (b"<!DOCTYPE html><html>IRMA</html>", "web page"),
    "json": (b'[{"name": "IRMA"}]', "JSON"),
    "quote": (b'Date,Description,Amount\n2024-01-01,"IRMA,1.00\n' + b"2024-01-02,X,1.00\n" * 100, "quote"),
    "no dates": (b"Date,Description,Amount\nsoon,IRMA,1.00\n", "header in line 1"),
    "field": (b"Date,Description,Amount\n2024-01-01," + b"I" * 200_000 + b",1.00\n", "not sound CSV"),
    "mt940": (b":20:X\n:25:1\n:60F:C240401EUR1,00\n:61:IRMA\n:62F:C240401EUR1,00\n", "not sound MT940"),
    "ofx": (b"OFXHEADER:100\n<OFX><STMTRS><STMTTRN><NAME>IRMA", "not sound OFX"),
    "bomb": (
        b'<!DOCTYPE d [<!ENTITY a "IRMA"><!ENTITY b "&a;&a;">]><Document>camt.053 &b;</Document>',
        "not sound CAMT",
    ),
    "prose": (b"Dear IRMA, nothing of this is a statement", "no columns"),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_what_is_no_statement_ends_in_one_sentence_with_nothing_written_and_nothing_quoted(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = BAD[kind]
    path = tmp_path / "bank.csv"
    path.write_bytes(content)
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError, match=message) as failure:
        import_statements([path], out=tmp_path / "out" / "statement.csv")
    assert "\n" not in str(failure.value)
    printed = capsys.readouterr()
    for seen in (str(failure.value), caplog.text, printed.out, printed.err):
        assert "IRMA" not in seen
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__ or failure.value.__context__ is None
    assert not (tmp_path / "out").exists()


def test_a_wrong_encoding_named_by_the_user_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, GERMAN, encoding="cp1252")
    with pytest.raises(UserError, match="not text in utf-8"):
        load_statement(path, encoding="utf-8")
    with pytest.raises(UserError, match="not an encoding that Python knows"):
        load_statement(path, encoding="klingon")
    with pytest.raises(MissingInputError):
        load_statement(tmp_path / "nowhere.csv")


def test_no_reader_logs_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for name, text in (("a.ofx", OFX), ("b.sta", MT940), ("c.xml", CAMT), ("d.csv", GERMAN)):
            load_statement(written(tmp_path, text, name=name))
    assert "REWE" not in caplog.text
    assert "BLUE" not in caplog.text


def test_the_report_beside_an_import_counts_and_does_not_quote(tmp_path: Path) -> None:
    import_statements([written(tmp_path, MINT)], out=tmp_path / "own.csv")
    report = (tmp_path / "own.report.json").read_text(encoding="utf-8")
    assert json.loads(report)["unknown_labels"] == {"count": 1, "first": [4]}
    assert "STARBUCKS" not in report
    assert "Aunt" not in report
    again = load_statement(tmp_path / "own.csv")
    assert [row.category for row in again.transactions] == ["Food & Dining", "Income", ""]
