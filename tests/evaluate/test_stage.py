import json
import shutil
from pathlib import Path

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate import models, stage
from fintune_kit.evaluate.results import read_answers
from fintune_kit.evaluate.stage import evaluate
from fintune_kit.evaluate.tables import before_after
from fintune_kit.workspace import MANIFEST, Workspace
from tests.evaluate.world import World


def run(world: World, out: Path, **changes: object) -> dict:
    values = {
        "base": world.base,
        "adapter": world.adapter,
        "conversations": world.conversations,
        "packed": world.packed,
        "max_generated": 2,
    }
    return evaluate(world.recipe, Workspace(out.parent), out=out, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("stage") / "evaluation"
    return run(world, out), out


def test_every_default_task_is_there_with_both_models(done: tuple[dict, Path]) -> None:
    scores, _ = done
    assert [(t["name"], t["metric"], t["n"], t["of_total"]) for t in scores["tasks"]] == [
        ("validation_sentiment_analysis", "accuracy", 12, 12),
        ("validation_qa_text", "rouge_l", 2, 4),
        ("general_knowledge", "accuracy", 20, 121),
        ("general_arithmetic", "accuracy", 20, 200),
    ]
    assert set(scores["tasks"][0]["labels"]) == {"positive", "neutral", "negative"}


def test_the_adapter_on_a_fresh_base_gives_the_loss_that_training_ended_with(done: tuple[dict, Path]) -> None:
    loss = done[0]["loss"]
    assert loss["adapter"] == pytest.approx(loss["when_training_ended"], rel=1e-5)
    assert abs(loss["base"] - loss["adapter"]) > 0.01, "an adapter without effect could not tell the two apart"


def test_floors_are_learned_from_the_training_conversations(done: tuple[dict, Path]) -> None:
    floors = done[0]["tasks"][0]["floors"]
    assert floors["learned_from"] == "the training conversations"
    assert floors["majority"]["accuracy"] == pytest.approx(4 / 12)  # neutral: 18 of 42 in training, 4 of 12 held out
    assert floors["tfidf"]["accuracy"] == 1.0


def test_the_table_of_answers_agrees_with_the_scores(done: tuple[dict, Path]) -> None:
    scores, out = done
    rows = read_answers(out)
    assert json.loads((out / "scores.json").read_text()) == scores
    for record in scores["tasks"]:
        mine = [row for row in rows if row["task"] == record["name"]]
        assert len(mine) == record["n"]
        for who in ("base", "adapter"):
            assert record[who]["score"] == pytest.approx(sum(row[f"{who}_value"] for row in mine) / len(mine))
    differing = sum(row["base_answer"] != row["adapter_answer"] for row in rows)
    assert differing > 0, "the adapter was never switched on or off"


def test_the_figures_records_name_each_choice_task(done: tuple[dict, Path]) -> None:
    records = before_after(done[0])
    assert [record["n"] for record in records] == [12, 20, 20]
    assert records[0]["majority"] == pytest.approx(4 / 12)


def test_the_same_run_gives_the_same_bytes(done: tuple[dict, Path], world: World, tmp_path: Path) -> None:
    again = tmp_path / "evaluation"
    run(world, again)
    for name in ("scores.json", "answers.parquet", MANIFEST):
        assert (again / name).read_bytes() == (done[1] / name).read_bytes(), name


def test_a_killed_run_goes_on_with_the_tasks_that_are_left(
    done: tuple[dict, Path], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, asked = models.answer_task, []

    def killed(model: object, task: object, *, label: str, **rest: object) -> object:
        asked.append(label)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer(model, task, label=label, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "answer_task", killed)
    out = tmp_path / "evaluation"
    with pytest.raises(KeyboardInterrupt):
        run(world, out)
    assert not out.exists()
    assert run(world, out) == done[0]
    assert len(asked) == 3 + 8 - 2, "tasks that were done were done again"
    assert not (tmp_path / "evaluation.progress").exists()


def test_answers_of_another_adapter_are_not_taken_for_this_ones(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "task_record", None)  # dies after all answers, before they are written
        with pytest.raises(TypeError):
            run(world, tmp_path / "evaluation")
    progress = tmp_path / "evaluation.progress"
    files = sorted(progress.iterdir())
    assert len(files) == 8
    for file in files:
        file.write_text(file.read_text().replace('"of": "', '"of": "0'))
    asked = []
    answer = models.answer_task
    monkeypatch.setattr(models, "answer_task", lambda *a, **k: asked.append(k["label"]) or answer(*a, **k))
    run(world, tmp_path / "evaluation")
    assert len(asked) == 8


def test_a_users_file_is_a_task(world: World, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"text": f"Profit rose {n} %", "target": "Positive" if n % 2 else "negative"} for n in range(6)]
    file.write_text("\n".join(map(json.dumps, rows)))
    scores = run(world, tmp_path / "evaluation", tasks=[str(file)])
    assert [t["n"] for t in scores["tasks"] if t["name"] == "mine"] == [6]


def test_a_missing_adapter_names_the_notebook_that_writes_it(world: World, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"notebooks/03_train_p100\.ipynb"):
        run(world, tmp_path / "evaluation", adapter=tmp_path / "nothing")
    assert not (tmp_path / "evaluation").exists()


def test_a_tokenizer_that_does_not_match_is_refused(world: World, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(world.base, base)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    first, second = list(tokenizer["model"]["vocab"])[-2:]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        run(world, tmp_path / "evaluation", base=base)


def test_an_adapter_that_gives_another_loss_is_refused(world: World, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(world.adapter, adapter)
    manifest = json.loads((adapter / MANIFEST).read_text())
    manifest["validation_loss"] *= 1.1
    (adapter / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="as at the end of its training"):
        run(world, tmp_path / "evaluation", adapter=adapter)


def test_a_base_alone_is_evaluated_on_the_tasks_that_are_named(world: World, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"text {n}", "target": "ab"[n % 2]}) for n in range(8)))
    scores = evaluate(world.recipe, Workspace(tmp_path), base=world.base, tasks=[str(file)], shots=2)
    assert [task["name"] for task in scores["tasks"]] == ["general_knowledge", "general_arithmetic", "mine"]
    mine = scores["tasks"][-1]
    assert (mine["title"], mine["n"], mine["adapter"], mine["paired"]) == ("mine, 2-shot", 6, None, None)
    assert mine["contamination"] == {"seen": None, "n": 6, "clean_n": None, "clean": None}
    assert mine["floors"]["learned_from"] == "the test questions, cross-validated"
    assert scores["loss"]["base"] is None
    assert "adapter_answer" not in read_answers(tmp_path / "evaluation")[0]


