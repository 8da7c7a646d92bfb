"""English is told by its function words, and an origin decides for texts without any."""

import pytest

from fintune_kit.data.rules.language import Languages, is_english
from fintune_kit.data.rules.terms import ENGLISH, OTHER_LANGUAGES
from tests.data.rows import conversations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The shares of the maker fell by a tenth", True),
        ("Der Gewinn steigt im Quartal auf 5,1 Mio. Euro", False),
        ("Le bénéfice augmente au troisième trimestre", False),
        ("La acción sube tras los resultados", False),
        ("利润上升", False),
        ("Прибыль выросла", False),
        ("Nokia Q3 EPS 0.07", None),
        ("$AMX - América Móvil, S.A.B. de C.V. Q2 results https://t.co/des", None),
        ("", None),
    ],
)
def test_a_text_is_told_by_its_function_words(text: str, expected: bool | None):
    assert is_english(text) is expected


def test_no_word_is_in_both_lists():
    assert not ENGLISH & OTHER_LANGUAGES


def test_the_origin_decides_for_a_text_without_function_words():
    rows = conversations(("Nokia Q3 EPS 0.07", "x"), ("Der Kurs ist nicht bekannt", "x"), ("The price is known", "x"))
    assert Languages(rows, ["german", "german", "english"]).is_english(0) is False
    assert Languages(rows, ["english", "german", "english"]).is_english(0) is True
