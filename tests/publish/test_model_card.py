import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate.records import one_line
from fintune_kit.evaluate.stage import evaluate
from fintune_kit.evaluate.tables import verdict
from fintune_kit.publish.licences import base_licence, source_licences
from fintune_kit.publish.model_card import _score_values, metadata, write_model_card
from fintune_kit.workspace import MANIFEST, Workspace
from tests.evaluate.world import World


def made(**recipe: object) -> dict:
    values = {
        "name": "p100",
        "base": "Qwen/Qwen2.5-3B-Instruct",
        "data": {"sources": ["sujet-ai/Sujet-Finance-Instruct-177k"]},
    }
    return {"base": values["base"], "recipe": {**values, **recipe}}


@pytest.fixture
def adapter(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.adapter, tmp_path / "adapter"))


def test_the_card_is_written_with_the_evaluation_and_quotes_its_scores(
    world: World, adapter: Path, tmp_path: Path
) -> None:
    stages = {"conversations": world.conversations, "packed": world.packed}
    scores = evaluate(world.recipe, Workspace(tmp_path), base=world.base, adapter=adapter, max_generated=1, **stages)
    write_model_card(adapter, run=world.run, evaluation=tmp_path / "evaluation", **stages)
    card = ModelCard.load(adapter / "README.md")
    assert (card.data.library_name, card.data.license, card.data.pipeline_tag) == (
        "peft",
        "apache-2.0",
        "text-generation",
    )
    assert card.data.eval_results is not None
    quoted = {result.dataset_type: result.metric_value for result in card.data.eval_results}
    assert quoted == {
        t["name"]: round(t["adapter"]["accuracy"], 4) for t in scores["tasks"] if t["metric"] == "accuracy"
    }
    for record in scores["tasks"]:
        assert f"| {record['title']} | {record['n']}" in card.text
        assert verdict(record) in card.text
    first = scores["tasks"][0]
    entry = card.data.eval_results[0]
    assert entry.dataset_args == {"questions": 12, "seen_in_training": first["contamination"]["seen"]}
    assert entry.metric_args == {
        "interval_95": [round(bound, 4) for bound in first["adapter"]["accuracy_interval"]],
        "base_model_value": round(first["base"]["accuracy"], 4),
    }
    manifest = json.loads((adapter / MANIFEST).read_text())
    assert manifest["files"]["adapter_model.safetensors"] in card.text
    assert "30 optimizer steps on a machine in float32" in card.text


def test_a_card_before_the_evaluation_says_so(world: World, adapter: Path) -> None:
    path = write_model_card(adapter, run=world.run, packed=world.packed, conversations=world.conversations)
    text = path.read_text()
    assert "Not evaluated yet." in text
    assert 'from_pretrained("PATH/OF/THE/BASE")' in text, "a folder of this machine is no base for others"
    assert "model-index" not in text


def test_folders_of_two_runs_make_no_card(world: World, adapter: Path, tmp_path: Path) -> None:
    packed = Path(shutil.copytree(world.packed, tmp_path / "packed"))
    (packed / MANIFEST).write_text((packed / MANIFEST).read_text() + "\n")
    with pytest.raises(UserError, match="was not made from"):
        write_model_card(adapter, run=world.run, packed=packed, conversations=world.conversations)
    with pytest.raises(MissingInputError):
        write_model_card(adapter, run=tmp_path / "no", packed=world.packed, conversations=world.conversations)


def test_what_the_base_and_the_data_forbid_is_in_the_metadata() -> None:
    assert "license: other" in metadata(made(), None)
    assert "base_model: Qwen/Qwen2.5-3B-Instruct" in metadata(made(), None)
    assert "- sujet-ai/Sujet-Finance-Instruct-177k" in metadata(made(), None)
    free = made(base="Qwen/Qwen2.5-0.5B-Instruct", data={"sources": ["sample"]}) | {
        "base": "Qwen/Qwen2.5-0.5B-Instruct"
    }
    assert "license: apache-2.0" in metadata(free, None)


def test_licences_are_said_as_far_as_they_are_known() -> None:
    assert "non-commercial" in base_licence("Qwen/Qwen2.5-3B-Instruct", recipe_base="Qwen/Qwen2.5-3B-Instruct").words
    assert base_licence("Qwen/Qwen3-4B", recipe_base="Qwen/Qwen3-4B").identifier == "apache-2.0"
    assert "not known" in base_licence("x/y", recipe_base="x/y").words
    named, unknown = source_licences(["sujet-ai/Sujet-Finance-Instruct-177k", "/home/me/secret/rows.csv"])
    assert "CC BY-NC" in named.words
    assert (unknown.source, unknown.allows_commerce) == ("rows.csv", False)


def test_a_title_from_the_data_makes_no_link_no_cell_and_no_line() -> None:
    title = "ask | 1.000 [win](http://x) <img src=y> `a`\n\n# Best\x1b[2J"
    record = {"title": one_line(title), "metric": "accuracy", "n": 1, "of_total": 1, "floors": None, "paired": None,
              "base": None, "adapter": None, "published": []}  # fmt: skip
    record["contamination"] = {"seen": None, "clean": None, "n": 1}
    loss = {"base": 1.0, "adapter": None, "supervised_tokens": 0}
    (row,) = _score_values({"tasks": [record], "loss": loss})["rows"]
    assert row[0] == r"ask \| 1.000 \[win\](http://x) \<img src=y\> \`a\` # Best \[2J"
    assert record["title"] == "ask | 1.000 [win](http://x) <img src=y> `a` # Best [2J"
