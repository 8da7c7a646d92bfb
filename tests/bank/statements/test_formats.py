"""OFX, CAMT, MT940, QIF, workbooks and zips, as banks really write them."""

# ruff: noqa: E501 (lines as banks write them)

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fintune_kit.bank.statements.load import load_statement
from fintune_kit.bank.statements.statement import Statement
from fintune_kit.errors import UserError

OFX = "OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\nCHARSET:{charset}\n\n<OFX><BANKMSGSRSV1><STMTTRNRS><STMTRS><CURDEF>EUR<BANKACCTFROM><ACCTID>77</BANKACCTFROM><BANKTRANLIST>{body}</BANKTRANLIST></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>"
CAMT = '<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt><Acct><Id><IBAN>NL02ABNA0123456789</IBAN></Id></Acct>{body}</Stmt></BkToCstmrStmt></Document>'
MT940 = ":20:STARTUMS\n:25:20041155/0012345678\n:28C:3/1\n:60F:C240229EUR1500,00\n{body}\n:62F:C240331EUR1470,00\n"


def read(folder: Path, content: str | bytes, **options: Any) -> Statement:
    path = folder / "bank.dat"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_statement(path, **options)


def rows(statement: Statement) -> list[str]:
    return [f"{t.date} {t.amount} {t.currency} {t.description}".rstrip() for t in statement.transactions]


def ofx(*fields: str, charset: str = "1252") -> str:
    return OFX.format(charset=charset, body="".join(f"<STMTTRN>{entry}</STMTTRN>" for entry in fields))


def entry(amount: str, direction: str, *, details: str = "", status: str = "BOOK", more: str = "") -> str:
    parts = f"<NtryDtls>{details}</NtryDtls>" if details else ""
    return f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts><BookgDt><Dt>2024-03-05</Dt></BookgDt>{parts}{more}</Ntry>'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("<TRNTYPE>DEBIT<DTPOSTED>20240304<TRNAMT>-12.80<NAME>CAFE<MEMO>", "2024-03-04 -12.80 EUR CAFE"),
        (
            "<TRNTYPE>DEBIT<DTPOSTED>20240304<TRNAMT>-12.80<MEMO><NAME>CAFE<CHECKNUM/><REFNUM>",
            "2024-03-04 -12.80 EUR CAFE",
        ),
        (
            "<DTPOSTED>20240304120000.000[-5:EST]</DTPOSTED><TRNAMT>-12.80</TRNAMT><NAME><![CDATA[CAFE & CO <PARIS>]]></NAME>",
            "2024-03-04 -12.80 EUR CAFE & CO <PARIS>",
        ),
        ("<DTPOSTED>20240304<TRNAMT>-12,80<NAME>CAFE &amp; CO &copy;", "2024-03-04 -12.80 EUR CAFE & CO ©"),
        ("<DTPOSTED>20240304<TRNAMT>-1.012,80<NAME>CAFE", "2024-03-04 -1012.80 EUR CAFE"),
        ("<DTPOSTED>20240304<TRNAMT>-8.95000<NAME>CAFE", "2024-03-04 -8.95000 EUR CAFE"),
        ("<DTPOSTED>20240304<TRNAMT>-12.80<MEMO>CAFE<BR/>ROME<br>", "2024-03-04 -12.80 EUR CAFE ROME"),
        ("<DTPOSTED>20240304<TRNAMT>-12.80<NAME>CAFE<MEMO>ROME</MEMO></NAME>", "2024-03-04 -12.80 EUR CAFE ROME"),
        (
            "<DTPOSTED>20240304<TRNAMT>-12.80<PAYEE><NAME>CAFE<ADDR1>SOME STREET</PAYEE><CURRENCY><CURRATE>1.1<CURSYM>USD</CURRENCY>",
            "2024-03-04 -12.80 USD CAFE",
        ),
    ],
)
def test_ofx_as_banks_write_it(fields: str, expected: str, tmp_path: Path) -> None:
    assert rows(read(tmp_path, ofx(fields))) == [expected]
    lower = fields.lower().replace("<![cdata[", "<![CDATA[")
    assert rows(read(tmp_path, ofx(lower)))[0].lower() == expected.lower()


