"""Files in the manner of many banks, cards, payment services and budget tools, each read into dates and signed amounts."""

# ruff: noqa: E501 (lines as banks write them)

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fintune_kit.bank.statements.load import load_statement, parse_mapping
from fintune_kit.errors import UserError


@dataclass(frozen=True)
class Case:
    """A file and what must come of it."""

    text: str
    rows: str
    """`2024-03-05 -4.20, ...`, in the order of the file."""
    has: tuple[str, ...] = ()
    """Each must stand in a description."""
    lacks: tuple[str, ...] = ()
    encoding: str = "utf-8"
    currency: str | None = None
    """Of all transactions."""
    aside: tuple[str, ...] = ()
    """Reasons for which lines must be set aside."""
    note: str = ""
    """A word of a note."""
    options: str = ""
    """As on the command line: `date_order=dmy map=date=1`."""


def read_case(case: Case, folder: Path) -> Any:
    options: dict[str, Any] = {}
    pairs = []
    for option in case.options.split():
        name, _, value = option.partition("=")
        if name == "map":
            pairs.append(value.replace("_", " "))
        else:
            options[name] = {"True": True, "False": False}.get(value, value)
    path = folder / "bank.txt"
    path.write_bytes(case.text.encode(case.encoding))
    return load_statement(path, mapping=parse_mapping(pairs) or None, **options)


