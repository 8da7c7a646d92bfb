"""No text that is kept for evaluation is learned."""

import json
from pathlib import Path
from typing import Any

import pytest

from fintune_kit.data.rules.contamination import (
    MAX_HITS,
    Match,
    _contexts,
    contamination,
    find_shared,
    known_benchmarks,
    read_excluded,
    shown_by,
)
from fintune_kit.data.rules.words import words_of
from fintune_kit.errors import MissingInputError, UserError
from tests.data.rows import all_of, conversations

LONG = "L&T has also made a commitment to redeem the remaining shares by the end of 2011 ."
SHORT = "$SAN: Deutsche Bank cuts to Hold"


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "mood.jsonl"
    path.write_text("".join(json.dumps({"text": text, "target": "neutral"}) + "\n" for text in (LONG, SHORT, "")))
    return path


def found_in(path: Path | None, *pairs: tuple[str, str]) -> tuple[dict[int, str], dict[str, Any]]:
    """The findings among rows of question and answer, and the summary, with the texts of a file excluded."""
    rows = conversations(*pairs)
    return contamination(rows, all_of(rows), read_excluded([path] if path else []))


@pytest.mark.parametrize(
    ("prompt", "is_found"),
    [
        (f"Financial text: {LONG}", True),
        (f"Financial text:{LONG.upper()} https://t.co/x", True),
        ("He said that L+T has ALSO made a commitment to redeem the rest.", True),
        ("L&T has also made a promise to redeem the remaining bonds by the end of May.", False),
        (f"Financial text:{SHORT}", True),
        (f'Headline: "{SHORT}"\nGood or bad?', True),
        ("san deutsche bank cuts to hold", True),
        ("Analysts say $SAN: Deutsche Bank cuts to Hold and others may follow soon.", False),
        ("", False),
    ],
)
def test_a_row_that_holds_an_evaluation_text_is_found(held: Path, prompt: str, is_found: bool):
    findings, summary = found_in(held, ("What is an ETF?", "A fund."), (prompt, "neutral"))
    assert list(findings) == ([1] if is_found else [])
    assert summary == {"mood.jsonl": {"texts": 3, "texts_found": int(is_found), "rows_refused": int(is_found)}}


def test_a_text_in_an_answer_is_found_too(held: Path):
    assert found_in(held, ("Give an example.", SHORT))[0] == {0: f"shares mood.jsonl, text 2: {SHORT!r}"}
    (detail,) = found_in(held, ("Give an example.", LONG))[0].values()
    assert detail.startswith("shares mood.jsonl, text 1: 'l t has also made a commitment to redeem")


def test_a_run_of_words_ends_with_its_row(held: Path):
    words = LONG.split()
    first, second = " ".join(words[:6]), " ".join(words[6:12])
    assert found_in(held, ("Say it.", first), (second, "neutral"))[0] == {}
    assert list(found_in(held, (first, second))[0]) == [0]


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        ("U.S. rig count stays flat", "US rig count stays flat!"),
        ("Is Luckin Coffee (NASDAQ:LK) A Risky Investment?", "Is Luckin Coffee (NASDAQLK) A Risky Investment"),
        ("Long Position on $IP,....Scaling UP", "Long Position on $IPScaling UP"),
        ("P&amp;G Declares Quarterly Dividend", "P&ampG Declares Quarterly Dividend https://t.co/x"),
    ],
)
def test_a_text_whose_words_lost_punctuation_grow_together_and_are_still_found(tmp_path: Path, text: str, damaged: str):
    (tmp_path / "held.jsonl").write_text(json.dumps({"text": text}) + "\n")
    rows = [(f"Financial text:{damaged}", "neutral"), ("Financial text:Another headline of today", "neutral")]
    assert list(found_in(tmp_path / "held.jsonl", *rows)[0]) == [0]


def test_nothing_excluded_finds_nothing():
    assert found_in(None, (LONG, "neutral")) == ({}, {})


def test_the_method_gives_pairs_of_a_row_and_a_text():
    rows = [["What is an ETF?", "A fund."], [f"He said: {SHORT}", "neutral"]]
    other = "Another sentence that nobody has ever written in any of the rows"
    assert find_shared(rows, [other, SHORT]) == [Match(1, 1, SHORT)]
    assert find_shared(rows, []) == find_shared([], [LONG]) == []


