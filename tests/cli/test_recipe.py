"""The recipe on the command line: shown, checked, and changed by flags."""

import pytest

from fintune_kit.cli.main import main
from fintune_kit.recipe_values import values_of
from fintune_kit.recipes import RECIPES, Recipe, named_recipe, p100, read_recipe, smoke

pytestmark = pytest.mark.usefixtures("workspace")


def shown(capsys, tmp_path, *arguments):
    """The recipe that `recipe show` prints, read back."""
    assert main(["recipe", "show", *arguments]) == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out)
    return read_recipe(tmp_path / "shown.toml")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_is_shown_can_be_read_back(name, capsys, tmp_path):
    assert shown(capsys, tmp_path, "--recipe", name) == RECIPES[name]()


def test_every_value_has_a_flag_of_its_own(capsys):
    assert main(["recipe", "show", "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())
    names = [name for name in values_of(Recipe) if name != "name"]
    assert len(names) > 25
    assert not [name for name in names if f"--{name.replace('_', '-')}" not in text]


def test_flags_change_values(capsys, tmp_path):
    flags = ["--train.learning-rate", "1e-4", "--data.sources", "a", "--data.sources", "b", "--pack.no-share-prefixes"]
    flags += ["--tokenizer", "none", "--train.examples-per-step", "none", "--set", "seed=3", "--set", "lora.rank=4"]
    assert shown(capsys, tmp_path, *flags) == smoke().with_values(
        seed=3,
        data={"sources": ["a", "b"]},
        pack={"share_prefixes": False},
        lora={"rank": 4},
        train={"learning_rate": 1e-4},
    )


def test_a_file_and_a_flag_and_the_environment_together(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text('extends = "p100"\n[train]\nlearning_rate = 1e-4\nepochs = 2\n')
    monkeypatch.setenv("FINTUNE_SET", "lora.rank=8")
    found = shown(capsys, tmp_path, "--recipe", str(tmp_path / "mine.toml"), "--train.epochs", "3")
    assert found == p100().with_values(name="mine", lora={"rank": 8}, train={"learning_rate": 1e-4, "epochs": 3})


def test_none_is_a_value_where_a_whole_number_may_be_left_out(capsys, tmp_path):
    found = shown(capsys, tmp_path, "--recipe", "finance", "--train.examples-per-step", "none")
    assert found.train.examples_per_step is None
    assert named_recipe("finance").train.examples_per_step == 32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--train.lerning-rate", "1"], "Unknown option: --train.lerning-rate. Did you mean --train.learning-rate?"),
        (["--train.epochs", "two"], "Invalid value for --train.epochs: expected a whole number, not 'two'"),
        (["--train.epochs", "1.5"], "Invalid value for --train.epochs: expected a whole number, not '1.5'"),
        (["--train.patience", "2.5"], "Invalid value for --train.patience: expected a whole number, not '2.5'"),
        (["--train.epochs", "0"], "recipe value train.epochs is 0, expected 1 or more"),
        (["--set", "train.epochs=0"], "recipe value train.epochs is 0, expected 1 or more"),
        (["--set", "epochs=1"], "--set sets epochs, which a recipe does not have; did you mean train.epochs?"),
        (["--set", "seed=1", "--seed", "2"], "seed is 2 by --seed and 1 by --set; expected one value"),
        (["--data.sources", ""], "recipe value data.sources is ('',), expected no empty source"),
        (["--recipe", "p1OO"], "there is no recipe 'p1OO'; expected one of finance, p100, "),
        (["--recipe", "nowhere.toml"], "nowhere.toml is missing; expected a recipe in TOML"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert main(["recipe", "show", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {sentence}")
    assert said.err.count("\n") == 1


def test_a_good_file_is_checked_and_compared(capsys, tmp_path):
    (tmp_path / "mine.toml").write_text("seed = 5\n[train]\nlearning_rate = 1e-4\n")
    assert main(["recipe", "check", str(tmp_path / "mine.toml")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/mine.toml: recipe mine is valid",
        "  seed = 5 (p100: 20240405)",
        "  train.learning_rate = 0.0001 (p100: 0.0002)",
    ]


def test_a_bad_file_is_refused(capsys, tmp_path):
    (tmp_path / "bad.toml").write_text("[train]\nlerning_rate = 1\n")
    assert main(["recipe", "check", str(tmp_path / "bad.toml")]) == 2
    assert "did you mean train.learning_rate?" in capsys.readouterr().err
