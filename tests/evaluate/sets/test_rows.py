"""Rows of others are read as they are: their columns, their labels, their prompts."""

import json
from pathlib import Path

import pytest

from fintune_kit.errors import UserError
from fintune_kit.evaluate.sets.benchmarks import BENCHMARKS
from fintune_kit.evaluate.sets.named import load_task
from fintune_kit.evaluate.sets.rows import question_of, read_row
from fintune_kit.evaluate.tasks import Question


def as_question(key: str, **row: object) -> Question:
    return question_of(read_row(row, place="x.jsonl, line 1", index=1, source=key), BENCHMARKS[key])


@pytest.mark.parametrize(
    ("key", "row", "text", "target"),
    [
        ("tfns", {"text": "t", "label": 1}, "t", "bullish"),
        ("tfns", {"text": "t", "target": "Positive"}, "t", "bullish"),
        ("tfns", {"text": "t", "label": "0.0"}, "t", "bearish"),
        ("tfns_topic", {"text": "t", "label": 19}, "t", "Stock Movement"),
        ("fpb", {"sentence": "s", "label": 0}, "s", "negative"),
        ("fpb", {"context": "c", "target": "neutral"}, "c", "neutral"),
        ("fiqa_sa", {"sentence": "s", "sentiment_score": -0.1}, "s", "neutral"),
        ("fiqa_sa", {"sentence": "s", "sentiment_score": -0.11}, "s", "negative"),
        ("fiqa_sa", {"sentence": "s", "sentiment_score": 0.1}, "s", "positive"),
        ("nwgi", {"news": "n", "label": "mildly positive"}, "n", "neutral"),
        ("nwgi", {"news": "n", "label": "strong negative"}, "n", "negative"),
        ("nwgi", {"text": "n", "target": "Moderately Positive"}, "n", "positive"),
        ("headlines", {"instruction": "i", "input": "t", "output": "Yes"}, "i\nt", "Yes"),
        ("tatqa", {"text": "t", "target": ["2018", "2019"]}, "t", "2018; 2019"),
    ],
)
def test_labels_are_folded_as_published(key: str, row: dict, text: str, target: str) -> None:
    found = as_question(key, **row)
    assert (found.text, found.target) == (text, target)


def test_a_row_of_flare_brings_its_prompt_and_its_options() -> None:
    row = {"id": "f7", "query": "Sentiment of: t\nAnswer:", "text": "t", "answer": "Neutral",
           "choices": ["positive", "negative", "neutral"], "gold": 2}  # fmt: skip
    found = as_question("flare_fpb", **row)
    assert found.messages == ({"role": "user", "content": "Sentiment of: t\nAnswer:"},)
    assert (found.target, found.options, found.row_id) == ("neutral", ("positive", "negative", "neutral"), "f7")


def test_the_headlines_of_flare_are_averaged_over_their_tags(tmp_path: Path) -> None:
    rows = [
        {"query": f"q{n}", "text": "t", "answer": "Yes", "choices": ["Yes", "No"], "gold": n % 2, "label_type": tag}
        for n, tag in enumerate(("price or not", "price up") * 2)
    ]
    file = tmp_path / "flare_headlines.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = load_task(str(file), train=[])
    assert task.average_groups
    assert [question.group for question in task.questions] == ["price or not", "price up"] * 2
    assert [question.target for question in task.questions] == ["Yes", "No"] * 2


def test_entities_of_flare_keep_their_words_and_labels() -> None:
    found = as_question(
        "flare_ner", query="Find: A B sued", text="A B sued", answer="A B, ORG", label=["B-ORG", "I-ORG", "O"]
    )
    assert json.loads(found.target) == {"tokens": ["A", "B", "sued"], "labels": ["B-ORG", "I-ORG", "O"]}
    words = as_question("flare_finer", query="Label", text="x", answer="A:O", token=["A"], label=["O"])
    assert json.loads(words.target) == {"tokens": ["A"], "labels": ["O"]}


def test_turns_of_a_dialogue_know_one_another() -> None:
    found = as_question("flare_convfinqa", query="{answer0} less 2?", answer="3", dialogue_id="d", turn=1)
    assert (found.dialogue, found.turn, found.options) == ("d", 1, ())


def test_a_table_is_a_task_file_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text('text,target,options\nq1,a,"[""a"", ""b""]"\nq2,b,"[""a"", ""b""]"\n')
    assert [question.options for question in load_task(str(file), train=[]).questions] == [("a", "b"), ("a", "b")]
    other = tmp_path / "mine.txt"
    other.write_text("q")
    with pytest.raises(UserError, match=r"has no known ending; expected one of \.jsonl"):
        load_task(str(other), train=[])


def test_a_choice_without_options_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "flare_fomc.jsonl"
    file.write_text(json.dumps({"query": "q", "answer": "hawkish"}))
    with pytest.raises(UserError, match="the row has no options; expected some, because task 'flare_fomc' is a choice"):
        load_task(str(file), train=[])