BANKS = {
    "wise": Case(
        '"TransferWise ID",Date,Amount,Currency,Description,"Payment Reference","Running Balance","Exchange From","Exchange To","Payer Name","Payee Name",Merchant\n'
        "CARD-1,15-03-2024,-4.20,EUR,Card transaction of 4.20 EUR issued by Bakery,,95.80,,,,,Bakery\n"
        'TRANSFER-2,16-03-2024,900.00,EUR,Received money from Workshop Ltd,INV 7,995.80,,,"Workshop Ltd",,\n',
        "2024-03-15 -4.20, 2024-03-16 900.00", has=("Bakery", "Workshop Ltd"), currency="EUR",
    ),
    "wise transfers with a direction and a status": Case(
        'ID,Status,Direction,"Created on","Finished on","Source fee amount","Source name","Source amount (after fees)","Source currency","Target name","Target amount (after fees)","Target currency",Reference\n'
        "T1,COMPLETED,OUT,2024-03-15 10:00:00,2024-03-15 10:00:02,0.00,Me,4.20,EUR,Bakery,4.20,EUR,bread\n"
        "T2,COMPLETED,IN,2024-03-16 10:00:00,2024-03-16 10:00:02,0.00,Workshop Ltd,900.00,EUR,Me,900.00,EUR,pay\n"
        "T3,CANCELLED,OUT,2024-03-17 10:00:00,,0.00,Me,5.00,EUR,Hotel,5.00,EUR,\n",
        "2024-03-15 -4.20, 2024-03-16 900.00", has=("Bakery", "Workshop Ltd"), lacks=("Hotel", "Me"), aside=("cancelled",),
    ),
    "raiffeisen switzerland": Case(
        "IBAN;Booked At;Text;Credit/Debit Amount;Balance;Valuta Date\n"
        "CH5604835012345678009;2024-03-05 00:00:00.0;Einkauf Coop Bern;-4.2;95.8;2024-03-05 00:00:00.0\n"
        ";;Detail of a batch;;;\n"
        "CH5604835012345678009;2024-03-06 00:00:00.0;Lohn;1900;1995.8;2024-03-06 00:00:00.0\n",
        "2024-03-05 -4.2, 2024-03-06 1900", has=("Coop",), aside=("no date",),
    ),
    "raiffeisen austria has no header": Case(
        "05.03.2024;Bezahlung Karte BILLA;05.03.2024;-4,20;EUR;05.03.2024 10:11:12:123\n06.03.2024;Gehalt;06.03.2024;1.900,00;EUR;06.03.2024 10:11:12:123\n",
        "2024-03-05 -4.20, 2024-03-06 1900.00", has=("BILLA",), options="map=date=1 map=description=2 map=amount=4 map=currency=5", currency="EUR",
    ),
    "postfinance with debits below zero": Case(
        'Datum von:;="01.03.2024"\nKonto:;="CH5604835012345678009"\nWährung:;="CHF"\n\n'
        "Buchungsdatum;Avisierungstext;Gutschrift in CHF;Lastschrift in CHF;Valuta;Saldo in CHF\n"
        "05.03.2024;Kauf Migros;;-4.20;05.03.2024;95.80\n06.03.2024;Gutschrift Lohn;1900.00;;06.03.2024;1995.80\n\nDisclaimer:\n",
        "2024-03-05 -4.20, 2024-03-06 1900.00", currency="CHF",
    ),
    "ubs with three descriptions": Case(
        "Abschlussdatum;Abschlusszeit;Buchungsdatum;Valutadatum;Währung;Belastung;Gutschrift;Einzelbetrag;Saldo;Transaktions-Nr.;Beschreibung1;Beschreibung2;Beschreibung3;Fussnoten;\n"
        '2024-03-05;10:00:00;2024-03-05;2024-03-05;CHF;-4.20;;;95.80;123;"Coop-1234;";"Zahlung Debitkarte";"Konto-Nr.";;\n'
        '2024-03-06;;2024-03-06;2024-03-06;CHF;;1900.00;;1995.80;124;"Werkstatt AG";"Gutschrift";"";;\n',
        "2024-03-05 -4.20, 2024-03-06 1900.00", has=("Coop-1234", "Zahlung Debitkarte"), currency="CHF",
    ),
    "a swiss card with amounts in another currency": Case(
        "sep=;\nKontonummer;Kartennummer;Konto-/Karteninhaber;Einkaufsdatum;Buchungstext;Branche;Betrag;Originalwährung;Kurs;Währung;Belastung;Gutschrift;Buchung\n"
        "0000 0000;XXXX 1234;A B;05.03.2024;BAKERY PARIS;Bakeries;4.00;EUR;0.95;CHF;3.80;;06.03.2024\n"
        "0000 0000;XXXX 1234;A B;06.03.2024;ZAHLUNG;;100.00;CHF;;CHF;;100.00;07.03.2024\n",
        "2024-03-05 -3.80, 2024-03-06 100.00", has=("BAKERY PARIS",), currency="CHF",
    ),
    "swisscard with debit and credit words": Case(
        "Transaktionsdatum,Beschreibung,Kartennummer,Währung,Betrag,Debit/Kredit,Status,Kategorie\n"
        "05.03.2024,BAKERY,123,CHF,4.20,Debit,Gebucht,Food\n06.03.2024,IHRE ZAHLUNG,123,CHF,-100.00,Kredit,Gebucht,\n07.03.2024,HOTEL,123,CHF,80.00,Debit,Vorgemerkt,\n",
        "2024-03-05 -4.20, 2024-03-06 100.00", aside=("pending",), currency="CHF",
    ),
    "hdfc card with a delimiter of two signs": Case(
        "Transaction type~|~Primary / Addon Customer Name~|~DATE~|~Description~|~AMT~|~Debit / Credit\n"
        "Domestic~|~A B~|~15/03/2024 10:00:00~|~BAKERY BENGALURU~|~1,499.00~|~\nDomestic~|~A B~|~16/03/2024 10:00:00~|~PAYMENT RECEIVED~|~3,448.10~|~Cr\n",
        "2024-03-15 -1499.00, 2024-03-16 3448.10", options="map=date=DATE map=description=Description map=amount=AMT map=type=Debit_/_Credit",
    ),
    "icici": Case(
        "S No.,Value Date,Transaction Date,Cheque Number,Transaction Remarks,Withdrawal Amount (INR ),Deposit Amount (INR ),Balance (INR )\n"
        '1,15/03/2024,15/03/2024,-,UPI/CHAI POINT/123,"1,499.00",0.0,"98,501.00"\n2,16/03/2024,16/03/2024,-,NEFT SALARY,0.0,"1,23,456.00","2,21,957.00"\n',
        "2024-03-15 -1499.00, 2024-03-16 123456.00", currency="INR",
    ),
    "kotak with two columns of one name": Case(
        'Sl. No.,Date,Description,Chq / Ref number,Amount,Dr / Cr,Balance,Dr / Cr\n1,15-03-2024,UPI/CHAI,UPI-1,500.00,DR,"9,500.00",CR\n2,16-03-2024,SALARY,NEFT-2,"50,000.00",CR,"59,500.00",CR\n',
        "2024-03-15 -500.00, 2024-03-16 50000.00",
    ),
    "sbi with tabs": Case(
        "Account Name\t: A B\nTxn Date\tValue Date\tDescription\tRef No./Cheque No.\t        Debit\tCredit\tBalance\n15 Mar 2024\t15 Mar 2024\tBY TRANSFER-UPI\tTRANSFER\t500.00\t \t9,500.00\n16 Mar 2024\t16 Mar 2024\tSALARY\t\t \t50,000.00\t59,500.00\n",
        "2024-03-15 -500.00, 2024-03-16 50000.00",
    ),
    "an indian card that marks credits in a column of its own": Case(
        '"Date","Sr.No.","Transaction Details","Reward Point Header","Intl.Amount","Amount(in Rs)","BillingAmountSign"\n"15/03/2024","1","BAKERY","5","0","1,499.00",""\n"16/03/2024","2","PAYMENT RECEIVED","0","0","3,448.10","CR"\n"17/03/2024","3","FUEL","0","0","2,000.00",""\n',
        "2024-03-15 -1499.00, 2024-03-16 3448.10, 2024-03-17 -2000.00", currency="INR",
    ),
    "paypal in german": Case(
        '"Datum","Uhrzeit","Zeitzone","Name","Typ","Status","Währung","Brutto","Entgelt","Netto","Absender E-Mail-Adresse","Auswirkung auf Guthaben"\n'
        '"15.03.2024","10:00:00","CET","Plakat Laden","Zahlung","Abgeschlossen","EUR","-24,00","0,00","-24,00","me@example.org","Soll"\n'
        '"16.03.2024","10:00:00","CET","Kunde","Zahlung","Abgeschlossen","EUR","100,00","-3,20","96,80","k@example.org","Haben"\n'
        '"17.03.2024","10:00:00","CET","Hotel","Autorisierung","Ausstehend","EUR","-90,00","0,00","-90,00","","Memo"\n',
        "2024-03-15 -24.00, 2024-03-16 96.80", aside=("pending",), currency="EUR", note="fees",
    ),
    "n26": Case(
        '"Booking Date","Value Date","Partner Name","Partner Iban",Type,"Payment Reference","Account Name","Amount (EUR)","Original Amount","Original Currency","Exchange Rate"\n'
        '2024-03-15,2024-03-15,"Bäckerei Sonne",,Presentment,,"Main Account",-4.2,4.2,EUR,1\n2024-03-16,2024-03-16,"Werkstatt GmbH",DE02120300000000202051,"Credit Transfer",Lohn,"Main Account",1900.0,,,\n',
        "2024-03-15 -4.2, 2024-03-16 1900.0", has=("Bäckerei Sonne", "Lohn"), currency="EUR",
    ),
    "volksbank": Case(
        "Bezeichnung Auftragskonto;IBAN Auftragskonto;BIC Auftragskonto;Bankname Auftragskonto;Buchungstag;Valutadatum;Name Zahlungsbeteiligter;IBAN Zahlungsbeteiligter;BIC (SWIFT-Code) Zahlungsbeteiligter;Buchungstext;Verwendungszweck;Betrag;Waehrung;Saldo nach Buchung;Bemerkung;Kategorie;Steuerrelevant;Glaeubiger ID;Mandatsreferenz\n"
        "Konto;DE02120300000000202051;GENODEF1XXX;Volksbank;15.03.2024;15.03.2024;Bäckerei Sonne;DE02100500000054540402;BELADEBEXXX;Lastschrift;Brot;-1.004,20;EUR;95,80;;;;;\n",
        "2024-03-15 -1004.20", has=("Bäckerei Sonne", "Brot"), currency="EUR",
    ),
    "deutsche bank with pending lines and a sum": Case(
        "Umsätze Girokonto;;;Kundennummer: 100 1234567\n01.03.2024 - 31.03.2024\nLetzter Kontostand;;;;100,00;EUR\nVorgemerkte und noch nicht gebuchte Umsätze sind nicht Bestandteil dieser Übersicht.\n"
        "Buchungstag;Wert;Umsatzart;Begünstigter / Auftraggeber;Verwendungszweck;IBAN;BIC;Kundenreferenz;Mandatsreferenz ;Gläubiger ID;Fremde Gebühren;Betrag;Abweichender Empfänger;Anzahl der Aufträge;Anzahl der Schecks;Soll;Haben;Währung\n"
        "15.03.2024;15.03.2024;Kartenzahlung;Bäckerei Sonne;Brot;DE02100500000054540402;X;;;;;;;;;-4,20;;EUR\n16.03.2024;16.03.2024;Gutschrift;Werkstatt;Lohn;DE02;X;;;;;;;;;;1.900,00;EUR\nKontostand;31.03.2024;;;1.995,80;EUR\n",
        "2024-03-15 -4.20, 2024-03-16 1900.00", has=("Bäckerei Sonne Brot",), aside=("balance",),
    ),
    "comdirect, two accounts and an open booking": Case(
        ';\n"Umsätze Girokonto";"Zeitraum: 30 Tage";\n"Neuer Kontostand";"95,80 EUR";\n\n"Buchungstag";"Wertstellung (Valuta)";"Vorgang";"Buchungstext";"Umsatz in EUR";\n"offen";"--";"Lastschrift / Belastung";"HOTEL";"-80,00";\n"15.03.2024";"15.03.2024";"Lastschrift / Belastung";"Auftraggeber: BAECKER Buchungstext: Brot";"-4,20";\n"Alter Kontostand";"100,00 EUR";\n\n"Umsätze Visa-Karte";"Zeitraum: 30 Tage";\n\n"Buchungstag";"Umsatztag";"Vorgang";"Referenz";"Buchungstext";"Umsatz in EUR";\n"16.03.2024";"15.03.2024";"Visa-Umsatz";"12345";"KINO AM MARKT";"-11,00";\n',
        "2024-03-15 -4.20, 2024-03-16 -11.00", has=("BAECKER", "KINO AM MARKT"), aside=("pending", "balance"),
    ),
    "boursorama with its own categories": Case(
        "dateOp;dateVal;label;category;categoryParent;supplierFound;amount;comment;accountNum;accountLabel;accountbalance\n"
        '2024-03-15;2024-03-15;"CARTE 14/03/24 BOULANGERIE";"Restaurants, bars";"Loisirs";"boulangerie";"-4,20";"";"00040123456";"BoursoBank";"95.80"\n2024-03-16;2024-03-16;"VIR SALAIRE";"Salaires";"Revenus";"";"1 900,00";"";"00040123456";"BoursoBank";"95.80"\n',
        "2024-03-15 -4.20, 2024-03-16 1900.00", has=("BOULANGERIE",),
    ),
    "credit agricole": Case(
        "Téléchargement du 31/03/2024;\n\nCompte de Dépôt carte n° 12345678901;\nSolde au 31/03/2024 95,80 €\n\nDate;Libellé;Débit euros;Crédit euros;\n"
        '15/03/2024;"PAIEMENT PAR CARTE\nBOULANGERIE PARIS 14/03";4,20;;\n16/03/2024;"VIREMENT EN VOTRE FAVEUR\nATELIER";;1 900,00;\n',
        "2024-03-15 -4.20, 2024-03-16 1900.00", encoding="cp1252", has=("BOULANGERIE PARIS",), currency="EUR",
    ),
    "fineco with the state of each line": Case(
        "Data_Operazione;Data_Valuta;Entrate;Uscite;Descrizione;Descrizione_Completa;Stato\n15/03/2024;15/03/2024;;-4,20;PAGAMENTO POS;PANETTERIA ROMA;Contabilizzato\n16/03/2024;16/03/2024;1.900,00;;BONIFICO;STIPENDIO;Contabilizzato\n17/03/2024;;;-80,00;PAGAMENTO POS;HOTEL;Autorizzato\n",
        "2024-03-15 -4.20, 2024-03-16 1900.00", has=("PANETTERIA ROMA",), aside=("pending",),
    ),
    "caixa": Case(
        "Data mov.;Data valor;Descrição;Débito;Crédito;Saldo contabilístico;Saldo disponível;Categoria;\n15-03-2024;15-03-2024;COMPRA PADARIA;4,20;;95,80;95,80;Alimentação;\n16-03-2024;16-03-2024;SALARIO;;1.900,00;1.995,80;1.995,80;;\n",
        "2024-03-15 -4.20, 2024-03-16 1900.00", encoding="cp1252",
    ),
    "itau": Case(
        "data;lançamento;ag./origem;valor (R$);saldos (R$)\n15/03/2024;PIX PADARIA;;-4,20;\n15/03/2024;SALDO DO DIA;;;95,80\n16/03/2024;SALARIO;;1.900,00;\n",
        "2024-03-15 -4.20, 2024-03-16 1900.00", aside=("balance",), currency="BRL",
    ),
    "nubank card": Case("date,title,amount\n2024-03-15,Padaria,4.20\n2024-03-16,Cinema,12.00\n2024-03-17,Pagamento recebido,-100.00\n", "2024-03-15 -4.20, 2024-03-16 -12.00, 2024-03-17 100.00", note="turned"),
    "mbank": Case(
        "mBank S.A.;\n#Klient;\nA B;\n\n#Data operacji;#Opis operacji;#Rachunek;#Kategoria;#Kwota;\n2024-03-15;PIEKARNIA ŁÓDŹ ZAKUP;eKonto;Jedzenie;-4,20 PLN;\n2024-03-16;WYNAGRODZENIE;eKonto;Wpływy;1 900,00 PLN;\n",
        "2024-03-15 -4.20, 2024-03-16 1900.00", encoding="cp1250", has=("ŁÓDŹ",), currency="PLN",
    ),
    "pko": Case(
        '"Data operacji","Data waluty","Typ transakcji","Kwota","Waluta","Saldo po transakcji","Opis transakcji","","",""\n"2024-03-15","2024-03-15","Płatność kartą","-4.20","PLN","+95.80","Tytuł: 00123","Lokalizacja: Adres: PIEKARNIA","",""\n"2024-03-16","2024-03-16","Przelew na konto","+1900.00","PLN","+1995.80","Nazwa nadawcy: WARSZTAT","Tytuł: pensja","",""\n',
        "2024-03-15 -4.20, 2024-03-16 1900.00", encoding="cp1250", currency="PLN",
    ),
    "fio": Case(
        '"accountId";"2400222222"\n"bankId";"2010"\n\n"ID operace";"Datum";"Objem";"Měna";"Protiúčet";"Název protiúčtu";"Kód banky";"Zpráva pro příjemce";"Typ"\n"1";"15.03.2024";"-104,20";"CZK";"";"Pekařství Žižkov";"";"chléb";"Platba kartou"\n"2";"16.03.2024";"1 900,00";"CZK";"123";"Dílna s.r.o.";"0800";"mzda";"Příjem"\n',
        "2024-03-15 -104.20, 2024-03-16 1900.00", encoding="cp1250", has=("Pekařství Žižkov",), currency="CZK",
    ),
    "otp": Case(
        "Könyvelés dátuma;Terhelés;Jóváírás;Devizanem;Partner neve;Közlemény\n2024.03.15;1 250;;HUF;Sarki Pékség;kenyér\n2024.03.16;;310 000;HUF;Műhely Kft;munkabér\n",
        "2024-03-15 -1250, 2024-03-16 310000", encoding="cp1250", has=("Műhely Kft",), currency="HUF",
    ),
    "swedbank": Case(
        "* Transaktioner Period 2024-03-01 - 2024-03-31\nRadnummer,Clearingnummer,Kontonummer,Produkt,Valuta,Bokföringsdag,Transaktionsdag,Valutadag,Referens,Beskrivning,Belopp,Bokfört saldo\n1,81059,123,Privatkonto,SEK,2024-03-15,2024-03-14,2024-03-15,Bageriet,BAGERIET ÅRSTA,-45.00,955.00\n2,81059,123,Privatkonto,SEK,2024-03-16,2024-03-16,2024-03-16,Lön,LÖN,19000.00,19955.00\n",
        "2024-03-15 -45.00, 2024-03-16 19000.00", encoding="cp1252", currency="SEK",
    ),
    "nordea finland": Case(
        "Kirjauspäivä;Määrä;Maksaja;Maksunsaaja;Nimi;Otsikko;Viitenumero;Saldo;Valuutta\n2024/03/15;-4,20;FI21;;Leipomo;Ostos;;95,80;EUR\n2024/03/16;1900,00;;FI21;Verstas Oy;Palkka;;1995,80;EUR\n",
        "2024-03-15 -4.20, 2024-03-16 1900.00", currency="EUR",
    ),
    "danske": Case(
        '"Dato";"Tekst";"Beløb";"Saldo";"Status";"Afstemt"\n"15.03.2024";"Bageren Ålborg";"-45,00";"955,00";"Udført";"Nej"\n"16.03.2024";"Løn";"19.000,00";"19.955,00";"Udført";"Nej"\n"20.03.2024";"Husleje";"-5.000,00";"14.955,00";"Venter";"Nej"\n',
        "2024-03-15 -45.00, 2024-03-16 19000.00", encoding="cp1252", aside=("pending",), has=("Løn",),
    ),
    "dnb": Case('"Dato";"Forklaring";"Rentedato";"Ut fra konto";"Inn på konto"\n"15.03.2024";"Varekjøp Bakeri";"15.03.2024";"45,00";""\n"16.03.2024";"Lønn";"16.03.2024";"";"19.000,00"\n', "2024-03-15 -45.00, 2024-03-16 19000.00", encoding="cp1252"),
    "swedbank of the baltic": Case(
        '"Account No";"";"Date";"Beneficiary";"Details";"Amount";"Currency";"D/K";"Record ID";"Code"\n"LT02";"10";"2024-03-01";"";"Opening balance";"100,00";"EUR";"K";"";"AS"\n"LT02";"20";"2024-03-15";"PEKARNE";"PIRKINYS 123";"4,20";"EUR";"D";"1";"K"\n"LT02";"20";"2024-03-16";"DIRBTUVE UAB";"Atlyginimas";"900,00";"EUR";"K";"2";"MK"\n"LT02";"82";"2024-03-31";"";"Turnover";"904,20";"EUR";"K";"";""\n"LT02";"86";"2024-03-31";"";"closing balance";"995,80";"EUR";"K";"";"LS"\n',
        "2024-03-15 -4.20, 2024-03-16 900.00", aside=("balance", "total"), currency="EUR",
    ),
    "rabobank": Case(
        '"IBAN/BBAN","Munt","BIC","Volgnr","Datum","Rentedatum","Bedrag","Saldo na trn","Tegenrekening IBAN/BBAN","Naam tegenpartij","Naam uiteindelijke partij","Code","Omschrijving-1","Omschrijving-2"\n"NL10RABO0123456789","EUR","RABONL2U","1","2024-03-15","2024-03-15","-4,20","+95,80","","Bakkerij Zon","","bc","Betaalautomaat","pas 001"\n"NL10RABO0123456789","EUR","RABONL2U","2","2024-03-16","2024-03-16","+1900,00","+1995,80","NL91ABNA0417164300","Atelier BV","","cb","salaris","maart"\n',
        "2024-03-15 -4.20, 2024-03-16 1900.00", has=("Bakkerij Zon", "salaris", "maart"), currency="EUR",
    ),
    "triodos has no header": Case('"15-03-2024","NL10TRIO0123456789","4,20","Debet","Bakkerij Zon","","BA","brood","95,80"\n"16-03-2024","NL10TRIO0123456789","1.900,00","Credit","Atelier BV","NL91","ET","salaris","1.995,80"\n', "2024-03-15 -4.20, 2024-03-16 1900.00", options="map=date=1 map=amount=3 map=type=4 map=payee=5 map=memo=8"),
    "japanese": Case("日付,摘要,出金金額,入金金額,残高\n2024/3/15,コンビニ,420,,\"99,580\"\n2024/3/16,給与,,\"190,000\",\"289,580\"\n", "2024-03-15 -420, 2024-03-16 190000", encoding="cp932", has=("コンビニ",)),
    "wechat": Case("微信支付账单明细\n交易时间,交易类型,交易对方,商品,收/支,金额(元),支付方式,当前状态\n2024-03-15 10:00:00,商户消费,面包店,面包,支出,¥4.20,零钱,支付成功\n2024-03-16 10:00:00,转账,老板,转账备注,收入,¥900.00,/,已存入零钱\n2024-03-17 10:00:00,商户消费,酒店,房费,支出,¥80.00,零钱,已关闭\n", "2024-03-15 -4.20, 2024-03-16 900.00", has=("面包店",), aside=("cancelled",), currency="CNY"),
    "russian": Case("Дата операции;Статус;Сумма операции;Валюта операции;Категория;Описание\n15.03.2024 10:00:00;OK;-420,00;RUB;Супермаркеты;Булочная\n16.03.2024 10:00:00;OK;19000,00;RUB;Зарплата;Мастерская\n17.03.2024 10:00:00;FAILED;-80,00;RUB;Отели;Гостиница\n", "2024-03-15 -420.00, 2024-03-16 19000.00", encoding="cp1251", aside=("cancelled",), currency="RUB"),
    "turkish": Case("Tarih;Açıklama;İşlem Tutarı;Bakiye\n15.03.2024;Fırın Şişli;-4,20 TL;95,80\n16.03.2024;Maaş Ödemesi;1.900,00 TL;1.995,80\n", "2024-03-15 -4.20, 2024-03-16 1900.00", encoding="cp1254", has=("Şişli",), currency="TRY"),
    "chase account": Case("Details,Posting Date,Description,Amount,Type,Balance,Check or Slip #\nDEBIT,03/15/2024,CORNER BAKERY,-4.20,DEBIT_CARD,95.80,,\nCREDIT,03/16/2024,PAYROLL,900.00,ACH_CREDIT,995.80,,\n", "2024-03-15 -4.20, 2024-03-16 900.00"),
    "chase card": Case("Transaction Date,Post Date,Description,Category,Type,Amount,Memo\n03/15/2024,03/16/2024,CORNER BAKERY,Food & Drink,Sale,-4.20,\n03/20/2024,03/20/2024,Payment Thank You,,Payment,900.00,\n", "2024-03-15 -4.20, 2024-03-20 900.00"),
    "apple card": Case("Transaction Date,Clearing Date,Description,Merchant,Category,Type,Amount (USD),Purchased By\n03/15/2024,03/16/2024,BAKERY NY,Bakery,Restaurants,Purchase,4.20,A\n03/16/2024,03/17/2024,CINEMA,Cinema,Entertainment,Purchase,12.00,A\n03/20/2024,03/20/2024,ACH DEPOSIT,Ach,Payment,Payment,-900.00,A\n", "2024-03-15 -4.20, 2024-03-16 -12.00, 2024-03-20 900.00", currency="USD", note="turned"),
    "discover card": Case('Trans. Date,Post Date,Description,Amount,Category\n03/15/2024,03/15/2024,"BAKERY",4.20,"Restaurants"\n03/16/2024,03/16/2024,"CINEMA",12.00,"Merchandise"\n03/20/2024,03/20/2024,"INTERNET PAYMENT - THANK YOU",-900.00,"Payments and Credits"\n', "2024-03-15 -4.20, 2024-03-16 -12.00, 2024-03-20 900.00", note="turned"),
    "unsigned purchases and refunds": Case("Date,Type,Description,Amount\n2024-03-15,Purchase,BAKERY,12.40\n2024-03-16,Refund,SHOES,80.00\n2024-03-17,Payment,THANK YOU,100.00\n", "2024-03-15 -12.40, 2024-03-16 80.00, 2024-03-17 100.00"),
    "citi with credits below zero": Case("Status,Date,Description,Debit,Credit\nCleared,03/15/2024,BAKERY,4.20,\nCleared,03/20/2024,PAYMENT,,-900.00\nPending,03/21/2024,HOTEL,80.00,\n", "2024-03-15 -4.20, 2024-03-20 900.00", aside=("pending",)),
    "capital one": Case("Account Number,Transaction Description,Transaction Date,Transaction Type,Transaction Amount,Balance\n1234,BAKERY,03/15/24,Debit,4.20,95.80\n1234,PAYROLL,03/16/24,Credit,900.00,995.80\n", "2024-03-15 -4.20, 2024-03-16 900.00"),
    "bank of america with a summary": Case('Description,,Summary Amt.\n"Beginning balance as of 03/01/2024",,"100.00"\n"Total credits",,"900.00"\n\nDate,Description,Amount,Running Bal.\n03/01/2024,"Beginning balance as of 03/01/2024",,"100.00"\n03/15/2024,"BAKERY","-4.20","95.80"\n03/16/2024,"PAYROLL","900.00","995.80"\n', "2024-03-15 -4.20, 2024-03-16 900.00", aside=("balance",)),
    "wells fargo has no header": Case('"03/15/2024","-4.20","*","","BAKERY"\n"03/16/2024","900.00","*","","PAYROLL"\n', "2024-03-15 -4.20, 2024-03-16 900.00", options="map=date=1 map=amount=2 map=description=5"),
    "natwest with guarded cells": Case("Date, Type, Description, Value, Balance, Account Name, Account Number\n\n15/03/2024,POS,\"'BAKERY LEEDS\",-4.20,95.80,\"'A B\",\"'123456-12345678\",\n16/03/2024,BAC,\"'WORKSHOP LTD\",900.00,995.80,\"'A B\",\"'123456-12345678\",\n", "2024-03-15 -4.20, 2024-03-16 900.00", has=("BAKERY LEEDS",), lacks=("'",)),
    "starling": Case("Date,Counter Party,Reference,Type,Amount (GBP),Balance (GBP),Spending Category,Notes\n15/03/2024,Bakery,BAKERY LEEDS,CONTACTLESS,-4.20,95.80,EATING_OUT,\n16/03/2024,Workshop Ltd,WAGES,FASTER PAYMENT,900.00,995.80,INCOME,\n", "2024-03-15 -4.20, 2024-03-16 900.00", has=("BAKERY LEEDS", "Workshop Ltd WAGES"), currency="GBP"),
    "lloyds": Case("Transaction Date,Transaction Type,Sort Code,Account Number,Transaction Description,Debit Amount,Credit Amount,Balance\n15/03/2024,DEB,'11-22-33,12345678,BAKERY,4.20,,95.80\n16/03/2024,BGC,'11-22-33,12345678,WORKSHOP LTD,,900.00,995.80\n", "2024-03-15 -4.20, 2024-03-16 900.00", has=("BAKERY",)),
    "asb with a preamble": Case('Created date / time : 31 March 2024\nBank 12; Branch 3100; Account 0123456-50 (Streamline)\nFrom date 20240301\nTo date 20240331\n\nDate,Unique Id,Tran Type,Cheque Number,Payee,Memo,Amount\n\n2024/03/15,1,EFTPOS,,"BAKERY","eftpos",-4.20\n2024/03/16,2,CREDIT,,"WORKSHOP LTD","wages",900.00\n', "2024-03-15 -4.20, 2024-03-16 900.00"),
    "westpac": Case("Bank Account,Date,Narrative,Debit Amount,Credit Amount,Balance,Categories,Serial\n032000123456,15/03/2024,BAKERY,4.20,,95.80,PAYMENT,\n032000123456,16/03/2024,PAYROLL,,900.00,995.80,SALARY,\n", "2024-03-15 -4.20, 2024-03-16 900.00"),
    "revolut of old, padded, with months by name": Case("Completed Date , Description , Paid Out (CHF) , Paid In (CHF) , Exchange Out, Exchange In, Balance (CHF), Category, Notes\n\"Aug 1, 2023\" , Coop Pronto , 9.10 ,  ,  ,  , 1.47, Transport, \n\"Jul 29, 2023\" , Top up , , 20.00 ,  ,  , 20.57, General,\n", "2023-08-01 -9.10, 2023-07-29 20.00", currency="CHF"),
    "firefly": Case("type,currency_code,amount,description,date,source_name,destination_name,category\nWithdrawal,EUR,-12.5,Lunch,2023-01-05T00:00:00+01:00,Checking,Vapiano,Restaurants\nDeposit,EUR,2000,Salary,2023-01-06T00:00:00+01:00,Boss,Checking,Salary\n", "2023-01-05 -12.5, 2023-01-06 2000", has=("Vapiano Lunch", "Boss Salary"), currency="EUR"),
    "amounts under the name of a currency": Case("Account Type,Transaction Date,Description 1,CAD$,USD$\nChequing,3/14/2024,SHOP,-20.00,\nChequing,3/15/2024,PAY,100.00,\n", "2024-03-14 -20.00, 2024-03-15 100.00"),
    "a status by a longer name": Case("Date,Description,Amount,Payment status\n2024-03-04,SHOP,-20.00,SUCCESS\n2024-03-05,SHOP,-20.00,FAILED\n2024-03-06,PAY,9.00,SUCCESS\n", "2024-03-04 -20.00, 2024-03-06 9.00", aside=("cancelled",)),
    "a day reserved instead of a date": Case("Bokföringsdag;Belopp;Namn;Rubrik;Saldo;Valuta\n2024/03/04;-129,00;ICA;Kortköp ICA;871,00;SEK\nReserverat;-50,00;;Kortköp BUSS;;SEK\n2024/03/01;1 000,00;Lön;Lön;1 000,00;SEK\n", "2024-03-04 -129.00, 2024-03-01 1000.00", aside=("pending",)),
    "forints without decimals": Case("Könyvelés dátuma;Összeg;Pénznem;Partner neve;Közlemény\n2024.03.04.;-4 500;HUF;TESCO;Vásárlás\n2024.03.05.;350 000;HUF;CEG;Fizetés\n", "2024-03-04 -4500, 2024-03-05 350000", currency="HUF"),
    "degiro": Case("Date,Time,Value date,Product,ISIN,Description,FX,Change,,Balance,,Order Id\n14-03-2024,07:32,13-03-2024,NORTHERN PIPES,US0000000019,Dividend,,USD,1.20,USD,1.20,\n13-03-2024,15:01,13-03-2024,,,Deposit,,USD,250.00,USD,251.00,\n13-03-2024,15:30,13-03-2024,ETF,IE0000000027,Buy 2 ETF@80,,USD,-160.00,USD,91.00,aa-bb\n", "2024-03-14 1.20, 2024-03-13 250.00, 2024-03-13 -160.00", has=("Dividend",), currency="USD"),
    "degiro in dutch": Case('Datum,Tijd,Valutadatum,Product,ISIN,Omschrijving,FX,Mutatie,,Saldo,,Order Id\n14-03-2024,07:32,13-03-2024,NOORDER BUIZEN,NL0000000019,Dividend,,EUR,"1,20",EUR,"1.251,20",\n13-03-2024,15:01,13-03-2024,,,iDEAL storting,,EUR,"1.250,00",EUR,"1.250,00",\n', "2024-03-14 1.20, 2024-03-13 1250.00", has=("iDEAL storting",), currency="EUR"),
    "ynab of four, in euros": Case('"Account","Flag","Check Number","Date","Payee","Category","Master Category","Sub Category","Memo","Outflow","Inflow","Cleared","Running Balance"\n"Giro","","","13.03.2024","Bäckerei Lindner","Essen: Brot","Essen","Brot","Brötchen","4,50€","0,00€","C","995,50€"\n"Giro","","","14.03.2024","Werkhof AG","Einkommen","","","Lohn","0,00€","1.850,00€","R","2.845,50€"\n', "2024-03-13 -4.50, 2024-03-14 1850.00", has=("Bäckerei Lindner Brötchen",), currency="EUR", encoding="utf-8-sig"),
    "an old mac": Case("Buchungstag;Verwendungszweck;Betrag;Währung\n04.03.2024;Bäckerei Müller Köln;-4,80;EUR\n05.03.2024;Gehalt März Straßenbau;2.100,00;EUR\n", "2024-03-04 -4.80, 2024-03-05 2100.00", has=("Bäckerei Müller Köln", "Straßenbau"), encoding="mac_roman", currency="EUR"),
    "a card with payments in minus": Case("date,title,amount\n2024-03-04,Padaria,12.50\n2024-03-05,Mercado,80.00\n2024-03-06,Uber,23.10\n2024-03-10,Pagamento recebido,-115.60\n", "2024-03-04 -12.50, 2024-03-05 -80.00, 2024-03-06 -23.10, 2024-03-10 115.60", note="turned"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BANKS))
