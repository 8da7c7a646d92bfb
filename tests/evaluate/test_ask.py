"""One question, two models: the answers stream, and the two models really differ."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fintune_kit.conversations import read_conversations
from fintune_kit.errors import UserError
from fintune_kit.evaluate import ask as asking
from fintune_kit.evaluate.ask import Pair, ask, check_models_differ, open_pair, print_pieces, side_by_side
from fintune_kit.evaluate.models import answering_as
from fintune_kit.workspace import Workspace
from tests.evaluate.conftest import SYSTEM
from tests.evaluate.world import World


@pytest.fixture(scope="module")
def pair(world: World) -> Pair:
    return open_pair(world.recipe, Workspace(world.adapter.parent), base=world.base)


def test_both_models_answer_and_what_streams_is_the_answer(pair: Pair) -> None:
    pieces: dict[str, list[str]] = {"base": [], "adapter": []}
    answers = pair.ask("Profit rose 3 %.", max_new_tokens=12, say=lambda who, piece: pieces[who].append(piece))
    assert answers["base"] != answers["adapter"], "the same model answered twice"
    for who, found in pieces.items():
        assert len(found) > 1, "the answer came in one piece"
        assert "".join(found).strip() == answers[who]
    assert pair.ask("Profit rose 3 %.", max_new_tokens=12) == answers


def test_the_adapter_is_off_for_the_base_and_on_again(pair: Pair) -> None:
    tokens = torch.arange(5, 25)[None]
    before = pair.model.get_base_model()(input_ids=tokens).logits
    pair.ask("Profit fell.", max_new_tokens=2)
    assert torch.equal(pair.model.get_base_model()(input_ids=tokens).logits, before)
    with answering_as("base", pair.model):
        assert not torch.allclose(pair.model.get_base_model()(input_ids=tokens).logits, before)


def test_a_task_type_stands_for_its_system_prompt(pair: Pair, world: World) -> None:
    assert pair.prompts == {"sentiment_analysis": SYSTEM}
    assert asking.system_prompts(read_conversations(world.conversations, "train")) == pair.prompts
    by_name, by_text, without = (
        pair.ask("Profit fell.", system=system, max_new_tokens=8) for system in ("sentiment_analysis", SYSTEM, None)
    )
    assert by_name == by_text != without


def test_an_adapter_that_is_not_switched_on_is_found(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pair.difference > 0.01
    monkeypatch.setattr(asking, "answering_as", lambda _who, model: answering_as("adapter", model))
    with pytest.raises(UserError, match="base and adapter give the same logits, though"):
        check_models_differ(pair.model, encoder=pair.encoder, compute=pair.compute)


def test_an_adapter_that_learned_nothing_is_told_by_a_difference_of_zero(world: World, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(world.adapter, tmp_path / "adapter"))
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n: t * 0 if "lora_B" in n else t for n, t in weights.items()}, adapter / "adapter_model.safetensors")
    assert open_pair(world.recipe, Workspace(tmp_path), base=world.base, adapter=adapter).difference == 0


def test_a_question_that_cannot_be_asked_is_one_sentence(world: World, pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the question is empty"):
        pair.ask("  ")
    with pytest.raises(UserError, match=r"the question has .* tokens, the model reads at most 512"):
        pair.ask("profit " * 2000)
    with pytest.raises(UserError, match=r"holds no adapter_config\.json"):
        ask(world.recipe, Workspace(tmp_path), "Why?", base=world.base, adapter=tmp_path)


def test_the_answers_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert side_by_side({"base": "one two three", "adapter": "x\ny"}, width=8).splitlines() == [
        "base      adapter",
        "one two   x",
        "three     y",
    ]
    say = print_pieces()
    for who, piece in (("base", "a"), ("base", " b"), ("adapter", "c")):
        say(who, piece)
    assert capsys.readouterr().out == "[base] a b\n[adapter] c"