def test_an_adapter_from_elsewhere_is_evaluated_without_its_training_data(world: World, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(world.adapter, tmp_path / "foreign"))
    (foreign / MANIFEST).unlink()
    scores = evaluate(world.recipe, Workspace(tmp_path), base=world.base, adapter=foreign)
    assert [task["contamination"]["seen"] for task in scores["tasks"]] == [None, None]
    assert scores["adapter"]["rank"] == 4
    assert scores["loss"]["adapter"] is None
    changed = [line for line in read_answers(tmp_path / "evaluation") if line["base_answer"] != line["adapter_answer"]]
    assert changed, "the adapter was never switched on"


def test_a_folder_without_an_adapter_says_what_a_peft_adapter_holds(world: World, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"holds no adapter_model\.safetensors and adapter_config\.json"):
        evaluate(world.recipe, Workspace(tmp_path), base=world.base, adapter=tmp_path / "empty")


def test_all_general_questions_are_asked_by_name_and_then_not_sampled(world: World, tmp_path: Path) -> None:
    scores = evaluate(world.recipe, Workspace(tmp_path), base=world.base, tasks=["general"])
    assert [(task["name"], task["n"]) for task in scores["tasks"]] == [
        ("general_knowledge", 121),
        ("general_arithmetic", 200),
    ]


def test_p_values_are_corrected_for_the_number_of_tasks(done: tuple[dict, Path]) -> None:
    tests = [task["paired"] for task in done[0]["tasks"]]
    assert len(tests) == 4
    assert all(test["p_holm"] >= test["p_value"] for test in tests)
    smallest = min(tests, key=lambda test: test["p_value"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, 4 * smallest["p_value"]))