def test_equal_texts_are_all_found():
    spelled_otherwise = "$SAN - Deutsche Bank: cuts to hold!"
    rows = [[f"He said: {SHORT}", "neutral"], [f"Text: {LONG}", "neutral"], [f'Read: "{SHORT}"\nGood or bad?', "x"]]
    found = find_shared(rows, [SHORT, LONG, spelled_otherwise, LONG, SHORT])
    by_row = [[match.text for match in found if match.row == row] for row in range(3)]
    assert by_row == [[0, 2, 4], [1, 3], [0, 2, 4]]


def test_the_evaluation_is_told_of_each_text_whether_training_shows_it():
    rows = conversations(("What is an ETF?", "A fund."), (f"He said: {SHORT}", "neutral"))
    assert shown_by(rows, [SHORT, LONG, "What is an ETF?", SHORT]) == [True, False, True, True]
    assert shown_by([], [SHORT]) == [False]


@pytest.mark.parametrize("dash", ["-", "–", "—"])
def test_a_short_text_after_a_dash_or_before_a_link_is_found(dash: str):
    text = "Schlumberger goes ex-dividend tomorrow"
    rows = [[f"Financial text:$SLB {dash} {text} https://t.co/x-1", "neutral"], [f"They said: {text} www.x.org", "x"]]
    assert find_shared(rows, [text]) == [Match(0, 0, text), Match(1, 0, text)]
    assert find_shared([[f"Financial text:They say {text} and on Friday", "neutral"]], [text]) == []


def test_a_missing_file_and_a_row_without_text_are_mistakes(tmp_path: Path):
    with pytest.raises(MissingInputError, match="was not found; expected a"):
        read_excluded([tmp_path / "no.jsonl"])
    (tmp_path / "bad.jsonl").write_text('{"sentence": "x"}\n')
    with pytest.raises(UserError, match="line 1: found columns 'sentence', expected an evaluation row with a `text`"):
        read_excluded([tmp_path / "bad.jsonl"])


def test_the_benchmarks_in_sujet_are_told_by_name():
    origins = ["financial_phrasebank", "financial_phrasebank", "AdaptLLM/finance-tasks_Headline", "fiqa"]
    assert known_benchmarks(origins) == {
        "FLARE Headlines: its test split": 1,
        "Financial PhraseBank (FPB): all its sentences": 2,
    }


def test_a_short_text_of_several_lines_is_found(tmp_path: Path):
    text = "YTD Performance:\nDow Jones: Red\n30Y: +9%\n\nhttps://t.co/x"
    (tmp_path / "lines.jsonl").write_text(json.dumps({"text": text}) + "\n")
    assert list(found_in(tmp_path / "lines.jsonl", (f"Financial text:{text}", "bearish"))[0]) == [0]


def test_lost_points_inside_words_make_no_difference(tmp_path: Path):
    (tmp_path / "points.jsonl").write_text(
        json.dumps({"text": "U.S. core C.P.I. rose 1,200 points, J.P. Morgan says."})
    )
    rows = [("Text: US core CPI rose 1200 points JP Morgan says", "x"), ("US core CPI fell says JP Morgan", "x")]
    assert list(found_in(tmp_path / "points.jsonl", *rows)[0]) == [0]


TEMPLATE = "{} Announces Timing of Second Quarter 2022 Earnings Release and Conference Call"
MAKERS = ("Korpivaara", "Ludlow Retail", "Sintex Oy", "Baltic Cement", "Northern Rail", "Ostrava Glass")


def test_wording_that_the_corpus_uses_all_the_time_does_not_count():
    rows = [[TEMPLATE.format(maker), "neutral"] for maker in MAKERS]
    assert find_shared(rows, [TEMPLATE.format("Rosendal Energy")]) == []
    assert [match.row for match in find_shared(rows, [TEMPLATE.format("Sintex Oy")])] == [2]
    assert len(find_shared(rows[:2], [TEMPLATE.format("Rosendal Energy")])) == 2, "three uses are not yet wording"


