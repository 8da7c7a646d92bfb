import torch

from fintune_kit.train.model import load_base


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
