from collections import Counter

from fintune_kit.evaluate.sets.general import arithmetic, general_tasks
from fintune_kit.evaluate.sets.published import published


def test_every_question_has_four_different_options_and_the_right_one_among_them() -> None:
    tasks = general_tasks()
    assert [(task.name, len(task.questions)) for task in tasks] == [
        ("general_knowledge", 121),
        ("general_arithmetic", 200),
    ]
    for task in tasks:
        assert len({question.text for question in task.questions}) == len(task.questions)
        for question in task.questions:
            assert len(set(question.options)) == 4
            assert question.target in question.options
        indices = Counter(question.options.index(question.target) for question in task.questions)
        assert max(indices.values()) <= 0.35 * len(task.questions), "the right option has a favourite index"


def test_an_evaluation_asks_a_small_even_sample() -> None:
    tasks = general_tasks(max_questions=20)
    assert [(len(task.questions), task.of_total) for task in tasks] == [(20, 121), (20, 200)]
    assert len({question.text.split()[0] for question in tasks[1].questions}) > 3, "all kinds of arithmetic are asked"


def test_arithmetic_is_right_and_the_same_for_the_same_seed() -> None:
    rows = arithmetic(45, seed=3)
    assert rows == arithmetic(45, seed=3)
    assert rows != arithmetic(45, seed=4)
    checked = 0
    for row in rows:
        for word, operator in ((" + ", "+"), (" - ", "-"), (" times ", "*")):
            if str(row["text"]).startswith("What is ") and word in str(row["text"]):
                first, second = str(row["text"])[8:-1].split(word)
                value = {"+": int(first) + int(second), "-": int(first) - int(second), "*": int(first) * int(second)}
                assert row["target"] == f"{value[operator]:,}"
                checked += 1
    assert checked == 15, "five of each"


def test_published_scores_stand_only_beside_the_whole_split() -> None:
    beside = published("fpb", rows=1212)
    assert ("FinGPT, Qwen-7B LoRA", "weighted F1", 0.854) in [(e["model"], e["metric"], e["value"]) for e in beside]
    assert published("fpb", rows=1211) == []
    assert published("mine", rows=5) == []
    assert all(entry["model"] != "GPT-4" for entry in published("nwgi", rows=4047))
    assert {"model": "GPT-4", "metric": "entity F1", "value": 0.83}.items() <= published("flare_ner", rows=98)[
        1
    ].items()
