"""The table says what is true, whichever of the two is better."""

from fintune_kit.evaluate.records import add_holm, task_record
from fintune_kit.evaluate.results import Answer
from fintune_kit.evaluate.tables import (
    before_after,
    format_over_seeds,
    format_table,
    largest_choice,
    loss_sentence,
    over_seeds,
    pooled_accuracy,
    sentence,
    verdict,
)
from tests.evaluate.conftest import make_task, question

LOSS = {"base": 7.0, "adapter": 1.5, "supervised_tokens": 100}


def answers(right: list[bool]) -> list[Answer]:
    return [Answer(text="up" if hit else "down", right=hit, value=float(hit), confidence=0.9) for hit in right]


def record(base: list[bool], adapter: list[bool] | None, *, name: str = "validation_x", ups: int | None = None) -> dict:
    """All targets except the last ones are `up`, so a constant answer is right `ups` times."""
    n = len(base)
    targets = ["up"] * (n if ups is None else ups)
    targets += ["down"] * (n - len(targets))
    task = make_task(
        *(question(f"text {i}", target, ("up", "down")) for i, target in enumerate(targets)), name=name, title=name
    )
    given = {"base": answers(base)} | ({"adapter": answers(adapter)} if adapter is not None else {})
    found = task_record(task, given, seen=[False] * n, seed=0)
    add_holm([found])
    return found


def test_the_verdict_is_better_only_where_chance_does_not_explain_it() -> None:
    better = record([False] * 20 + [True] * 20, [True] * 40, ups=20)
    assert verdict(better) == "better (p 1.9e-06)"
    assert sentence(better) == "adapter 100 %, base 50 %, majority 50 %: better (p 1.9e-06)"
    assert verdict(record([False] * 2 + [True] * 38, [True] * 40, ups=20)) == "not better (p 0.5)"
    assert verdict(record([True] * 40, [True] * 20 + [False] * 20, ups=20)) == "worse (p 1.9e-06)"
    same = record([True] * 10, [True] * 10, ups=5)
    assert verdict(same) == "not better (p 1)"


def test_an_adapter_below_a_constant_answer_is_told_so() -> None:
    found = record([False] * 40, [True] * 20 + [False] * 20, ups=40)
    assert verdict(found) == "better (p 1.9e-06), below majority and TF-IDF"


def test_the_floor_of_questions_with_their_own_options_is_chance() -> None:
    found = record([True] * 4, [True] * 4)
    found["floors"] = {"chance": 0.25, "majority": None, "tfidf": None}
    assert sentence(found) == "adapter 100 %, base 100 %, chance 25 %: not better (p 1)"
    table = format_table({"loss": LOSS, "tasks": [{**found, "name": "general"}]})
    assert "(25 %)" in table
    assert "so the floor is chance" in table
    assert before_after({"tasks": [found]})[0]["majority"] == 0.25


def test_many_tasks_ask_for_more_certainty() -> None:
    records = [record([False] * 6 + [True] * 4, [True] * 10, name=f"validation_{i}") for i in range(8)]
    assert verdict(records[0]) == "better (p 0.031)"
    add_holm(records)
    assert verdict(records[0]) == "not better (p 0.25)"


def test_a_base_alone_has_a_table_too() -> None:
    found = record([True] * 4, None)
    table = format_table({"loss": {"base": 7.0, "adapter": None, "supervised_tokens": 9}, "tasks": [found]})
    assert "validation loss (nats a token)        7.000\n" in table
    assert "100 % (51-100)" in table
    assert before_after({"tasks": [found]}) == []
    assert verdict(found) == ""
    assert sentence(found) == "base 100 %, majority 100 %"


def test_without_validation_rows_the_table_says_so() -> None:
    scores = {"loss": {"base": None, "adapter": None, "supervised_tokens": 0}, "tasks": []}
    assert "none: there are no validation packs" in format_table(scores)
    assert pooled_accuracy(scores)["n"] == 0
    assert loss_sentence(scores["loss"]) == "no validation packs: there is no validation loss"
    assert largest_choice(scores) is None


def test_the_loss_is_said_whichever_is_lower() -> None:
    assert loss_sentence(LOSS).endswith("adapter 1.500 nats a token: better")
    assert loss_sentence({**LOSS, "adapter": 8.0}).endswith("not better")


def test_what_was_left_out_or_seen_stands_under_the_table() -> None:
    found = {**record([True] * 4, [True] * 4), "of_total": 9}
    found["contamination"] = {
        "seen": 1,
        "n": 4,
        "clean_n": 3,
        "clean": {"base": {"mean": 1.0}, "adapter": {"mean": 0.5}},
    }
    notes = format_table({"loss": LOSS, "tasks": [found]}).splitlines()[-1]
    assert "4 of 9 questions asked" in notes
    assert "training has shown 1 of its questions; without them base 100 %, adapter 50 %" in notes
    unknown = {**found, "contamination": {"seen": None, "n": 4, "clean_n": None, "clean": None}}
    assert "is unknown" in format_table({"loss": LOSS, "tasks": [unknown]})


def test_runs_of_three_seeds_give_mean_and_spread() -> None:
    runs = [
        {"loss": {**LOSS, "adapter": loss}, "tasks": [record([True] * 4, [True] * hits + [False] * (4 - hits))]}
        for loss, hits in ((1.4, 2), (1.5, 3), (1.6, 4))
    ]
    summary = over_seeds(runs)
    assert summary["tasks"]["validation_x"]["mean"] == 0.75
    assert "validation_x                               3   0.750   0.250   0.500 - 1.000" in format_over_seeds(summary)
    assert "validation loss                            3   1.500   0.100   1.400 - 1.600" in format_over_seeds(summary)
