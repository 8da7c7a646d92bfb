import json
import subprocess
import sys

import pytest

from fintune_kit.cli.data import parse_mapping
from fintune_kit.cli.main import VERBS, build_app, main
from fintune_kit.errors import UserError

STAGE_FLAGS = ("--adapter", "--conversations", "--packed", "--run")


pytestmark = pytest.mark.usefixtures("workspace")


def test_columns_are_mapped_by_role():
    assert parse_mapping(["user=question", "assistant=reply"]) == {"user": "question", "assistant": "reply"}
    assert parse_mapping([]) is None
    for wrong in (["user"], ["=x"], ["user="], ["user=a", "user=b"]):
        with pytest.raises(UserError, match="ROLE=COLUMN"):
            parse_mapping(wrong)


def test_a_users_mistake_is_one_sentence_and_exit_code_2(capsys):
    assert main(["pack"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "notebooks/01_data.ipynb" in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["data", "--source", "nowhere.csv"], "nowhere.csv"),
        (["data", "--recipe", "nine"], "'nine'"),
        (["data", "--map", "user"], "--map 'user'"),
        (["pack", "--conversations", "."], "manifest.json"),
        (["pack", "--tokenizer", "./nothing-here"], "conversations"),
        (["plan", "--device", "p99"], "'p99'"),
        (["train"], "packed"),
        (["evaluate"], "adapter"),
        (["export", "--out", "merged"], "adapter"),
        (["push", "--repo", "me/mine"], "adapter"),
        (
            ["evaluate", "--task", "transactions", *(word for name in STAGE_FLAGS for word in (name, "."))],
            "`fintune-kit transactions conversations`",
        ),
        (["transactions", "import", "nowhere.csv", "--out", "mine.csv"], "nowhere.csv"),
        (["transactions", "generate", "--count", "0", "--out", "statements"], "--count is 0"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_half_written(arguments, found, capsys, workspace):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert found in error
    assert error.count("\n") == 1
    left = {path.name for path in workspace.iterdir()} if workspace.exists() else set()
    assert left <= {"base"}, "the tiny base is whole; nothing else may be there"


def test_an_empty_file_is_a_users_mistake(tmp_path, capsys, workspace):
    (tmp_path / "empty.csv").write_text("")
    assert main(["data", "--source", str(tmp_path / "empty.csv")]) == 2
    assert "empty.csv" in capsys.readouterr().err
    assert not (workspace / "conversations").exists()


def test_unknown_columns_are_listed_with_the_line_to_write(tmp_path, capsys):
    (tmp_path / "odd.csv").write_text("frage,antwort\nWas?,Das.\n")
    assert main(["data", "--source", str(tmp_path / "odd.csv")]) == 2
    error = capsys.readouterr().err
    assert "'frage', 'antwort'" in error
    assert "--map" in error


def test_the_plan_is_machine_readable(capsys):
    assert main(["plan", "--device", "t4x2", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["device"] == "t4x2"
    assert plan["packs_per_step"] == plan["micro_batch"] * plan["accumulation"] * plan["processes"]


def test_doctor_always_answers(capsys):
    assert main(["doctor"]) == 0
    assert "accelerator" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_as_the_overview_does(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: fintune-kit {verb}" in shown
    assert VERBS[verb] in " ".join(shown.split())


def test_the_overview_imports_no_verb_and_none_of_what_they_need():
    heavy = ("torch", "transformers", "datasets", "numpy", "pyarrow", "fintune_kit.cli.train", "fintune_kit.recipes")
    code = f"import sys; from fintune_kit.cli.main import main; main(['--help']); print(sys.modules.keys() & {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "Usage: fintune-kit" in done.stdout


def test_the_package_itself_imports_nothing():
    code = "import sys; before = set(sys.modules); import fintune_kit; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['fintune_kit']"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no verb was given; expected one: see `fintune-kit --help`"),
        (["kaggle"], "no verb was given; expected one: see `fintune-kit kaggle --help`"),
        (["doctor", "loudly"], "'loudly' was not expected here (see `fintune-kit doctor --help`)"),
        (["train", "--step", "1"], "Unknown option: --step. Did you mean --steps? (see `fintune-kit train --help`)"),
        (["train", "--steps", "1", "--steps", "2"], "Parameter --steps specified multiple times"),
        (["train", "--steps", "-5"], 'Invalid value "-5" for --steps. Must be >= 1'),
        (["train", "--processes", "-3"], 'Invalid value "-3" for --processes. Must be >= 1'),
        (["data", "--processes", "0"], 'Invalid value "0" for --processes. Must be >= 1'),
        (["data", "--processes", "two"], "Invalid value for --processes: expected a whole number, not 'two'"),
        (["data", "--processes", "1.5"], "Invalid value for --processes: expected a whole number, not '1.5'"),
        (["data", "--examples", "5.7"], "Invalid value for --examples: expected a whole number, not '5.7'"),
        (["evaluate", "--shots", "0.6"], "Invalid value for --shots: expected a whole number, not '0.6'"),
        (["train", "--report-to", "x"], 'Invalid value "x" for --report-to. Choose from: "none", "tensorboard"'),
        (["data", "--out", ""], 'Invalid value "." for --out. Expected a folder of its own, as in runs/mine (see'),
        (["pack", "--out", "."], 'Invalid value "." for --out. Expected a folder of its own'),
        (["evaluate", "--out", ""], 'Invalid value "." for --out. Expected a folder of its own'),
        (["export", "--out", "."], 'Invalid value "." for --out. Expected a folder of its own'),
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
        (["export"], 'Command "export" parameter --out requires an argument'),
    ],
)
def test_a_flag_that_is_not_understood_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"error: {sentence}")


def leaves(app):
    """The verbs that do something: those of a group in place of the group."""
    inner = [app[name] for name in app if not name.startswith("-")]
    return [app] if app.default_command else [leaf for command in inner for leaf in leaves(command)]


def test_every_flag_has_a_line_of_help():
    found = [
        (leaf.name[0], argument)
        for leaf in leaves(build_app())
        for argument in leaf.assemble_argument_collection(parse_docstring=True)
        if argument.parameter.show is not False and not argument.children
    ]
    assert len(found) > 60
    assert not [f"{verb} {argument.name}" for verb, argument in found if not argument.parameter.help]
