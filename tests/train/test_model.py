import json
import os
import subprocess
import sys

import pytest
import torch

from fintune_kit.errors import UserError
from fintune_kit.train.model import choose_kernels, load_base, load_config


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_text", "qwen3_next"])
def test_a_hybrid_model_is_refused_with_the_reason(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UserError, match=f"is a {kind} model, whose linear-attention layers carry a state .*; expected"):
        load_config(tmp_path)


def test_another_dense_model_is_refused_without_that_reason(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="is a llama model; expected one of qwen2, qwen3"):
        load_config(tmp_path)


def test_evaluating_a_4_bit_model_on_a_cpu_leaves_its_weights_as_they_are(make_model, tmp_path, monkeypatch):
    """bitsandbytes would lay them anew on a CPU with AVX512-BF16, which any CPU is taken for here."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    make_model().save_pretrained(tmp_path)
    base = load_base(tmp_path, dtype="float32", quantization="nf4", device="cpu")
    ids = torch.arange(12)[None]
    kept = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    assert {str(parameter.dtype) for parameter in kept.values()} == {"torch.uint8", "torch.float32"}
    with torch.no_grad():
        trained, evaluated = base.train()(input_ids=ids).logits, base.eval()(input_ids=ids).logits
    assert torch.equal(trained, evaluated)
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter, kept[name]), name


def test_training_leaves_cudnn_attention_and_short_sums_out():
    """The state is PyTorch's, for the whole process; the test puts it back."""
    matmul = torch.backends.cuda.matmul
    names = ("reduced_precision_reduction", "accumulation")
    torch.backends.cuda.enable_cudnn_sdp(True)
    matmul.allow_fp16_reduced_precision_reduction = True
    try:
        choose_kernels(half_accumulation=False)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert [getattr(matmul, f"allow_fp16_{name}") for name in names] == [False, False]
        choose_kernels(half_accumulation=True)
        assert [getattr(matmul, f"allow_fp16_{name}") for name in names] == [True, True]
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)
        matmul.allow_fp16_accumulation = False


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_a_config_that_asks_for_code_from_the_hub_is_refused(make_model, tmp_path, monkeypatch, name):
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    loaded = []
    monkeypatch.setattr(
        "transformers.integrations.hub_kernels.load_and_register_attn_kernel", lambda *a, **_k: loaded.append(a)
    )
    (tmp_path / "config.json").write_text(json.dumps({**config, name: "sdpa"}))
    load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, name: "someone/kernel"}))
    with pytest.raises(
        UserError, match=r"asks for code from the hub \(attn_implementation 'someone/kernel'\); expected"
    ):
        load_base(tmp_path, dtype="float32", quantization="none", device="cpu")
    assert loaded == []


@pytest.mark.parametrize("damage", ["cut", "other sizes", "no weights"])
def test_a_base_that_cannot_be_loaded_is_one_sentence(make_model, tmp_path, damage):
    make_model().save_pretrained(tmp_path)
    weights, path = tmp_path / "model.safetensors", tmp_path / "config.json"
    config = json.loads(path.read_text())
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "other sizes":
        path.write_text(json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))
    else:
        weights.unlink()
    with pytest.raises(
        UserError, match=f"the weights of .*{tmp_path.name}.* could not be loaded|no model was found at"
    ):
        load_base(tmp_path, dtype="float32", quantization="none", device="cpu")


SAVE_A_CONFIG = """
import sys
from fintune_kit.recipes import named_recipe
from fintune_kit.train.model import peft_config

lora = named_recipe("p100").lora
peft_config(lora).save_pretrained(sys.argv[1])
print(list(set(lora.target_modules)))
"""


def test_an_adapter_config_has_the_same_bytes_in_every_process(tmp_path):
    written, orders = [], []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SAVE_A_CONFIG, str(tmp_path / seed)]
        orders.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        written.append((tmp_path / seed / "adapter_config.json").read_bytes())
    assert orders[0] != orders[1], "sets in one order could not tell the two apart"
    assert written[0] == written[1]
    modules = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert json.loads(written[0])["target_modules"] == modules
