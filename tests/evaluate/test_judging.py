import pytest

from fintune_kit.evaluate import judging
from fintune_kit.evaluate.generation import Generated
from tests.evaluate.conftest import make_task, question


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.5", (12.5, False)),
        ("$1,234.50", (1234.5, False)),
        ("-$3", (-3, False)),
        ("(4.2)", (-4.2, False)),
        ("about 5%", (5, True)),
        ("EUR 1.2 million", (1.2e6, False)),
        ("2bn", (2e9, False)),
        ("In 2019 it was 7, so the answer is 3.5%.", (3.5, True)),
        ("10 / 4 = 2.5", (2.5, False)),
        (".5", (0.5, False)),
        ("3 marks", (3, False)),
        ("no number", None),
    ],
)
def test_the_number_that_a_text_gives(text: str, number: tuple[float, bool] | None) -> None:
    assert judging.read_number(text) == number


@pytest.mark.parametrize(
    ("given", "target", "right"),
    [
        ("1,200,000", "1.2 million", True),
        ("5%", "0.05", True),
        ("0.05", "5%", True),
        ("5", "0.05", False),
        ("12.34", "12.3", True),
        ("12.5", "12.3", False),
        ("-3", "3", False),
        ("Yes", "yes", True),
    ],
)
def test_numbers_match_with_scale_and_half_a_percent(given: str, target: str, right: bool) -> None:
    assert judging.numeric(given, target).right is right


def test_an_answer_without_a_number_is_unreadable_and_wrong() -> None:
    assert judging.numeric("it rose", "12") == judging.Verdict(0.0, False, readable=False)


def test_token_f1_leaves_out_articles_case_and_punctuation() -> None:
    assert judging.token_f1("The net profit.", "net profit") == judging.Verdict(1.0, True)
    assert judging.token_f1("profit fell", "net profit rose").value == pytest.approx(2 / 5)


def test_rouge_l_is_the_longest_common_subsequence_of_stems() -> None:
    assert judging.rouge_l("profits rose", "profit rose").value == 1.0
    assert judging.rouge_l("a b c d", "a x c d").value == pytest.approx(0.75)
    assert judging.rouge_l("something else", "profit rose").value == 0


def test_json_must_be_json_and_nothing_else() -> None:
    target = '{"name": "Halden", "amount": 3}'
    assert judging.strict_json('{"amount": 3, "name": "Halden"}', target) == judging.Verdict(1.0, True)
    assert judging.strict_json('{"amount": 4, "name": "Halden"}', target).value == 0.5
    assert not judging.strict_json(f"Here it is: {target}", target).readable


def test_entities_are_pairs_of_name_and_label() -> None:
    target = "Halden Foods: neutral; Farrowby Dairy: positive"
    assert judging.entities("Farrowby Dairy: Positive\nHalden Foods: neutral", target) == judging.Verdict(1.0, True)
    assert judging.entities("Halden Foods: negative; Farrowby Dairy: positive", target).value == 0.5
    assert not judging.entities("they are fine", target).readable


def test_silence_is_wrong_and_counted() -> None:
    task = make_task(question("x", "rose", ()), question("y", "fell", ()), metric="rouge_l")
    silent, spoken = judging.judge(task, [Generated("", True), Generated("fell", False)])
    assert (silent.right, silent.value, silent.unreadable) == (False, 0.0, True)
    assert (spoken.right, spoken.unreadable, spoken.unfinished) == (True, False, True)
