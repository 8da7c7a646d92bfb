from dataclasses import FrozenInstanceError, replace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.recipe_values import values_of
from fintune_kit.recipes import (
    RECIPES,
    Change,
    DataRecipe,
    LoraRecipe,
    Recipe,
    TrainRecipe,
    load_recipe,
    p100,
    parsed_changes,
    read_recipe,
    smoke,
)

FROM_THE_ENVIRONMENT = ("FINTUNE_RECIPE", "FINTUNE_SET", "FINTUNE_SOURCE", "FINTUNE_MODEL", "FINTUNE_TOKENIZER")


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
        (lambda: TrainRecipe(examples_per_step=0), "train.examples_per_step"),
        (lambda: TrainRecipe(learning_rate=2e4), "train.learning_rate"),
        (lambda: DataRecipe(sources=()), "data.sources"),
        (lambda: DataRecipe(sources=("a.csv", " ")), "data.sources"),
        (lambda: LoraRecipe(dropout=1.0), "lora.dropout"),
        (lambda: LoraRecipe(target_modules=("q_proj", "w_proj")), "lora.target_modules"),
        (lambda: Recipe(name="../elsewhere"), "name"),
        (lambda: replace(p100(), base=" "), "base"),
        (lambda: replace(p100(), base="Qwen/Qwen3.5-4B"), "base .* carry a state through a pack"),
        (lambda: replace(p100(), base="/models/qwen3-next-80b"), "base .* carry a state through a pack"),
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
    assert load_recipe(default="finance").name == "finance"
    monkeypatch.setenv("FINTUNE_RECIPE", "smoke")
    assert load_recipe().name == "smoke"
    assert load_recipe(default="finance").name == "smoke", "the environment goes before a notebook's own choice"
    assert load_recipe("p100").name == "p100"


def test_source_model_and_tokenizer_can_be_overridden(monkeypatch):
    monkeypatch.setenv("FINTUNE_SOURCE", "a.csv:b.csv")
    monkeypatch.setenv("FINTUNE_MODEL", "Qwen/Qwen2.5-0.5B-Instruct")
    monkeypatch.setenv("FINTUNE_TOKENIZER", "here")
    recipe = load_recipe("p100")
    assert recipe.data.sources == ("a.csv", "b.csv")
    assert (recipe.base, recipe.tokenizer) == ("Qwen/Qwen2.5-0.5B-Instruct", "here")


def test_an_unknown_recipe_is_named_with_those_that_exist():
    with pytest.raises(UserError, match=r"'p1OO'.*p100, .*smoke.*--recipe and FINTUNE_RECIPE"):
        load_recipe("p1OO")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_written_with_its_reasons_and_read_back(name, tmp_path):
    recipe = RECIPES[name]()
    text = recipe.as_toml()
    (tmp_path / "whole.toml").write_text(text, encoding="utf-8")
    assert read_recipe(tmp_path / "whole.toml") == recipe
    assert text.startswith(f"# Recipe {name}. ")
    assert "\n# Share of the optimizer steps in which the learning rate rises, rounded up to whole steps.\n" in text
    assert text.count("\n# ") >= len(values_of(Recipe)), "a value has no reason"
    assert max(map(len, text.splitlines())) <= 120


def test_every_value_has_a_reason():
    assert len(values_of(Recipe)) > 25
    assert not [name for name, value in values_of(Recipe).items() if len(value.reason) < 20]


def test_a_notebook_changes_values_and_the_recipe_remembers_which():
    recipe = load_recipe("p100").with_values(seed=1, train={"learning_rate": 1e-4, "epochs": 2})
    assert (recipe.seed, recipe.train.learning_rate, recipe.train.epochs) == (1, 1e-4, 2)
    assert recipe.asked == {"name", "seed", "train.learning_rate", "train.epochs"}
    assert recipe.data == p100().data
    assert "asked" not in recipe.as_dict()
    assert replace(recipe, asked=frozenset()) == recipe, "what was asked for is not part of the recipe"


def test_values_that_depend_on_each_other_are_changed_together():
    assert p100().with_values(train={"effective_batch": 12, "accumulation": 3}).train.accumulation == 3
    changes = parsed_changes(["train.accumulation=3", "train.effective_batch=12"], origin="--set")
    assert load_recipe("p100", changes=changes).train.effective_batch == 12


