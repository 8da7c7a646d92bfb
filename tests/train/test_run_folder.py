import json

import pytest

from fintune_kit.train.run_folder import base_identity


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "one" / "small-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 64}))
    (folder / "model.safetensors").write_bytes(b"12345678")
    return folder


def test_the_same_model_under_another_name_is_the_same_base(base):
    before = base_identity(base)
    moved = base.rename(base.parent / "1")
    assert base_identity(moved) == before


def test_another_config_or_other_weights_are_another_base(base):
    before = base_identity(base)
    (base / "model.safetensors").write_bytes(b"123456789")
    longer = base_identity(base)
    (base / "config.json").write_text(json.dumps({"hidden_size": 65}))
    assert len({before, longer, base_identity(base)}) == 3


def test_a_hub_id_stays_as_it_is():
    assert base_identity("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"
