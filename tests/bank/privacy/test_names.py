"""A person's name is found where a transfer names one; a shop named after a person stays."""

import pytest

from fintune_kit.bank.privacy.names import find_names, personal_names, repeated_names


def names(text: str, **values: object) -> list[str]:
    return [text[start:end] for start, end in find_names(text, **values)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ZELLE TO MARIA GONZALEZ FOR DINNER", ["MARIA GONZALEZ"]),
        ("VENMO PAYMENT TO Xq Zwbl", ["Xq Zwbl"]),
        ("UEBERWEISUNG AN Peter von der Heide Miete", ["Peter von der Heide"]),
        ("FPS GONZALEZ, MARIA REF DINNER", ["GONZALEZ, MARIA"]),
        ("S/O MRS J Gallchobhair beers", ["MRS J Gallchobhair"]),
        ("Maria Gonzalez", ["Maria Gonzalez"]),
        ("ZELLE TO PAUL SMITH", ["PAUL SMITH"]),
        ("UPI/P2P/RAMESH KUMAR/SBIN", ["RAMESH KUMAR"]),
        ("ACH CREDIT ACME LOGISTICS INC BENNETT DAVID", ["BENNETT DAVID"]),
        ("IMPS/P2A/kavithamurugan/HDFC/rent", ["kavithamurugan"]),
        ("PRZELEW OD KRZYSZTOF ŻUREK", ["KRZYSZTOF ŻUREK"]),
        ("FT TO 王小明", ["王小明"]),
    ],
)
def test_names_in_transfers_are_found(text: str, expected: list[str]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "PAUL SMITH LONDON",
        "POS DEBIT HENRY JAMES BARBERS",
        "SQ *MARIA GONZALEZ",
        "TRADER JOE'S",
        "JOHN LEWIS",
        "FASTER PAYMENT TO OCTOPUS ENERGY",
        "ZELLE TO STARBRIGHT PLUMBING",
        "DIRECT DEBIT DAVID LLOYD",
        "RISTORANTE DA MARIO ROMA",
        "MADISON WI",
        "TRANSFER TO FIDELITY BROKERAGE",
        "Paid to Bajaj Finserv",
        "Payment to Severn Trent",
        "SENT TO TSNPDCL",
        "Paid to Swiggy via GPay",
    ],
)
def test_merchants_named_after_people_are_kept(text: str) -> None:
    assert names(text) == []


def test_an_unknown_name_beside_an_account_is_a_name() -> None:
    assert names("Xqara Zwbly", has_account=False) == []
    assert names("Xqara Zwbly", has_account=True) == ["Xqara Zwbly"]


def test_a_name_is_found_again_in_lines_that_do_not_give_it_away() -> None:
    texts = ["POS SHOP GONZALEZ MARIA 12", "POS SHOP MARIA LOPEZ"]
    assert repeated_names(texts, people=["Maria Gonzalez"]) == [[(9, 23)], []]


def test_the_scan_sees_a_name_in_a_transfer_only() -> None:
    assert personal_names("sent to Maria Gonzalez") == [(8, 22)]
    assert personal_names("POS DEBIT MARIA GONZALEZ") == []
    assert personal_names("sent to Maria Gonzalez", keep=["Maria Gonzalez"]) == []
