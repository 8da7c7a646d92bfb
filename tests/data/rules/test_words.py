"""Which texts have the same words, and which runs of words they share."""

import numpy as np
import pytest

from fintune_kit.data.rules.words import words_of


def spelled(text: str) -> list[str]:
    words = words_of([text])
    return [words.word(code) for code in words.codes]


def test_url_case_punctuation_and_entities_are_no_words():
    assert spelled("Buy $ABC now!  https://t.co/x  M&amp;A at WWW.X.COM") == ["buy", "abc", "now", "m", "a", "at"]


@pytest.mark.parametrize("damaged", ["Sepp+ñl+ñ", "SeppÃ¤lÃ¤", "Sepp?l?", "SEPPÄLÄ"])
def test_a_damaged_name_has_the_words_of_the_sound_one(damaged: str):
    assert spelled(damaged) == spelled("Seppälä") == ["sepp", "l"]


def test_another_script_is_read_letter_by_letter():
    sound, other = words_of(["股票价格上涨"]), words_of(["股票价格下跌"])
    assert len(sound.codes) == 6
    assert sound.keys() != other.keys()


def test_keys_tell_order_and_length_and_do_not_depend_on_the_collection():
    keys = words_of(["a b", "b a", "a b c", "", "A, b!"]).keys().tolist()
    assert len(set(keys)) == 4
    assert keys[0] == keys[4] == words_of(["x", "a b"]).keys().tolist()[1]
    assert keys[3] == 0


def test_runs_of_words_end_within_their_text():
    words = words_of(["a b c", "b c"])
    singles, (pairs, within) = words.grams(2)
    assert singles[1].all()
    assert within.tolist() == [True, True, False, True, False]
    assert pairs[1] == pairs[3] != pairs[0]


def test_names_are_words_that_rarely_stand_in_small_letters():
    words = words_of(["Nokia grew", "Shares of Nokia grew", "the shares"])
    assert [words.word(code) for code in np.flatnonzero(words.is_name)] == ["nokia"]


def test_no_text_has_no_words():
    assert len(words_of([])) == 0
    assert words_of(["", "!!"]).lengths().tolist() == [0, 0]
