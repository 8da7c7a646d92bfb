"""Damage is undone, and no figure is ever altered."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.data.convert.repair import KINDS, repair


@pytest.mark.parametrize(
    ("damaged", "repaired", "kind"),
    [
        ("ItaÃƒÂº Unibanco", "Itaú Unibanco", "mojibake"),
        ("itâ€™s up", "it’s up", "mojibake"),
        ("seals Â£22 billion", "seals £22 billion", "mojibake"),
        ("up 5â‚¬ a share", "up 5€ a share", "mojibake"),
        ("M&amp;A at AT&T", "M&A at AT&T", "HTML entities"),
        ("M&amp;amp;A", "M&A", "HTML entities"),
        ("costs &#36;1,450", "costs $1,450", "HTML entities"),
        ("rising \u200bin\ufeff May", "rising in May", "invisible characters"),
        ("a\x00b\x07", "ab", "invisible characters"),
        ("One  gap here. \nand\r\n\n\n\nlines", "One gap here.\nand\n\nlines", "runs of blanks"),
        ("One.  Two.  Three.", "One. Two. Three.", "runs of blanks"),
        ("the company2019s debt and I don\\u2019t", "the company’s debt and I don’t", "escapes"),
        ("First line\\nSecond line\\n\\n- item", "First line\nSecond line\n\n- item", "escapes"),
        ("caf\\u00e9", "café", "escapes"),
        ("How do I invest? [duplicate]", "How do I invest?", "left-over marks"),
        ("Question: Why?\n\nContext: No Input.", "Question: Why?", "left-over marks"),
        ("Why?\n\nInput: `<noinput>`", "Why?", "left-over marks"),
    ],
)
def test_damage_is_undone_and_named(damaged: str, repaired: str, kind: str):
    assert repair(damaged).text == repaired
    assert kind in repair(damaged).kinds
    assert kind in KINDS


@pytest.mark.parametrize(
    "text",
    [
        "Revenue rose 4.5% to $12.1bn (€10.3bn, £8.9bn, ¥1,450) on 3 May",
        "$TSLA and $BRK.B vs S&P 500 at 4,012.32",
        "“Curly quotes”, ﬁne ligatures, full-width １２３ and ￥５００",
        "?a=1&copy=2&reg=3 in a link",
        "    indented code\n        stays",
        "plain ascii",
        "year   2019   2018\nDebt              11.0\nCash     5.1   4.4",
        "Year\t2019\t2018\nRevenue\t\t12.1\nEBIT\t3.0\t",
        "two  gaps   here",
        "print('a\\nB') and \\nabla f, C:\\new",
        "In FY 2019s and in 2019 the",
        "Sort this.\n\nContext: [3, 7, 9, 2]",
        "Divide it.\n\nInput: 42",
        "a [duplicate] inside a line",
        "",
        "नमस्ते क्\u200dष 👩\u200d💼",
    ],
)
def test_sound_text_is_the_same_object(text: str):
    assert repair(text).text is text
    assert repair(text).kinds == ()


def test_a_repair_that_would_lose_a_number_is_not_made():
    assert repair("Café \x1b[32m5%").text == "Café [32m5%"


@pytest.mark.parametrize(
    ("damaged", "repaired"), [("\ud83d\ude00 up", "😀 up"), ("half \ud83d only", "half \ufffd only")]
)
def test_surrogates_that_no_file_can_hold_are_joined_or_replaced(damaged: str, repaired: str):
    assert repair(damaged).text == repaired


@given(st.text(alphabet=st.sampled_from("$€£¥%&;#0123456789.,aA zÂâÃ©\u200b\x85\xa0\n|()-+TSLA"), max_size=60))
def test_numbers_survive_any_repair(text: str):
    def digits(value: str) -> Counter[str]:
        return Counter(character for character in value if character in "0123456789")

    lost = digits(text) - digits(repair(text).text)
    assert not lost or "&#" in text, (text, repair(text).text)


@given(st.text(max_size=80))
def test_a_repaired_text_can_be_written_and_needs_no_second_repair_to_be_stable(text: str):
    once = repair(text).text
    once.encode("utf-8")
    assert repair(repair(once).text).text == repair(once).text