def test_ofx_2_is_xml_and_may_be_indented(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="UTF-8"?>\n<?OFX OFXHEADER="200" VERSION="211"?>\n' + ofx(
        "<TRNTYPE>CREDIT</TRNTYPE><DTPOSTED>20240304</DTPOSTED><TRNAMT>5.00</TRNAMT><NAME>A</NAME>"
    ).split("\n\n")[1].replace("<CURDEF>EUR", "<CURDEF>EUR</CURDEF>").replace("><", ">\n  <")
    assert rows(read(tmp_path, text)) == ["2024-03-04 5.00 EUR A"]


def test_ofx_pending_and_trades_are_set_aside_and_wrong_signs_turned(tmp_path: Path) -> None:
    pending = "<STMTTRNP><TRNTYPE>DEBIT<DTTRAN>20240306<TRNAMT>-80.00<NAME>HOTEL</STMTTRNP>"
    statement = read(
        tmp_path, OFX.format(charset="NONE", body="<STMTTRN><DTPOSTED>20240304<TRNAMT>-1.00<NAME>A</STMTTRN>" + pending)
    )
    assert (rows(statement), list(statement.lines_by_reason())) == (["2024-03-04 -1.00 EUR A"], ["pending"])
    plus = [f"<TRNTYPE>DEBIT<DTPOSTED>2024030{day}<TRNAMT>{day}.00<NAME>A" for day in (1, 2, 3)]
    turned = read(tmp_path, ofx(*plus, "<TRNTYPE>CREDIT<DTPOSTED>20240304<TRNAMT>-9.00<NAME>B"))
    assert [str(t.amount) for t in turned.transactions] == ["-1.00", "-2.00", "-3.00", "9.00"]
    assert "turned" in turned.notes[0]


def test_ofx_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = ofx("<DTPOSTED>20240304<TRNAMT>-1.00<NAME>A", "<DTPOSTED>20240305<TRNAMT>-2.00<NAME>IRMA")
    with pytest.raises(UserError, match="ends before") as failure:
        read(tmp_path, whole[: whole.index("IRMA") + 4])
    assert "IRMA" not in str(failure.value)


def test_camt_parts_that_do_not_add_up_get_a_remainder(tmp_path: Path) -> None:
    def part(amount: str, name: str) -> str:
        return f'<TxDtls><Amt Ccy="EUR">{amount}</Amt><RltdPties><Cdtr><Pty><Nm>{name}</Nm></Pty></Cdtr></RltdPties></TxDtls>'

    nameless = "<TxDtls><RltdPties><Cdtr><Nm>Rest</Nm></Cdtr></RltdPties></TxDtls>"
    body = entry("100.00", "DBIT", details=part("60.00", "Vos") + part("30.00", "Lente") + nameless)
    assert rows(read(tmp_path, CAMT.format(body=body))) == [
        "2024-03-05 -60.00 EUR Vos",
        "2024-03-05 -30.00 EUR Lente",
        "2024-03-05 -10.00 EUR Rest",
    ]
    whole = entry("90.00", "DBIT", details=part("60.00", "Vos") + part("30.00", "Lente"))
    assert len(read(tmp_path, CAMT.format(body=whole)).transactions) == 2


def test_camt_amounts_of_another_currency_do_not_split_an_entry(tmp_path: Path) -> None:
    foreign = '<TxDtls><AmtDtls><InstdAmt><Amt Ccy="USD">50</Amt></InstdAmt></AmtDtls></TxDtls>'
    both = '<TxDtls><AmtDtls><InstdAmt><Amt Ccy="USD">50</Amt></InstdAmt><TxAmt><Amt Ccy="EUR">46</Amt></TxAmt></AmtDtls></TxDtls>'
    assert rows(read(tmp_path, CAMT.format(body=entry("92", "DBIT", details=foreign * 2)))) == ["2024-03-05 -92 EUR"]
    assert rows(read(tmp_path, CAMT.format(body=entry("92", "DBIT", details=both * 2)))) == ["2024-03-05 -46 EUR"] * 2


