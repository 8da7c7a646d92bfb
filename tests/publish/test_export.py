import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fintune_kit.errors import UserError
from fintune_kit.publish import export as exporting
from fintune_kit.publish.export import export
from fintune_kit.train.model import load_adapter, load_base
from tests.evaluate.world import World


@pytest.fixture(scope="module")
def merged(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "merged"
    export(world.recipe, base=world.base, adapter=world.adapter, out=out, dtype="float32")
    return out


def test_the_merged_model_is_the_quantized_base_with_its_adapter(world: World, merged: Path) -> None:
    ids = torch.arange(100, 140)[None]
    base = load_base(world.base, dtype="float32", quantization="nf4", device="cpu")
    plain = base(input_ids=ids).logits
    tuned = load_adapter(base, world.adapter).eval()(input_ids=ids).logits
    alone = AutoModelForCausalLM.from_pretrained(merged)(input_ids=ids).logits
    assert (plain - tuned).abs().max() > 0.1, "an adapter without effect could be left out unseen"
    torch.testing.assert_close(alone, tuned, rtol=0, atol=2e-4)


def test_the_parity_of_the_logits_is_stated(merged: Path) -> None:
    record = json.loads((merged / "manifest.json").read_text())
    assert record["parity"]["largest_difference"] < 1e-3 < record["parity"]["largest_logit"]
    assert record["parity"]["same_next_token"] == 1.0


def test_a_large_model_is_written_in_shards_with_an_index(
    world: World, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SHARD_BYTES", 100_000)
    export(world.recipe, base=world.base, adapter=world.adapter, out=tmp_path / "out", dtype="float32")
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
    record = export(world.recipe, base=world.base, adapter=world.adapter, out=tmp_path / "out", form=form)  # type: ignore[arg-type]
    (name,) = record["files"]
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


def test_an_unknown_form_is_refused_before_anything_is_loaded(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no form 'q4_k'; expected one of safetensors, f16, q8_0"):
        export(world.recipe, base=tmp_path, adapter=tmp_path, out=tmp_path / "out", form="q4_k")  # type: ignore[arg-type]
