"""The scan doubts what the detector leaves, and says what and where, never the text."""

import pytest

from fintune_kit.bank.privacy.scan import find_doubts


def doubts(text: str, **values: object) -> list[tuple[str, str]]:
    found = find_doubts(text, is_ours=lambda placeholder: placeholder == "[REF-90aa3f]", **values)
    return [(doubt.what, text[doubt.start : doubt.end]) for doubt in found]


@pytest.mark.parametrize(
    ("text", "what", "found"),
    [
        ("PIN 1_2_3_4_5_6 SHOP", "a long number", "1_2_3_4_5_6"),
        ("PAY a@b SHOP", "an e-mail address or a payment id", "a@b"),
        ("RENT STRADA MIHAI EMINESCU 14", "an address", "STRADA MIHAI EMINESCU 14"),
        ("RENT 14 OLD MILL STREET", "an address", "14 OLD MILL STREET"),
        ("KEY ABC1D2E3 SHOP", "a code of letters and digits", "ABC1D2E3"),
        ("sent to Maria Gonzalez", "a personal name", "Maria Gonzalez"),
    ],
)
def test_each_kind_is_doubted_at_its_place(text: str, what: str, found: str) -> None:
    assert (what, found) in doubts(text)


@pytest.mark.parametrize(
    "text",
    [
        "PAID [REF-90aa3f] SHOP",
        "STREET FOOD 24 HOUR FITNESS",
        "SHOP 03/14/2024 12:30 USD 1,234.56",
        "POS MARIA GONZALEZ",
    ],
)
def test_ordinary_lines_are_not_doubted(text: str) -> None:
    assert doubts(text) == []


def test_a_placeholder_that_this_run_did_not_issue_is_read_as_text() -> None:
    assert doubts("PAID [REF-411111111111] SHOP")[0] == ("a long number", "411111111111")