def test_the_same_text_under_many_questions_is_not_wording():
    rows = [
        [f"{LONG}\nDoes it talk about {topic}?", "No"] for topic in ("gold", "oil", "steel", "rail", "glass", "rice")
    ]
    assert [match.row for match in find_shared(rows, [LONG])] == [0, 1, 2, 3, 4, 5]


QUESTION = "{}\nNow answer this question: Does the news headline talk about price staying constant or not? Yes or No?"


def headline(index: int) -> str:
    """A headline of eight words that no other index gives: `gold7 mine7 mint7 ...`."""
    return " ".join(f"{stem}{index}" for stem in ("gold", "mine", "mint", "bank", "desk", "vault", "ounce", "coin"))


def test_the_question_of_a_template_is_wording():
    rows = [[QUESTION.format(headline(index)), "No"] for index in range(MAX_HITS + 1)]
    other = "Platinum premium widens while mines in the south stay closed"
    assert find_shared(rows, [QUESTION.format(other)]) == []
    assert [match.row for match in find_shared(rows, [QUESTION.format(headline(7))])] == [7]
    with_a_word_changed = headline(7).replace("bank7", "harvest")
    assert [match.row for match in find_shared(rows, [QUESTION.format(with_a_word_changed)])] == [7]
    few = rows[:MAX_HITS]
    assert len(find_shared(few, [QUESTION.format(other)])) == MAX_HITS, "so few uses are not yet wording"


def test_four_shared_words_are_not_enough_where_all_others_are_wording():
    rows = [[QUESTION.format(headline(index)), "No"] for index in range(MAX_HITS + 1)]
    rows.append(["The rail bridge near Ostrava stands at its lowest level since May", "neutral"])
    text = QUESTION.format("lowest level since May")
    assert find_shared(rows, [text]) == []
    rows.append([f"Please read: {text}", "No"])
    assert [match.row for match in find_shared(rows, [text])] == [MAX_HITS + 2]


def test_a_text_that_very_many_rows_hold_is_found_in_all_of_them_as_a_line():
    rows = [[f"Financial text:{LONG}\nIs it about topic {index}?", "No"] for index in range(2 * MAX_HITS)]
    assert len(find_shared(rows, [LONG])) == 2 * MAX_HITS


def test_rows_are_compared_chunk_by_chunk_with_the_same_result(monkeypatch: pytest.MonkeyPatch):
    rows = [[TEMPLATE.format(maker), "neutral"] for maker in MAKERS] + [["He said: " + SHORT, "x"], [LONG, "y"]]
    texts = [TEMPLATE.format("Sintex Oy"), TEMPLATE.format("Rosendal Energy"), SHORT, LONG]
    whole = find_shared(rows, texts)
    assert [(match.row, match.text) for match in whole] == [(2, 0), (6, 2), (7, 3)]
    monkeypatch.setattr("fintune_kit.data.rules.contamination._CHUNK", 1)
    assert find_shared(rows, texts) == whole


@pytest.mark.parametrize("word", ["commitment", "redeem", "shares", "2011"])
def test_a_text_with_one_word_changed_is_found(word: str):
    assert len(find_shared([[LONG.replace(word, "harvest"), "neutral"]], [LONG])) == 1
    assert find_shared([[" ".join(sorted(LONG.split())), "neutral"]], [LONG]) == []


def test_a_part_of_a_text_is_found_where_it_is_long_enough():
    whole = "Ken Griffin plans to open a Palm Beach office and takes over the old store of a bank on the main street"
    assert (
        len(find_shared([["Ken Griffin plans to open a Palm Beach office and takes over a store", "x"]], [whole])) == 1
    )
    assert find_shared([["Ken Griffin plans to open a new office in the north of the city", "x"]], [whole]) == []


def test_the_words_around_a_gram_are_those_of_its_own_text():
    text = "one two three four five"
    alone, between = _contexts(words_of([text])), _contexts(words_of(["six seven", text, "eight nine"]))
    assert between[2:7].tolist() == alone.tolist()
    assert len(set(alone.tolist())) == len(alone), "equal contexts could not be told apart"
