"""The identifiers of a bank line, and texts that only look like one."""

import pytest

from fintune_kit.bank.privacy.identifiers import dates_and_amounts, find_identifiers


def found(text: str, **values: list[str]) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.kind) for span in find_identifiers(text, **values)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CARD 4111 1111 1111 1111 SHOP", [("4111 1111 1111 1111", "CARD")]),
        ("CARD 4111111111111112 SHOP", [("4111111111111112", "REF")]),
        ("PAID XXXX-XXXX-XXXX-4411", [("XXXX-XXXX-XXXX-4411", "CARD")]),
        ("TO DE89 3704 0044 0532 0130 00 RENT", [("DE89 3704 0044 0532 0130 00", "IBAN")]),
        ("SSN 123-45-6789", [("123-45-6789", "ID")]),
        ("CALL +1 312 555 0100", [("+1 312 555 0100", "PHONE")]),
        ("UPI-ramesh.k@oksbi-", [("ramesh.k@oksbi", "UPI")]),
        ("MAIL jane_doe7@web.de", [("jane_doe7@web.de", "EMAIL")]),
        ("AMZN Mktp US*2K4AB12C0", [("2K4AB12C0", "REF")]),
        ("SQ *BLUE BOTTLE 0423 OAKLAND CA", [("0423", "REF")]),
        ("POS DEBIT 4411 SHELL OIL", [("4411", "REF")]),
        ("ATM 42 Pennyroyal Ct Apt 7B", [("42 Pennyroyal Ct Apt 7B", "ADDRESS")]),
        ("SHELL12345678", [("12345678", "REF")]),
        ("TO ４１１１１１１１１１１１１１１１", [("４１１１１１１１１１１１１１１１", "CARD")]),
        ("TO 4111\u200b1111\u200b1111\u200b1111", [("4111\u200b1111\u200b1111\u200b1111", "CARD")]),
    ],
)
def test_identifiers_are_found_whole_and_named(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "24 HOUR FITNESS",
        "FOREVER 21 OAKLAND CA",
        "1800FLOWERS.COM",
        "MOTEL 6 RENO NV",
        "7-ELEVEN",
        "BET365",
        "PURCHASE 03/14/2024 12:30 USD 1,234.56",
        "12.50 GBP @ 1.2714",
        "TAX YEAR 2024",
        "H&M BERLIN",
    ],
)
def test_merchants_dates_and_amounts_are_no_identifiers(text: str) -> None:
    assert found(text) == []


def test_words_to_keep_are_kept() -> None:
    assert found("OYO 1234 GRAND 99887766", keep=["OYO 1234 GRAND"]) == [("99887766", "REF")]


def test_dates_and_amounts_are_told_apart() -> None:
    text = "ON 2024-03-01 FOR 1.250,00 EUR"
    assert [(text[s.start : s.end], s.kind) for s in dates_and_amounts(text)] == [
        ("2024-03-01", "DATE"),
        ("1.250,00", "AMOUNT"),
    ]


@pytest.mark.parametrize(
    "text", ["1" * 2_000 + "a", "x" * 2_000 + "!", "1 " * 1_000, "a1" * 1_000, "-" * 2_000, "a@" * 1_000]
)
def test_no_line_makes_a_pattern_run_away(text: str) -> None:
    find_identifiers(text)  # backtracking that is exponential in the line would not return in years


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Nájem Dlouhá 14 Praha", "Dlouhá 14"),
        ("HYRA STORA BACKEN 7", "STORA BACKEN 7"),
        ("Kira Gül Sokak 12", "Gül Sokak 12"),
    ],
)
def test_a_street_after_a_word_for_rent_is_an_address_in_any_language(text: str, address: str) -> None:
    assert (address, "ADDRESS") in found(text)


@pytest.mark.parametrize("text", ["Miete Mai 24", "Loyer mars 24", "Huur Ymere"])
def test_the_month_of_a_rent_and_a_landlord_without_a_number_are_no_address(text: str) -> None:
    assert "ADDRESS" not in [kind for _, kind in found(text)]


def test_a_number_plate_after_its_cue_goes_and_a_number_that_is_a_merchants_name_stays() -> None:
    found, _ = find_identifiers("RINGGO AB12 CDE 0800")
    assert ("ID", 7, 15) in [(span.kind, span.start, span.end) for span in found]
    assert find_identifiers("Rema 1000 OSLO")[0] == []
