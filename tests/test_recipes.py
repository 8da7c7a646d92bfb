from dataclasses import FrozenInstanceError, replace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.recipes import LoraRecipe, TrainRecipe, load_recipe, p100, smoke

FROM_THE_ENVIRONMENT = ("FINTUNE_RECIPE", "FINTUNE_SOURCE", "FINTUNE_MODEL", "FINTUNE_TOKENIZER")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in FROM_THE_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def test_p100_is_the_run_that_people_reproduce():
    recipe = p100()
    assert recipe.base == "Qwen/Qwen2.5-3B-Instruct"
    assert recipe.data.sources == ("sujet-ai/Sujet-Finance-Instruct-177k",)
    assert recipe.data.examples == 50_000
    assert (recipe.pack.max_length, recipe.pack.share_prefixes) == (2048, True)
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (64, 128, 0.05)
    assert sorted(recipe.lora.target_modules) == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    train = recipe.train
    assert (train.learning_rate, train.schedule, train.warmup_ratio, train.weight_decay) == (2e-4, "cosine", 0.03, 0.01)
    assert (train.accumulation, train.effective_batch) == (8, 128)
    assert (train.optimizer, train.epochs, train.quantization) == ("paged_adamw_8bit", 1, "nf4")


def test_a_recipe_cannot_be_changed_only_replaced():
    with pytest.raises(FrozenInstanceError):
        p100().seed = 1
    assert replace(p100(), seed=1).seed == 1


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: TrainRecipe(learning_rate=0), "train.learning_rate"),
        (lambda: TrainRecipe(effective_batch=10, accumulation=3), "train.accumulation"),
        (lambda: TrainRecipe(warmup_ratio=1.0), "train.warmup_ratio"),
        (lambda: LoraRecipe(dropout=1.0), "lora.dropout"),
        (lambda: replace(p100().data, examples=0), "data.examples"),
        (lambda: replace(p100().pack, max_length=1), "pack.max_length"),
        (lambda: replace(p100(), seed=-1), "seed"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(make, field):
    with pytest.raises(UserError, match=field):
        make()


def test_the_recipe_is_chosen_by_name_then_environment_then_p100(monkeypatch):
    assert load_recipe().name == "p100"
    monkeypatch.setenv("FINTUNE_RECIPE", "smoke")
    assert load_recipe().name == "smoke"
    assert load_recipe("p100").name == "p100"


def test_source_model_and_tokenizer_can_be_overridden(monkeypatch):
    monkeypatch.setenv("FINTUNE_SOURCE", "a.csv:b.csv")
    monkeypatch.setenv("FINTUNE_MODEL", "Qwen/Qwen2.5-0.5B-Instruct")
    monkeypatch.setenv("FINTUNE_TOKENIZER", "here")
    recipe = load_recipe("p100")
    assert recipe.data.sources == ("a.csv", "b.csv")
    assert (recipe.base, recipe.tokenizer) == ("Qwen/Qwen2.5-0.5B-Instruct", "here")


def test_an_unknown_recipe_is_named_with_those_that_exist():
    with pytest.raises(UserError, match=r"'p1OO'.*p100, tpu_v5e8, smoke"):
        load_recipe("p1OO")


def test_smoke_differs_in_size_not_in_kind():
    assert smoke().train.quantization == p100().train.quantization
    assert smoke().train.optimizer == p100().train.optimizer
    assert smoke().lora.target_modules == p100().lora.target_modules
