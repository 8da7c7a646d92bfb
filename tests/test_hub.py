"""A hub id on a machine that reaches no hub."""

import pytest

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.errors import UserError
from fintune_kit.hub import find_hub_fault
from fintune_kit.train.model import load_config


@pytest.fixture
def asked(monkeypatch):
    """The addresses that were asked for. None answers, and the libraries are not called, which would ask five times."""
    addresses = []

    def _refuse(url, **_more):
        addresses.append(url)
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", _refuse)
    for name in ("AutoConfig", "AutoTokenizer"):
        monkeypatch.setattr(
            f"transformers.{name}.from_pretrained", lambda *_a, **_k: pytest.fail("the hub is asked again")
        )
    return addresses


@pytest.mark.parametrize(
    ("load", "file", "sentence"),
    [
        (
            load_config,
            "config.json",
            r"no model was found at 'someone/model' \(no route to host\); expected a hub id or",
        ),
        (
            ChatEncoder.load,
            "tokenizer_config.json",
            r"no tokenizer .* 'someone/model' \(no route to host\); expected a",
        ),
    ],
)
def test_without_a_network_the_hub_is_asked_once(asked, load, file, sentence):
    with pytest.raises(UserError, match=sentence):
        load("someone/model")
    assert [url.rpartition("/")[2] for url in asked] == [file]


def test_what_lies_here_is_not_looked_for_on_the_hub(asked, tmp_path, monkeypatch):
    assert find_hub_fault(tmp_path, file="config.json") is None
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _id, file: str(tmp_path / file))
    assert find_hub_fault("someone/cached", file="config.json") is None
    assert asked == []


def test_a_name_that_no_repository_has_is_a_fault():
    assert find_hub_fault("a/b/c/d", file="config.json")
