from collections import Counter

from fintune_kit.evaluate.general import general_tasks
from fintune_kit.evaluate.published import published


def test_every_question_has_four_different_options_and_the_right_one_among_them() -> None:
    tasks = general_tasks()
    assert [len(task.questions) for task in tasks] == [20, 20]
    for question in (question for task in tasks for question in task.questions):
        assert len(set(question.options)) == 4
        assert question.target in question.options
    places = Counter(q.options.index(q.target) for task in tasks for q in task.questions)
    assert max(places.values()) <= 12, "the right option has a favourite place"


def test_published_numbers_stand_only_beside_the_whole_split() -> None:
    beside = published("fpb", rows=1212, expected_rows=1212)
    assert {"model": "FinGPT, Qwen-7B LoRA", "weighted_f1": 0.854, "source": beside[0]["source"]} in beside
    assert published("fpb", rows=1211, expected_rows=1212) == []
    assert published("mine", rows=5, expected_rows=5) == []
    assert all(entry["model"] != "GPT-4" for entry in published("nwgi", rows=4047, expected_rows=4047))
