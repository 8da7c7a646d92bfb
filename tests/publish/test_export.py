import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fintune_kit.errors import UserError
from fintune_kit.publish import measure as measuring
from fintune_kit.publish import merge as merging
from fintune_kit.publish import quantizer
from fintune_kit.publish.export import export
from fintune_kit.train.model import load_adapter, load_base
from fintune_kit.workspace import Workspace
from tests.evaluate.world import World


def run(world: World, out: Path, **changes: object) -> dict:
    values = {"base": world.base, "max_questions": 24, **changes}
    return export(world.recipe, Workspace(world.adapter.parent), out=out, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def merged(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "merged"
    export(world.recipe, Workspace(world.adapter.parent), base=world.base, out=out, dtype="float32")
    return out


def test_the_merged_model_is_the_quantized_base_with_its_adapter(world: World, merged: Path) -> None:
    ids = torch.arange(100, 140)[None]
    base = load_base(world.base, dtype="float32", quantization="nf4", device="cpu")
    plain = base(input_ids=ids).logits
    tuned = load_adapter(base, world.adapter).eval()(input_ids=ids).logits
    alone = AutoModelForCausalLM.from_pretrained(merged)(input_ids=ids).logits
    assert (plain - tuned).abs().max() > 0.1, "an adapter without effect could be left out unseen"
    torch.testing.assert_close(alone, tuned, rtol=0, atol=2e-4)


def test_what_was_measured_stands_in_the_manifest_and_the_card(merged: Path) -> None:
    record = json.loads((merged / "manifest.json").read_text())
    assert list(record["measured"]) == ["nf4 + adapter", "16-bit + adapter", "export"]
    reference, other, written = record["measured"].values()
    assert reference["changed"] == 0
    assert written["loss"] == pytest.approx(reference["loss"], rel=1e-4)
    assert abs(other["loss"] - reference["loss"]) > 1e-4, "equal bases could not be told apart"
    assert record["good"]
    assert record["verdict"].startswith("Good: 0.0 % of the choices differ")
    assert f"| export | {written['loss']:.4f} | 0.0 % |" in (merged / "README.md").read_text()


def test_an_export_that_chooses_otherwise_is_not_called_good(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MAX_CHANGED", -1.0)
    record = run(world, tmp_path / "out", dtype="float32", max_questions=12)
    assert record["good"] is False
    assert record["verdict"].startswith("Not good: 0.0 % of the choices differ")
    assert "--merge-base" in record["verdict"]


def test_the_original_weights_can_be_merged_into(world: World, merged: Path, tmp_path: Path) -> None:
    record = run(world, tmp_path / "out", dtype="float32", merge_base="16bit")
    measured = record["measured"]
    assert measured["export"]["loss"] == pytest.approx(measured["16-bit + adapter"]["loss"], rel=1e-4)
    first, second = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (merged, tmp_path / "out"))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (first[name] - second[name]).abs().max() > 1e-3


def test_older_readers_find_their_spelling_of_the_config(merged: Path) -> None:
    config = json.loads((merged / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["torch_dtype"] == config["dtype"] == "float32"
    tokenizer = json.loads((merged / "tokenizer_config.json").read_text())
    assert not isinstance(tokenizer.get("extra_special_tokens"), list)
    assert not {"is_local", "local_files_only", "name_or_path"} & set(tokenizer)
    assert tokenizer["added_tokens_decoder"]
    generation = json.loads((merged / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    assert len(generation["eos_token_id"]) == 2


def test_an_adapter_without_its_data_is_measured_on_general_questions(world: World, tmp_path: Path) -> None:
    adapter = tmp_path / "foreign"
    shutil.copytree(world.adapter, adapter)
    (adapter / "manifest.json").unlink()
    record = export(
        world.recipe, Workspace(tmp_path), base=world.base, adapter=adapter, out=tmp_path / "out", dtype="float32",
        max_questions=30,
    )  # fmt: skip
    assert record["questions"] == 30
    assert record["measured"]["export"]["loss"] is None
    assert record["good"]


def test_ollama_gets_the_prompt_of_the_training(world: World, tmp_path: Path) -> None:
    run(world, tmp_path / "out", form="q8_0", max_questions=0)
    (file,) = (tmp_path / "out").glob("*.gguf")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith(f"FROM ./{file.name}\n")
    assert 'SYSTEM """You are Qwen, created by Alibaba Cloud. You are a helpful assistant."""' in text
    assert 'PARAMETER stop "<|im_end|>"' in text


def test_without_llamas_quantizer_the_small_types_say_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer.shutil, "which", lambda _name: None)
    monkeypatch.setattr(quantizer.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"made by llama\.cpp's quantizer, and none was found; .* or choose q8_0"):
        run(world, tmp_path / "out", form="q4_k_m")


def test_a_large_model_is_written_in_shards_with_an_index(
    world: World, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "SHARD_BYTES", 100_000)
    run(world, tmp_path / "out", dtype="float32")
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2
    ids = torch.arange(100, 120)[None]
    whole, shards = (
        AutoModelForCausalLM.from_pretrained(path)(input_ids=ids).logits for path in (merged, tmp_path / "out")
    )
    torch.testing.assert_close(whole, shards)


@pytest.mark.parametrize(("form", "error"), [("f16", 2e-3), ("q8_0", 1e-2)])
def test_a_gguf_file_holds_the_merged_weights_and_the_tokenizer(
    world: World, merged: Path, tmp_path: Path, form: str, error: float
) -> None:
    record = run(world, tmp_path / "out", form=form)
    (name,) = (name for name in record["files"] if name.endswith(".gguf"))
    assert set(record["files"]) == {name, "Modelfile", "README.md"}
    assert record["measured"]["export"]["loss"] == pytest.approx(record["measured"]["nf4 + adapter"]["loss"], rel=0.02)
    reader = gguf.GGUFReader(tmp_path / "out" / name)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    weights = AutoModelForCausalLM.from_pretrained(merged).state_dict()
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.1.attn_k.weight": "model.layers.1.self_attn.k_proj.weight",
        "blk.1.attn_k.bias": "model.layers.1.self_attn.k_proj.bias",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    for ours, theirs in pairs.items():
        found = gguf.dequantize(tensors[ours].data, tensors[ours].tensor_type)
        wanted = weights[theirs].numpy()
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=error * np.abs(wanted).max())
    assert len(tensors) == len(weights) - 1  # tied: the head is the embedding
    tokens = [
        bytes(reader.fields["tokenizer.ggml.tokens"].parts[i]).decode()
        for i in reader.fields["tokenizer.ggml.tokens"].data
    ]
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert len(tokens) == 704
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert reader.fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert reader.fields["general.architecture"].contents() == "qwen2"


@pytest.mark.parametrize(("flag", "value"), [("form", "q4_k"), ("dtype", "half"), ("merge_base", "8bit")])
def test_an_unknown_name_is_refused_before_anything_is_loaded(
    world: World, tmp_path: Path, flag: str, value: str
) -> None:
    with pytest.raises(UserError, match=f"there is no {flag.replace('_', '-')} '{value}'; expected one of"):
        export(world.recipe, Workspace(tmp_path), base=tmp_path, adapter=tmp_path, out=tmp_path / "o", **{flag: value})  # type: ignore[arg-type]
