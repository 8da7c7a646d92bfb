"""Notebook 04 runs to its end and tells the truth, whatever the adapter is worth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

from fintune_kit import recipes
from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.workspace import MANIFEST, write_json
from tests.conftest import REPOSITORY
from tests.evaluate.world import TEXTS, World, make_world

NOTEBOOK = REPOSITORY / "notebooks" / "04_evaluate.ipynb"
Run = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def run(
    tmp_path: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Executes the code cells on a world of its own; returns what they print, and their names."""

    def execute(**changes: Any) -> tuple[str, dict[str, Any]]:
        world: World = make_world(tmp_path, encoder, **changes)
        write_json(world.base / MANIFEST, {"stage": "base", "seed": world.recipe.seed})  # as `tiny_base` leaves it
        monkeypatch.setenv("FINTUNE_WORKSPACE", str(tmp_path))
        monkeypatch.setattr(recipes, "load_recipe", lambda **_: no_transactions(world))
        names: dict[str, Any] = {"display": lambda figure: check_figure(figure)}
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)  # noqa: S102 - our own notebook
        return capsys.readouterr().out, names

    return execute


def no_transactions(world: World) -> recipes.Recipe:
    return recipes.replace(world.recipe, data=recipes.replace(world.recipe.data, transactions=0))


def check_figure(figure: object) -> None:
    assert isinstance(figure, matplotlib.figure.Figure)


def test_an_adapter_that_is_worse_is_called_worse(run: Run) -> None:
    said, names = run(learned=0.5)
    assert names["loss"]["adapter"] > names["loss"]["base"], "this adapter should be worse"
    assert "nats a token: not better" in said
    assert "not better (p " in said
    assert names["card"].is_file()
    assert "[base] " in said
    assert "[adapter] " in said


def test_an_adapter_that_learned_nothing_is_called_that(run: Run) -> None:
    said, names = run(learned=0.0)
    assert "it has learned nothing" in said
    assert names["pair"].difference == 0
    assert names["replies"]["base"] == names["replies"]["adapter"]
    assert all("not better (p 1)" in line for line in said.splitlines() if "gained 0, lost 0" in line)


def test_without_any_question_of_choice_there_is_still_a_card(run: Run) -> None:
    said, names = run(train=("qa",), validation=("qa",))
    assert names["scores"]["tasks"][0]["name"] == "validation_qa_text"
    assert "validation qa, free text" in said
    assert "## Scores" in names["card"].read_text()
    assert "task types with a system prompt: none" in said


def test_one_label_alone_is_a_task_too(run: Run) -> None:
    _, names = run(validation=("neutral",))
    (task,) = (task for task in names["scores"]["tasks"] if task["name"] == "validation_sentiment_analysis")
    assert task["floors"]["majority"]["accuracy"] == 1.0
    assert task["base"]["mcc"] == 0


def test_without_validation_rows_the_general_questions_are_left(run: Run) -> None:
    said, names = run(validation=())
    assert "no validation packs: there is no validation loss" in said
    assert [task["name"] for task in names["scores"]["tasks"]] == ["general_knowledge", "general_arithmetic"]
    assert "no validation packs" in names["card"].read_text().lower()
    assert set(TEXTS) == {"positive", "negative", "neutral"}
