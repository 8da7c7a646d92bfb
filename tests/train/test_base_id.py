"""An adapter names its base so that others can load it, and never by a path of this machine."""

import json
from pathlib import Path

import pytest

from fintune_kit.errors import UserError
from fintune_kit.train.base_id import base_id, is_hub_id

QWEN_3B = {"hidden_size": 2048, "num_hidden_layers": 36}


def model(folder: Path, config: dict | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or QWEN_3B))
    return folder


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("hub/models--Qwen--Qwen2.5-3B-Instruct/snapshots/aa8e7253", "Qwen/Qwen2.5-3B-Instruct"),
        ("hub/models--me--my-model/snapshots/1", "me/my-model"),
        ("kaggle/input/models/qwen-lm/qwen2.5/transformers/3b-instruct/1", "Qwen/Qwen2.5-3B-Instruct"),
        ("kaggle/input/qwen2.5/Transformers/3b-instruct/1", "Qwen/Qwen2.5-3B-Instruct"),
        ("models/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct"),
        ("models/qwen2.5-coder-3b-instruct", "Qwen/Qwen2.5-Coder-3B-Instruct"),
        ("models/Qwen2.5-3B", "Qwen/Qwen2.5-3B"),
        ("models/my-own-tune", "my-own-tune"),
        ("models/my-own-tune/7", "my-own-tune"),
    ],
)
def test_a_folder_is_named_by_the_model_that_it_holds(tmp_path: Path, path: str, wanted: str) -> None:
    assert base_id(model(tmp_path / path)) == wanted


def test_qwen3_has_names_of_its_own(tmp_path: Path) -> None:
    folder = model(tmp_path / "Qwen3-4B-Instruct-2507", {"hidden_size": 2560, "num_hidden_layers": 36})
    assert base_id(folder) == "Qwen/Qwen3-4B-Instruct-2507"


def test_a_name_whose_config_is_another_models_is_not_believed(tmp_path: Path) -> None:
    folder = model(tmp_path / "Qwen2.5-3B-Instruct", {"hidden_size": 896, "num_hidden_layers": 24})
    assert base_id(folder) == "Qwen2.5-3B-Instruct"
    assert not is_hub_id(base_id(folder))


def test_a_config_alone_names_no_model(tmp_path: Path) -> None:
    assert base_id(model(tmp_path / "qwen")) == "qwen"


def test_a_link_gives_a_model_without_a_known_name_its_own(tmp_path: Path) -> None:
    mount = model(tmp_path / "input" / "my-qwen" / "transformers" / "small" / "1")
    assert base_id(mount) == "small"
    (tmp_path / "my-qwen-small").symlink_to(mount)
    assert base_id(tmp_path / "my-qwen-small") == "my-qwen-small"


def test_a_hub_id_stays_as_it_is() -> None:
    assert base_id("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"
    assert is_hub_id("Qwen/Qwen2.5-3B-Instruct")
    assert not is_hub_id("base")


def test_the_user_can_say_which_model_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINTUNE_BASE_ID", "me/mine")
    assert base_id(model(tmp_path / "qwen")) == "me/mine"
    monkeypatch.setenv("FINTUNE_BASE_ID", "/home/me/model")
    with pytest.raises(UserError, match="FINTUNE_BASE_ID is '/home/me/model'; expected a hub id"):
        base_id(tmp_path)
