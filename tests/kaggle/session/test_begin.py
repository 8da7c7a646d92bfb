"""A session on a fake `/kaggle`: settings, caches, inputs, model, card."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import peft.import_utils
import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.hardware import find_machine
from fintune_kit.kaggle.accelerators import check_card
from fintune_kit.kaggle.session.begin import begin, end
from fintune_kit.kaggle.session.install import torch_for
from fintune_kit.kaggle.session.variables import find_token
from tests.kaggle.conftest import pretend_installed

LIBRARY = {"library": "fintune_kit-9.9-py3-none-any.whl", "sha256": "ab" * 32}
TPU = {
    "accelerator": "TpuV5E8",
    "requirements": ["numpy>=1", "no-such-kit==1"],
    "tpu_packages": {"requirements": ["no-such-jax==2", "old-kit>=2.1"], "constraints": ["old-kit==2.4.6"]},
}
CU128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


def session(**change):
    return {
        "kernel": "02_pack",
        "accelerator": None,
        "internet": True,
        "kernel_sources": [],
        "dataset_sources": [],
        "model_sources": [],
        "environment": {},
        "requirements": ["numpy>=1"],
    } | change


def attach(root, place):
    folder = root / "input" / place
    folder.mkdir(parents=True)
    return folder


def test_what_a_session_found_is_left_beside_its_output(environment, kaggle_root, capsys):
    attach(kaggle_root, "notebooks/alice/kit-01-data")
    attach(kaggle_root, "rows")
    begin(session(kernel_sources=["alice/kit-01-data"], dataset_sources=["bob/rows"]), **LIBRARY)
    record = json.loads((kaggle_root / "working" / "session.json").read_text())
    assert record["kernel"] == "02_pack"
    assert record["library"] == "fintune_kit-9.9-py3-none-any.whl"
    assert record["inputs"] == {"alice/kit-01-data": "input/notebooks/alice/kit-01-data", "bob/rows": "input/rows"}
    assert record["versions"]["torch"]
    assert isinstance(record["cards"], list)
    assert "02_pack: " in capsys.readouterr().out


def test_caches_lie_outside_the_output(environment, kaggle_root):
    begin(session(), **LIBRARY)
    for name in ("HF_HOME", "TORCH_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert environment[name].startswith(str(kaggle_root / "temp")), name


def test_a_session_notes_when_it_began_and_a_restarted_kernel_keeps_the_note(environment, kaggle_root, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    begin(session(), **LIBRARY)
    monkeypatch.setattr("time.time", lambda: 2000.0)
    environment.pop("FINTUNE_SESSION_BEGAN")
    begin(session(), **LIBRARY)
    assert environment["FINTUNE_SESSION_BEGAN"] == "1000.0"


@pytest.mark.parametrize("layout", ["datasets/bob/rows", "rows"])
def test_settings_may_name_an_input_by_a_path_that_no_layout_changes(environment, kaggle_root, layout):
    (attach(kaggle_root, layout) / "a.csv").write_text("x")
    settings = {"FINTUNE_SOURCE": "{input:bob/rows}/a.csv", "FINTUNE_TIME_BUDGET": "8h30m"}
    environment["FINTUNE_TIME_BUDGET"] = "5s"
    for _ in range(2):  # the cell may be run again
        environment.pop("FINTUNE_SOURCE", None)
        begin(session(dataset_sources=["bob/rows/3"], environment=settings), **LIBRARY)
    assert environment["FINTUNE_SOURCE"] == f"{kaggle_root}/temp/inputs/bob/rows/a.csv"
    assert Path(environment["FINTUNE_SOURCE"]).read_text() == "x"
    assert environment["FINTUNE_TIME_BUDGET"] == "5s", "what is set already stays"


def test_a_setting_that_names_what_is_not_attached_is_refused(environment):
    with pytest.raises(UserError, match=r"\{input:bob/rows\}, which is not attached"):
        begin(session(environment={"FINTUNE_SOURCE": "{input:bob/rows}"}), **LIBRARY)


def test_a_missing_input_ends_the_session_in_its_first_cell(environment, kaggle_root):
    with pytest.raises(MissingInputError, match="the notebook alice/kit-01-data is not attached"):
        begin(session(kernel_sources=["alice/kit-01-data"]), **LIBRARY)
    assert not (kaggle_root / "working" / "session.json").exists()


def test_without_internet_everything_is_offline(environment, kaggle_root):
    begin(session(internet=False), **LIBRARY)
    assert {environment[n] for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")} == {"1"}


def test_an_attached_model_becomes_the_base_under_a_name_that_says_which(environment, kaggle_root):
    folder = attach(kaggle_root, "models/qwen-lm/qwen2.5/transformers/3b-instruct/1")
    (folder / "config.json").write_text("{}")
    model = "qwen-lm/qwen2.5/transformers/3b-instruct/1"
    for _ in range(2):  # the cell may be run again
        environment.pop("FINTUNE_MODEL", None)
        begin(session(model_sources=[model]), **LIBRARY)
    base = kaggle_root / "temp" / "models" / "qwen2.5-3b-instruct"
    assert environment["FINTUNE_MODEL"] == str(base)
    assert (base / "config.json").read_text() == "{}"


def test_two_models_need_a_word(environment, kaggle_root):
    models = ["a/m/f/v/1", "b/n/f/v/1"]
    for model in models:
        attach(kaggle_root, f"models/{model}")
    with pytest.raises(UserError, match="choose one with FINTUNE_MODEL"):
        begin(session(model_sources=models), **LIBRARY)


def test_the_token_comes_from_kaggles_secrets_and_is_not_printed(environment, kaggle_root, monkeypatch, capsys):
    environment.pop("HF_TOKEN", None)
    monkeypatch.setattr("fintune_kit.kaggle.session.variables.find_token", lambda: "hf_secret")
    begin(session(), **LIBRARY)
    assert environment["HF_TOKEN"] == "hf_secret"
    assert "hf_secret" not in capsys.readouterr().out + (kaggle_root / "working" / "session.json").read_text()


def test_a_secret_that_is_not_attached_is_no_error():
    class WithoutSecrets:
        def get_secret(self, name):
            raise RuntimeError("No user secrets exist")

    class WithSecrets:
        def get_secret(self, name):
            return f"of {name}"

    assert find_token(WithoutSecrets) is None
    assert find_token(WithSecrets) == "of HF_TOKEN"
    assert find_token() is None, "kaggle_secrets is on Kaggle only"


@pytest.mark.parametrize(
    ("accelerator", "cards"),
    [("NvidiaTeslaT4", ["Tesla T4", "Tesla T4"]), (None, []), (None, ["Tesla T4"]), ("TpuV5E8", [])],
)
def test_a_card_that_was_asked_for(accelerator, cards):
    check_card(accelerator, cards)


@pytest.mark.parametrize(
    ("accelerator", "cards", "found"),
    [
        ("NvidiaTeslaT4", [], "a CPU"),
        ("NvidiaTeslaT4", ["Tesla P100-PCIE-16GB"], "Tesla P100"),
        ("NvidiaL4", ["Tesla T4"], "Tesla T4"),
    ],
)
def test_another_card_ends_the_session_before_it_costs_hours(accelerator, cards, found):
    with pytest.raises(UserError, match=f"runs on {found}.*{accelerator}.*was asked for"):
        check_card(accelerator, cards)


def test_a_session_without_its_card_ends_and_leaves_what_it_found(environment, kaggle_root):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    with pytest.raises(UserError, match="runs on a CPU, but NvidiaTeslaT4"):
        begin(session(accelerator="NvidiaTeslaT4"), **LIBRARY)
    assert json.loads((kaggle_root / "working" / "session.json").read_text())["cards"] == []


@pytest.fixture
def tpu_image(tmp_path, monkeypatch, pip):
    """An image with torch_xla and with a package that is too old for JAX, and a pip that takes torch_xla away."""
    image = tmp_path / "image"
    pip.removes = pretend_installed(image, "torch_xla", "2.8.0")
    pretend_installed(image, "old-kit", "1.26.4")
    monkeypatch.syspath_prepend(image)
    return image


def test_a_tpu_session_loses_torch_xla_then_gets_what_all_need_then_its_own(
    environment, kaggle_root, tpu_image, pip, monkeypatch, capsys
):
    def find_and_note():
        pip.commands.append(["torch is imported"])
        return find_machine()

    monkeypatch.setattr("fintune_kit.kaggle.session.begin.find_machine", find_and_note)
    begin(session(**TPU), **LIBRARY)
    uninstall, ordinary, own, after = pip.commands
    assert uninstall[3:] == ["uninstall", "--quiet", "--disable-pip-version-check", "--yes", "torch_xla"]
    assert (ordinary[3], ordinary[-1], "--no-deps" in ordinary) == ("install", "no-such-kit==1", False)
    assert own[3] == "install"
    assert own[-4:] == ["--no-deps", "--force-reinstall", "no-such-jax==2", "old-kit>=2.1"]
    assert "newer-packages" not in environment.get("PYTHONPATH", "")
    assert pip.constraints.splitlines()[-1] == "old-kit==2.4.6"
    assert after == ["torch is imported"]
    assert "torch_xla 2.8.0 was uninstalled, because it takes the TPU for itself" in capsys.readouterr().out


def test_a_tpu_session_without_internet_gets_all_from_attached_wheels(environment, kaggle_root, tpu_image, pip):
    wheels = attach(kaggle_root, "datasets/bob/wheels")
    (wheels / "no_such_jax-2-py3-none-any.whl").write_bytes(b"")
    begin(session(**TPU, internet=False, dataset_sources=["bob/wheels"]), **LIBRARY)
    _, *installs = pip.commands
    assert len(installs) == 2
    for command in installs:
        assert "--no-index" in command
        assert command[command.index("--find-links") + 1] == str(wheels)


def test_a_tpu_session_that_has_all_starts_no_pip(environment, kaggle_root, tpu_image, pip):
    for folder in tpu_image.iterdir():
        folder.rename(tpu_image.parent / folder.name)
    pretend_installed(tpu_image, "no-such-jax", "2")
    pretend_installed(tpu_image, "old-kit", "2.1")
    begin(session(**TPU | {"requirements": ["numpy>=1"]}), **LIBRARY)
    assert pip.commands == []


def test_a_tpu_session_gives_a_newer_numpy_to_the_training_where_this_process_has_loaded_another(
    environment, kaggle_root, tpu_image, pip, capsys
):
    import numpy

    environment["PYTHONPATH"] = "/library"
    packages = {"requirements": [f"numpy>{numpy.__version__}"], "constraints": []}
    begin(session(**TPU | {"requirements": ["numpy>=1"], "tpu_packages": packages}), **LIBRARY)
    beside = str(kaggle_root / "temp" / "newer-packages")
    assert pip.command[pip.command.index("--target") + 1] == beside
    assert environment["PYTHONPATH"] == f"{beside}:/library"
    assert beside not in sys.path
    assert "used by the training; this notebook keeps the version that it has loaded" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "goes"), [("0.10.0", True), ("0.16.0", False)])
def test_a_torchao_that_peft_refuses_goes(environment, kaggle_root, tmp_path, monkeypatch, pip, capsys, version, goes):
    pip.removes = pretend_installed(tmp_path / "image", "torchao", version)
    monkeypatch.syspath_prepend(tmp_path / "image")
    begin(session(), **LIBRARY)
    assert ["uninstall" in command for command in pip.commands] == [True] * goes
    said = "torchao 0.10.0 was uninstalled, because peft stops beside an older one"
    assert (said in capsys.readouterr().out) == goes


def test_peft_still_stops_beside_a_torchao_that_is_older_than_we_say():
    """Else there would be no reason to uninstall it."""
    source = inspect.getsource(peft.import_utils.is_torchao_available)
    assert 'TORCHAO_MINIMUM_VERSION = packaging.version.parse("0.16.0")' in source
    assert "raise ImportError" in source


def test_a_session_without_a_tpu_leaves_torch_xla_alone(environment, kaggle_root, tpu_image, pip):
    begin(session(requirements=["numpy>=1"]), **LIBRARY)
    assert pip.commands == []


def test_what_pip_may_replace_is_not_imported_before():
    code = "import sys, fintune_kit.kaggle.session.begin; print({'torch', 'jax', 'numpy', 'google'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_torch_is_replaced_only_where_it_cannot_run():
    assert torch_for([((7, 5), "Tesla T4")], CU128, version="2.11") is None
    assert torch_for([((8, 9), "L4")], CU128, version="2.11") is None
    assert torch_for([], CU128, version="2.11") is None
    assert torch_for([((6, 0), "Tesla P100")], CU128, version="2.11") == "torch==2.7.1"
    with pytest.raises(UserError, match=r"Tesla V999 is sm_120, but PyTorch 2\.11 has kernels only for"):
        torch_for([((12, 0), "Tesla V999")], CU128, version="2.11")


def test_the_end_says_how_large_the_output_is(environment, kaggle_root, capsys):
    (kaggle_root / "working" / "x").write_bytes(b"x" * 20_000_000)
    end()
    assert capsys.readouterr().out == "output: 0.02 of 19.50 GB\n"
