import re
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fintune_kit.evaluate import judging
from fintune_kit.evaluate.generation import GeneratedText
from tests.evaluate.conftest import make_task, question

entity_list = partial(judging.entity_list, form="pairs")


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
        ("2018", "2019", False),
        ("In 2019 it was 7, so the answer is 3.5%.", "3.5%", True),
        ("10 / 4 = 2.5", "2.5", True),
        ("between 3 and 5", "3", False),
        ("Yes", "yes", True),
    ],
)
def test_numbers_match_with_scale_and_rounding(given: str, target: str, right: bool) -> None:
    assert judging.numeric(given, target).right is right


@pytest.mark.parametrize(
    ("given", "target", "value", "right"),
    [
        ("2018, 2019", "2019, 2018", 1.0, True),
        ("2019", "2019, 2018", 0.5, False),
        ("2019, 2018, 2017", "2019, 2018", 2 / 3, False),
        ("346,000 and 411,000", "346, 411 thousand", 1.0, True),
        ("346, 411 million", "346, 411 thousand", 0.0, False),
        ("Greece and Turkey", "Greece and Turkey", 1.0, True),
        ("2019", "As of December 31, 2019 there were none.", 0.0, False),
        ("-2.5 years", "2.5 years", 0.5, False),
        ("25 years", "2.5 years", 0.5, False),
    ],
)
def test_lists_are_sets_of_spans(given: str, target: str, value: float, right: bool) -> None:
    verdict = judging.spans(given, target)
    assert (verdict.value, verdict.right) == (pytest.approx(value, abs=0.01), right)


def wrong_answers(target: str) -> list[tuple[str, str]]:
    """Answers that are wrong, made from a right one, with the kind of mistake."""
    found = [("another span more", f"{target}, 77"), ("another answer", "unknown")]
    parts = target.split(", ")
    if len(parts) > 1:
        found.append(("only the first span", parts[0]))
    number = re.search(r"\d[\d,.]*", target)
    if number and len(target.split()) > 3:
        found.append(("only a number of the text", number[0]))
    if re.fullmatch(r"-?[$£]?[\d,.]*[1-9][\d,.]*%?( \w+)?", target):
        found.append(("the other sign", target[1:] if target.startswith("-") else f"-{target}"))
        last = re.search(r"\d(?=\D*$)", target)
        assert last is not None
        found.append(
            ("another last digit", target[: last.start()] + str((int(last[0]) + 1) % 10) + target[last.end() :])
        )
    if re.search("[1-9].*(thousand|million)", target):
        found.append(("another scale", re.sub("thousand|million", "billion", target)))
    return found


GOLDS = (
    "2019, 2018", "346, 411 thousand", "$672, $672 thousand", "-52.63%", "10.84%", "$963,947", "318 million", "0.97",
    "-16458 thousand", "100,107 million", "2.5 years", "25 days", "UK, USA, Germany, Other countries",
    "As of December 31, 2019 and 2018, the Company had no accrued interest or penalties.", "£41.5 million", "144",
)  # fmt: skip


@pytest.mark.parametrize("metric", ["numeric", "spans"])
def test_wrong_answers_made_from_every_right_one_are_wrong(metric: str) -> None:
    judge = getattr(judging, metric)
    kinds = set()
    for gold in GOLDS:
        assert judge(gold, gold).right, gold
        for kind, answer in wrong_answers(gold):
            kinds.add(kind)
            assert not judge(answer, gold).right, f"{kind}: {answer!r} counts as {gold!r}"
    assert len(kinds) == 7, "a kind of mistake was never made"


def test_wrong_answers_made_from_a_public_table_and_text_set_are_wrong(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "sujet_proxy_full.parquet", columns=["dataset", "answer"]).to_pylist()
    golds = [row["answer"] for row in table if "TAT-QA" in row["dataset"]]
    assert len(golds) > 1500
    taken = [
        (kind, answer, gold)
        for gold in golds
        for kind, answer in wrong_answers(gold)
        if judging.numeric(answer, gold).right
    ]
    assert all(judging.numeric(gold, gold).right for gold in golds)
    assert taken == []


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
    assert entity_list("Farrowby Dairy: Positive\nHalden Foods: neutral", target) == judging.Verdict(1.0, True)
    assert entity_list("Halden Foods: negative; Farrowby Dairy: positive", target).value == 0.5
    assert not entity_list("they are fine", target).readable


def test_silence_is_wrong_and_counted() -> None:
    task = make_task(question("x", "rose", ()), question("y", "fell", ()), metric="rouge_l")
    silent, spoken = judging.judge(task, [GeneratedText("", True), GeneratedText("fell", False)])
    assert (silent.right, silent.value, silent.unreadable) == (False, 0.0, True)
    assert (spoken.right, spoken.unreadable, spoken.unfinished) == (True, False, True)


def test_exact_match_is_the_published_rule_to_the_character() -> None:
    assert judging.exact_match(" 0.05\n", "0.05").right
    assert not judging.exact_match("5 %", "0.05").right


def test_true_is_not_one_in_json() -> None:
    assert not judging.strict_json('{"a": true}', '{"a": 1}').right