def test_a_layout_is_read(name: str, tmp_path: Path) -> None:
    case = BANKS[name]
    statement = read_case(case, tmp_path)
    read = ", ".join(f"{t.date} {t.amount}" for t in statement.transactions)
    assert read == case.rows
    text = "\n".join(t.description for t in statement.transactions)
    assert [word for word in case.has if word not in text] == []
    assert [word for word in case.lacks if word in text] == []
    if case.currency is not None:
        assert {t.currency for t in statement.transactions} == {case.currency}
    reasons = " ".join(statement.lines_by_reason())
    assert [word for word in case.aside if word not in reasons] == []
    assert case.note in " ".join(statement.notes)
    assert statement.report["lines_in_file"] == len(case.text.splitlines())
    assert statement.report["lines_of_transactions"] >= len(statement.transactions)


def test_of_two_columns_of_amounts_without_a_header_a_pair_is_suggested(tmp_path: Path) -> None:
    card = "2024-03-04,MAPLE COFFEE,4.50,\n2024-03-05,PAYMENT,,250.00\n2024-03-06,HARBOUR BOOKS,31.75,\n"
    with pytest.raises(UserError, match=r"--map date=1 --map description=2 --map debit=3 --map credit=4$"):
        read_case(Case(card, ""), tmp_path)
    options = "map=date=1 map=description=2 map=debit=3 map=credit=4"
    read = read_case(Case(card, "", options=options), tmp_path)
    assert [str(t.amount) for t in read.transactions] == ["-4.50", "250.00", "-31.75"]


def test_the_guard_sees_a_wrong_sign(tmp_path: Path) -> None:
    read = read_case(Case("Date,Description,Amount\n2024-03-15,BAKERY,4.20\n", ""), tmp_path)
    assert ", ".join(f"{t.date} {t.amount}" for t in read.transactions) == "2024-03-15 4.20"
    with pytest.raises(UserError):
        read_case(Case("nothing", ""), tmp_path)