def test_a_file_extends_a_recipe_and_takes_its_own_name(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "smoke"\n[train]\nlearning_rate = 1\n[data]\nsources = ["a", "b"]')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.name, recipe.base, recipe.data.sources) == ("mine", "tiny", ("a", "b"))
    assert recipe.train == replace(smoke().train, learning_rate=1.0)
    assert recipe.asked == {"name", "train.learning_rate", "data.sources"}


def test_a_file_extends_a_file_beside_it_and_p100_where_it_says_nothing(tmp_path):
    (tmp_path / "first.toml").write_text("seed = 5")
    (tmp_path / "second.toml").write_text('extends = "first.toml"\nname = "other"\ntokenizer = "none"')
    assert read_recipe(tmp_path / "second.toml") == replace(p100(), name="other", seed=5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[train]\nlerning_rate = 1", "sets train.lerning_rate, .* did you mean train.learning_rate?"),
        ("learning_rate = 1", "sets learning_rate, .* did you mean train.learning_rate?"),
        ("[trian]\nepochs = 1", "sets trian, which a recipe does not have"),
        ("asked = ['seed']", "sets asked, which a recipe does not have"),
        ("train = 3", "sets train to 3; expected a table of the values of train"),
        ("[train]\nepochs = 'two'", "sets train.epochs to 'two'; expected a whole number"),
        ("[train]\nepochs = 1.5", "sets train.epochs to 1.5; expected a whole number"),
        ("[train]\nepochs = true", "sets train.epochs to True; expected a whole number"),
        ("[train]\nlearning_rate = nan", "sets train.learning_rate to nan; expected a number"),
        ("[train]\nschedule = 'square'", "sets train.schedule to 'square'; expected one of cosine, linear, constant"),
        ("[train]\nexamples_per_step = 'all'", 'expected a whole number, or "none"'),
        (
            "[data]\nsources = 'a.csv'",
            r"sets data.sources to 'a.csv'; expected a list of texts, as in \[\"a\", \"b\"\]",
        ),
        ("[data]\nfinance_only = 1", "sets data.finance_only to 1; expected true or false"),
        ("[data]\nexamples = 0", "data.examples is 0, expected 1 or more"),
        ("seed = 1\nseed = 2", "is not TOML"),
        ("extends = 3", "extends 3; expected a recipe's name or a file in quotes"),
        ("extends = 'p1OO'", "there is no recipe 'p1OO'"),
        ("extends = 'nowhere.toml'", "nowhere.toml is missing; .*fintune-kit recipe show"),
        ("extends = 'bad.toml'", "bad.toml extends itself"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text, sentence):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_recipe(str(tmp_path / "bad.toml"))


def test_a_missing_file_and_bytes_that_are_not_text_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no\.toml is missing"):
        load_recipe(str(tmp_path / "no.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"seed = 1 # \xff")
    with pytest.raises(UserError, match=r"bytes\.toml is not TOML"):
        load_recipe(str(tmp_path / "bytes.toml"))


@pytest.mark.parametrize("between", [" ", ", ", ";", "\n"])
def test_the_environment_changes_any_value(monkeypatch, between):
    parts = ("train.learning-rate=1e-4", 'data.sources=["a=1, b", "c"]', "pack.mix=true", "tokenizer = a/b", "seed=3")
    monkeypatch.setenv("FINTUNE_SET", between.join(parts))
    recipe = load_recipe("p100")
    assert (recipe.train.learning_rate, recipe.data.sources, recipe.pack.mix) == (1e-4, ("a=1, b", "c"), True)
    assert (recipe.tokenizer, recipe.seed) == ("a/b", 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lora.target_modules=q_proj, v_proj", ("q_proj", "v_proj")),
        ("data.examples=1_000", 1000),
        ("data.system_prompt=You're kind, and brief.", "You're kind, and brief."),
        ('data.system_prompt="none of it"', "none of it"),
        ("data.system_prompt=none", None),
        ("train.examples_per_step=none", None),
        ("train.examples_per_step=32", 32),
        ("train.quantization=none", "none"),
        ("data.finance_only=False", False),
        ("train.learning_rate=1", 1.0),
    ],
)
def test_text_is_read_as_the_type_of_its_field(text, value):
    (change,) = parsed_changes([text], origin="--set")
    assert change.value == value
    assert type(change.value) is type(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train.learning_rate", "--set is 'train.learning_rate'; expected NAME=VALUE"),
        ("train.lr=1", "--set sets train.lr, which a recipe does not have"),
        ("train.epochs=1.5", "--set sets train.epochs to '1.5'; expected a whole number"),
        ("train.epochs=", "--set sets train.epochs to ''; expected a whole number"),
        ("pack.mix=yes", "--set sets pack.mix to 'yes'; expected true or false"),
        ("data.sources=[1]", r"--set sets data.sources to \[1\]; expected a list of texts"),
        ("data.sources=[", r"--set sets data.sources to '\['; expected a list of texts"),
        ("train.learning_rate=inf", "--set sets train.learning_rate to inf; expected a number"),
    ],
)
def test_text_that_does_not_fit_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(UserError, match=sentence):
        load_recipe("p100", changes=parsed_changes([text], origin="--set"))


def test_two_places_that_disagree_are_both_named(monkeypatch):
    flag = Change(name="train.learning_rate", value=1e-4, origin="--train.learning-rate")
    monkeypatch.setenv("FINTUNE_SET", "train.learning_rate=0.0001")
    assert load_recipe("p100", changes=[flag]).train.learning_rate == 1e-4, "saying the same twice is no disagreement"
    monkeypatch.setenv("FINTUNE_SET", "train.learning_rate=2e-4")
    both = r"train.learning_rate is 0.0001 by --train.learning-rate and 0.0002 by FINTUNE_SET; .* say it in one place"
    with pytest.raises(UserError, match=both):
        load_recipe("p100", changes=[flag])
    monkeypatch.setenv("FINTUNE_SET", "base=a/b")
    monkeypatch.setenv("FINTUNE_MODEL", "c/d")
    with pytest.raises(UserError, match="base is 'c/d' by FINTUNE_MODEL and 'a/b' by FINTUNE_SET"):
        load_recipe("p100")


def test_a_flag_changes_what_a_file_says(tmp_path):
    (tmp_path / "mine.toml").write_text("seed = 5")
    changed = load_recipe(str(tmp_path / "mine.toml"), changes=[Change(name="seed", value=6, origin="--seed")])
    assert changed.seed == 6


def test_smoke_differs_in_size_not_in_kind():
    assert smoke().train.quantization == p100().train.quantization
    assert smoke().train.optimizer == p100().train.optimizer
    assert smoke().lora.target_modules == p100().lora.target_modules
