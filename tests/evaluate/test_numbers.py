import pytest

from fintune_kit.evaluate.numbers import Number, same_number, stated_number, whole_number


@pytest.mark.parametrize(
    ("text", "value", "is_percent", "last_digit"),
    [
        ("12.5", 12.5, False, 0.1),
        ("$1,234.50", 1234.5, False, 0.01),
        ("-$3", -3, False, 1),
        ("(4.2)", -4.2, False, 0.1),
        ("5%", 5, True, 1),
        ("EUR 1.2 million", 1.2e6, False, 1e5),
        ("2bn", 2e9, False, 1e9),
        (".5", 0.5, False, 0.1),
        ("1,00,000", 100_000, False, 1),
        ("(12 %)", -12, True, 1),
    ],
)
def test_a_text_that_is_one_number(text: str, value: float, is_percent: bool, last_digit: float) -> None:
    found = whole_number(text)
    assert found is not None
    assert (found.value, found.is_percent, found.last_digit) == (value, is_percent, pytest.approx(last_digit))


@pytest.mark.parametrize("text", ["about 5", "2019, 2018", "3 marks", "5 of 8", "", "1,2", "$"])
def test_a_text_that_is_more_than_a_number_is_none(text: str) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("about 5%", 5),
        ("In 2019 it was 7, so the answer is 3.5%.", 3.5),
        ("10 / 4 = 2.5", 2.5),
        ("it rose by 3 and 3", 3),
    ],
)
def test_the_number_that_an_answer_states(text: str, value: float) -> None:
    found = stated_number(text)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize("text", ["no number", "between 3 and 5", "7 in 2019"])
def test_an_answer_that_does_not_say_which_number_it_means_states_none(text: str) -> None:
    assert stated_number(text) is None


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        (Number(2018), Number(2019), False),
        (Number(12.34, last_digit=0.01), Number(12.3, last_digit=0.1), True),
        (Number(1000), Number(1004), False),
        (Number(12), Number(12, is_percent=True), True),
        (Number(0.12, last_digit=0.01), Number(12, is_percent=True), True),
        (Number(12, is_percent=True), Number(12), False),
        (Number(12, is_percent=True), Number(0.12, last_digit=0.01), True),
        (Number(0), Number(0), True),
        (Number(1.249e6, last_digit=1e3), Number(1.2e6, last_digit=1e5), False),
    ],
)
def test_numbers_are_the_same_to_their_rounding(given: Number, wanted: Number, same: bool) -> None:
    assert same_number(given, wanted) is same