def test_camt_names_the_other_side_by_direction_and_never_the_account(tmp_path: Path) -> None:
    sides = "<TxDtls><RltdPties><Dbtr><Nm>{debtor}</Nm></Dbtr><DbtrAcct><Id><IBAN>{own}</IBAN></Id></DbtrAcct><Cdtr><Nm>{creditor}</Nm></Cdtr><CdtrAcct><Id><IBAN>{other}</IBAN></Id></CdtrAcct></RltdPties><RmtInf><Ustrd>ref</Ustrd></RmtInf></TxDtls>"
    own, other = "NL02ABNA0123456789", "NL91ABNA0417164300"
    out = sides.format(debtor="Me", own=own, creditor="Shop", other=other)
    into = sides.format(debtor="Boss", own=other, creditor="Me", other=own)
    body = entry("5", "DBIT", details=out) + entry("6", "CRDT", details=into) + entry("5", "CRDT", details=out)
    assert rows(read(tmp_path, CAMT.format(body=body))) == [
        f"2024-03-05 -5 EUR Shop {other} ref",
        f"2024-03-05 6 EUR Boss {other} ref",
        f"2024-03-05 5 EUR Shop {other} ref",  # the shop's debit came back: the shop is the other side
    ]


def test_camt_that_has_not_moved_is_set_aside_by_name(tmp_path: Path) -> None:
    body = (
        entry("5", "DBIT", more="<AddtlNtryInf>Fee</AddtlNtryInf>")
        + entry("6", "DBIT", status="PDNG")
        + entry("7", "DBIT", status="INFO")
    )
    statement = read(tmp_path, CAMT.format(body=body))
    assert rows(statement) == ["2024-03-05 -5 EUR Fee"]
    assert {reason: count for reason, (count, _) in statement.lines_by_reason().items()} == {
        "pending": 1,
        "for information only": 1,
    }


