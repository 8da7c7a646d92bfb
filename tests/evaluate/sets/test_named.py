import json
from pathlib import Path

import pytest

from fintune_kit.errors import UserError
from fintune_kit.evaluate.sets.benchmarks import ALIASES, BENCHMARKS, TOPICS
from fintune_kit.evaluate.sets.named import load_task, load_tasks, metric_of, options_of
from tests.evaluate.sets.test_validation import TRAIN, row


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), encoding="utf-8")
    return str(path)


def labelled(*targets: str) -> list[dict[str, str]]:
    return [{"text": f"text {n}", "target": target} for n, target in enumerate(targets)]


def test_a_file_of_labels_is_a_choice_among_its_targets(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "my labels.jsonl", *labelled("up", "down", "up", "down", "up")), train=[])
    assert (task.name, task.metric) == ("my_labels", "accuracy")
    assert task.questions[0].options == ("down", "up"), "the order must not tell which label is frequent"
    assert task.questions[0].messages[0]["content"] == "Answer with one of: down, up. Only reply with that."
    assert task.questions[0].messages[-1]["content"] == "text 0"


def test_a_file_may_bring_its_options_system_prompt_and_ids(tmp_path: Path) -> None:
    mine = {"text": "q", "target": "b", "options": ["a", "b"], "system": "Choose.", "row_id": "r7"}
    (question,) = load_task(write(tmp_path / "x.jsonl", mine), train=[]).questions
    assert question.options == ("a", "b")
    assert question.messages[0]["content"] == "Choose."
    assert question.row_id == "r7"


def test_a_file_called_as_a_benchmark_is_that_benchmark(tmp_path: Path) -> None:
    rows = labelled("Bullish", "neutral")
    for named in (write(tmp_path / "tfns.jsonl", *rows), f"tfns={write(tmp_path / 'other.jsonl', *rows)}"):
        task = load_task(named, train=[])
        assert (task.name, task.title) == ("tfns", "Twitter financial news sentiment")
        assert task.questions[0].target == "bullish"
        assert task.questions[0].options == ("bearish", "neutral", "bullish")
        assert task.questions[0].messages[1]["content"] == "Financial text:text 0"


def test_floors_learn_from_training_conversations_with_the_same_options(tmp_path: Path) -> None:
    task = load_task(
        write(tmp_path / "x.jsonl", *labelled("positive", "negative", "positive", "negative")), train=TRAIN
    )
    texts, labels = task.labelled[""]
    assert len(texts) == 11
    assert set(labels) == {"positive", "negative"}
    other = load_task(write(tmp_path / "y.jsonl", *labelled("up", "down", "up", "down")), train=[*TRAIN, row(99, "up")])
    assert other.labelled[""] == ((), ())


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"text": "a", "mark": "b"}], r"line 1: column 'target' is missing \(found: text, mark\); expected"),
        ([{"text": "a", "target": "b"}, {"text": "  ", "target": "b"}], "line 2: 'text' is empty"),
        (
            [{"text": "a", "target": "c", "options": ["a", "b"]}],
            r"line 1: target 'c' is not among the options \(a, b\)",
        ),
        ([{"text": "a", "target": "c", "options": "ab"}], "line 1: options is 'ab'; expected a list"),
        (
            [{"text": "a", "target": "b", "options": ["a", "b"]}, {"text": "a", "target": "b"}],
            "line 2: the row has no options, but others have",
        ),
        (['{"text": "a", '], "line 1: found .*, expected a row with text and target"),
        (["[1, 2]"], "line 1: found .*, expected a row"),
        ([""], "is empty|holds no row"),
    ],
)
def test_a_faulty_file_is_one_sentence_with_its_line(tmp_path: Path, rows: list, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_task(write(tmp_path / "bad.jsonl", *rows), train=[])


def test_a_target_that_a_benchmark_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="target 'good' is not among the options"):
        load_task(f"fpb={write(tmp_path / 'x.jsonl', *labelled('good'))}", train=[])


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task and no file 'fbp'; expected one of fpb, fiqa_sa"):
        load_task("fbp", train=[])
    with pytest.raises(UserError, match="there is no task 'fbp'"):
        load_task(f"fbp={write(tmp_path / 'x.jsonl', *labelled('a'))}", train=[])


def test_a_benchmark_without_a_hub_source_asks_for_a_file() -> None:
    with pytest.raises(UserError, match=r"--task fpb=FILE\.jsonl"):
        load_task("fpb", train=[])


def test_a_hub_source_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"'tfns' could not be loaded from the hub dataset .*--task tfns=FILE\.jsonl"):
        load_task("tfns", train=[])


def test_spellings_that_differ_in_case_are_one_option(tmp_path: Path) -> None:
    targets = ("Negative", "negative", "negative", "positive", "positive", "POSITIVE")
    task = load_task(write(tmp_path / "x.jsonl", *labelled(*targets)), train=[])
    assert task.questions[0].options == ("negative", "positive")
    assert [question.target for question in task.questions] == ["negative"] * 3 + ["positive"] * 3
    assert options_of(["b", "a", "b", "A", "a", "B"]) == options_of(["a", "b"] * 3) == ("a", "b")


def test_free_text_is_asked_as_often_as_was_said(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "target": f"It rose in {n} ways."} for n in range(30)]
    task = load_task(write(tmp_path / "x.jsonl", *rows), train=[], max_generated=7)
    assert (len(task.questions), task.of_total) == (7, 30)
    choice = load_task(write(tmp_path / "y.jsonl", *labelled(*["a", "b"] * 9)), train=[], max_generated=7)
    assert len(choice.questions) == 18, "a choice costs little"


def test_general_is_a_task_of_its_own() -> None:
    assert [len(task.questions) for task in load_tasks(["general"], train=[], transactions=None)] == [121, 200]


def test_names_that_people_know_are_benchmarks() -> None:
    assert set(ALIASES.values()) <= set(BENCHMARKS)
    for key, benchmark in BENCHMARKS.items():
        assert benchmark.paper, f"{key} names no paper"
        assert benchmark.metric != "accuracy" or benchmark.options or benchmark.hub
    assert len(TOPICS) == 20


def test_free_text_is_judged_by_what_the_targets_look_like() -> None:
    assert metric_of(["12", "$3.5", "-4 %"]) == "numeric"
    assert metric_of(['{"a": 1}', '{"a": 2}']) == "json"
    assert metric_of(["Firm: positive", "A: neutral; B: negative"]) == "entities"
    assert metric_of(["It rose.", "It fell because of costs."]) == "rouge_l"
    assert metric_of(["318 million", "12"]) == "numeric"
    assert options_of(["1", "2", "1", "2"]) == ()
    assert options_of(["a", "b", "c"]) == ()


def test_the_real_sets_have_their_published_sizes(shared_data: Path) -> None:
    for name, file in (("fpb", "fpb"), ("tfns", "tfns"), ("fiqa_sa", "fiqa_sa_fingpt"), ("tfns_topic", "tfns_topic")):
        assert len(load_task(str(shared_data / "eval" / f"{file}.jsonl"), train=[]).questions) == BENCHMARKS[name].rows