def test_a_zip_of_camt_files_is_one_statement(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("b/2.xml", CAMT.format(body=entry("6", "CRDT")))
        archive.writestr("a/1.xml", CAMT.format(body=entry("5", "DBIT")))
        archive.writestr("__MACOSX/._1.xml", "resource fork")
    statement = read(tmp_path, buffer.getvalue())
    assert [str(t.amount) for t in statement.transactions] == ["-5", "6"]
    assert (statement.total, statement.lines) == (2, [1, 2])


def test_a_zip_of_several_kinds_or_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1.xml", CAMT.format(body=entry("6", "CRDT")))
        archive.writestr("2.csv", "Date,Description,Amount\n2024-03-05,A,1\n")
    with pytest.raises(UserError, match="a zip of 2 files"):
        read(tmp_path, buffer.getvalue())
    monkeypatch.setattr("fintune_kit.bank.statements.load.MAX_BYTES", len(buffer.getvalue()) + 10)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.xml", "0" * 100_000)
    with pytest.raises(UserError, match="unpacks to more"):
        read(tmp_path, bomb.getvalue())


@pytest.mark.parametrize("member", ["1.xml", "xl/workbook.xml"])
def test_an_archive_that_understates_what_it_unpacks_to_is_refused(tmp_path: Path, monkeypatch, member: str) -> None:
    monkeypatch.setattr("fintune_kit.bank.statements.load.MAX_BYTES", 50_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, "0" * 100_000)
    size = (100_000).to_bytes(4, "little")
    assert buffer.getvalue().count(size) == 2, "it stands in the header and in the directory"
    with pytest.raises(UserError, match=r"unpacks to more than 50,000 bytes, .* set FINTUNE_READ_LIMIT=10"):
        read(tmp_path, buffer.getvalue().replace(size, (10).to_bytes(4, "little")))


def test_a_workbook_with_a_cell_far_out_is_refused(tmp_path: Path) -> None:
    """The library would make a rectangle of 17 billion cells."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", '<c r="A1"><v>1</v></c><c s="1" r="XFD1048576"><v>1</v></c>')
    with pytest.raises(
        UserError, match=r"a sheet of .* has 1,048,576 lines and 16,384 columns, expected .* 20,000,000 c"
    ):
        read(tmp_path, buffer.getvalue())


@pytest.mark.parametrize(
    ("body", "expected", "aside"),
    [
        (
            ":61:2403040304DR30,00NMSCNONREF\n:86:005?00Karte?20SVWZ+Bau?21markt?32Suedring",
            ["2024-03-04 -30.00 EUR Suedring Baumarkt"],
            [],
        ),
        (
            ":61:2403040304RD25,00NMSC\n:86:109?00Rueck?20SVWZ+zurueck?32Fitness\n:61:2403040304RC5,00NMSC\n:86:109?20SVWZ+Storno",
            ["2024-03-04 25.00 EUR Fitness zurueck", "2024-03-04 -5.00 EUR Storno"],
            [],
        ),
        (
            ":61:2403040304D30,00N078NONREF\n:86:/TRTP/SEPA OVERBOEKING/IBAN/NL37ABNA0123456789/BIC/ABNANL2A/NAME/Bakkerij\n Zon/REMI/factuur 12/EREF/NOTPROVIDED",
            ["2024-03-04 -30.00 EUR Bakkerij Zon factuur 12"],
            [],
        ),
        (
            ":61:2403040304D30,00N078NONREF\n:86:/EREF/1//CNTP/NL92RABO0123456789/RABONL2U/Bakkerij Zon///REMI/USTD//brood/",
            ["2024-03-04 -30.00 EUR Bakkerij Zon brood"],
            [],
        ),
        (
            ":61:2403040304D30,00N034NONREF\n:86:020~00BR2~20Tytul oplaty~32PIEKARNIA LODZ",
            ["2024-03-04 -30.00 EUR PIEKARNIA LODZ Tytul oplaty"],
            [],
        ),
        (
            ":61:2403040304D30,00NMSCNONREF\n:86:plain text of a bank\nthat has no fields",
            ["2024-03-04 -30.00 EUR plain text of a bank that has no fields"],
            [],
        ),
    ],
    ids=["german", "reversals", "dutch", "ing", "polish", "plain"],
)
def test_mt940_texts_of_many_banks(body: str, expected: list[str], aside: list[str], tmp_path: Path) -> None:
    assert rows(read(tmp_path, MT940.format(body=body))) == expected
    assert rows(read(tmp_path, MT940.format(body=body).replace("\n", "\r\n"))) == expected


def test_mt940_text_of_the_whole_statement_is_not_a_payments_text(tmp_path: Path) -> None:
    text = (
        MT940.format(body=":61:2403040304D30,00NMSCNONREF\n:86:BAKER")
        + ":64:C240331EUR1470,00\n:86:/SUM/10/3/SECRET\n-\n"
    )
    statement = read(tmp_path, text)
    assert rows(statement) == ["2024-03-04 -30.00 EUR BAKER"]
    assert "text of the whole statement" in statement.lines_by_reason()
    assert sum(count for count, _ in statement.lines_by_reason().values()) + 2 == statement.total


def test_mt940_announcements_are_pending(tmp_path: Path) -> None:
    booked = MT940.format(body=":61:2403040304D30,00NMSCNONREF\n:86:BAKER") + "-\n"
    announced = ":20:STARTDISPE\n:25:20041155/0012345678\n:28C:0/1\n:34F:EURD0,\n:13D:2403050800+0100\n:61:2403060306D11,90NMSCNONREF\n:86:CINEMA\n:90D:1EUR11,90\n-\n"
    statement = read(tmp_path, booked + announced + booked)
    assert rows(statement) == ["2024-03-04 -30.00 EUR BAKER"] * 2
    assert statement.lines_by_reason()["pending"][0] == 2


QIF = "!Option:AutoSwitch\n!Account\nNChecking\nTBank\n^\n!Clear:AutoSwitch\n!Type:Bank\nD16/12'24\nT-1,021.62\nPCoach Line\nMticket\nLAuto:Fuel\nCX\n^\nD13/12'24\nU-16.04\nT-16.04\nPSHOP\nSGroceries\n$-10.00\nSHousehold\n$-6.04\n^\n!Type:Cat\nNFuel\nE\n^\n!Type:Invst\nD13/12'24\nNBuy\nYFund\n^\n"


def test_qif_with_accounts_splits_and_lists(tmp_path: Path) -> None:
    statement = read(tmp_path, QIF, currency="GBP")
    assert rows(statement) == ["2024-12-16 -1021.62 GBP Coach Line ticket", "2024-12-13 -16.04 GBP SHOP"]
    assert [t.account for t in statement.transactions] == ["Checking"] * 2
    assert [t.category for t in statement.transactions] == ["Transport", ""]
    assert {"list of categories", "a trade of securities"} <= set(statement.lines_by_reason())


def test_qif_asks_for_the_order_of_a_date_that_may_be_two(tmp_path: Path) -> None:
    text = "!Type:Bank\nD03/04/2024\nT-1.00\nPA\n^\n"
    with pytest.raises(UserError, match="--date-order"):
        read(tmp_path, text)
    assert rows(read(tmp_path, text, date_order="mdy")) == ["2024-03-04 -1.00  A"]


def workbook(*sheets: list[list[object]]) -> bytes:
    """A workbook in the fewest parts that readers accept."""

    def cell(value: object) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return "<c/>" if value is None else f"<c><v>{value}</v></c>"

    main, office = (
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        numbers = range(1, len(sheets) + 1)
        overrides = "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
            for n in numbers
        )
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>{overrides}</Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
            + "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="r{n}"/>' for n in numbers)
            + "</sheets></workbook>",
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships">'
            + "".join(
                f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
            )
            + "</Relationships>",
        )
        for number, rows_of_sheet in enumerate(sheets, start=1):
            body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows_of_sheet)
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>',
            )
    return buffer.getvalue()


def test_a_workbook_is_read_from_the_sheet_that_holds_transactions(tmp_path: Path) -> None:
    book = workbook(
        [["Statement of account"], ["A B"]],
        [
            ["Account", "123"],
            ["Date", "Description", "Withdrawal", "Deposit"],
            [45352, "Bakery", 4.2, None],
            [45353, "Payroll", None, 1234.5],
            [45354, "Fuel", 1.125, None],
        ],
    )
    statement = read(tmp_path, book)
    assert rows(statement) == ["2024-03-01 -4.20  Bakery", "2024-03-02 1234.50  Payroll", "2024-03-03 -1.1250  Fuel"]
    assert statement.lines == [3, 4, 5]
    assert "sheets" in statement.notes[0]


def test_a_workbook_with_text_in_its_cells_is_read_as_text(tmp_path: Path) -> None:
    book = workbook(
        [["Datum", "Text", "Betrag"], ["05.03.2024", "Bäcker", "-1.004,20"], ["06.03.2024", "Lohn", "1.900,00"]]
    )
    assert rows(read(tmp_path, book)) == ["2024-03-05 -1004.20  Bäcker", "2024-03-06 1900.00  Lohn"]


@pytest.mark.parametrize("options", [{"mapping": {"date": "1", "amount": "2"}}])
def test_a_map_for_a_format_that_names_its_fields_is_refused(options: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave --map out"):
        read(tmp_path, ofx("<DTPOSTED>20240304<TRNAMT>-1.00<NAME>A"), **options)
