import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.plan.memory import Recompute, bytes_a_position
from fintune_kit.plan.shapes import ModelShape
from fintune_kit.recipes import LoraRecipe
from fintune_kit.train.attention import TREE_ATTENTION
from fintune_kit.train.loss import enable_packs
from fintune_kit.train.recompute import blocks_of, recompute_blocks, recompute_cheap_parts

LORA = LoraRecipe(rank=8, alpha=16, dropout=0.1)


def make(*, recompute: Recompute, layers: int = 2, targets=LORA.target_modules):
    """A small Qwen2 with an adapter whose both matrices are random, so that each gradient says something."""
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        tie_word_embeddings=True,
        attn_implementation=TREE_ATTENTION,
    )
    torch.manual_seed(0)
    base = Qwen2ForCausalLM(config).requires_grad_(False)
    enable_packs(base)
    lora = LoraConfig(r=LORA.rank, lora_alpha=16, lora_dropout=LORA.dropout, target_modules=list(targets))
    model = get_peft_model(base, lora).train()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    if recompute.cheap_parts:
        recompute_cheap_parts(model)
    recompute_blocks(blocks_of(model), recompute.blocks)
    return model


def packs(length: int = 64) -> dict[str, torch.Tensor]:
    position = torch.arange(length)[None]
    labels = torch.where(position % 3 == 0, position % 64, -100)
    return {
        "input_ids": position * 7 % 64,
        "position_ids": position % 16,
        "subtree_end": (position // 16 + 1) * 16,
        "shift_labels": labels,
    }


def loss_and_gradients(model) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    loss = model(**packs()).loss
    loss.backward()
    found = {n.replace("lora_", ""): p.grad for n, p in model.named_parameters() if p.requires_grad}
    return {"loss": loss.detach(), **found}


ALL = [Recompute(cheap_parts=True), Recompute(blocks=1), Recompute(cheap_parts=True, blocks=2)]


@pytest.mark.parametrize("recompute", ALL, ids=Recompute.describe)
def test_losses_are_the_same_bits_and_gradients_the_same_sums_dropout_included(recompute):
    expected = loss_and_gradients(make(recompute=Recompute()))
    found = loss_and_gradients(make(recompute=recompute))
    assert len(expected) == 1 + 2 * 7 * 2
    assert torch.equal(found["loss"], expected["loss"])
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 2e-6 * value.norm(), name


def test_dropout_is_off_in_evaluation():
    plain, cheap = (make(recompute=r).eval() for r in (Recompute(), Recompute(cheap_parts=True)))
    with torch.no_grad():
        assert torch.equal(plain(**packs()).loss, cheap(**packs()).loss)


def test_the_names_in_the_adapter_file_stay(tmp_path):
    names = [sorted(make(recompute=r).state_dict()) for r in (Recompute(), Recompute(cheap_parts=True, blocks=1))]
    assert names[0] == names[1]


def test_a_last_projection_without_adapter_is_left_to_itself():
    targets = ("q_proj", "up_proj")
    expected = loss_and_gradients(make(recompute=Recompute(), targets=targets))
    found = loss_and_gradients(make(recompute=Recompute(cheap_parts=True), targets=targets))
    assert torch.equal(found["loss"], expected["loss"])


def kept_bytes(*, recompute: Recompute, length: int) -> float:
    """What one more block keeps of one position after the forward pass, by PyTorch's own count."""
    live = []
    for layers in (1, 2):
        whole = Recompute(cheap_parts=recompute.cheap_parts, blocks=layers if recompute.blocks else 0)
        model = make(recompute=whole, layers=layers)
        assert len(blocks_of(model)) == layers
        batch = packs(length)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            loss = model(**batch).loss
        live.append(sum(event.self_cpu_memory_usage for event in recorded.events()))
        del loss
    return (live[1] - live[0]) / length


@pytest.mark.parametrize("recompute", [Recompute(), Recompute(cheap_parts=True)], ids=Recompute.describe)
def test_the_planner_counts_what_is_really_kept(recompute):
    shape = ModelShape.of(make(recompute=Recompute()).config)
    predicted = bytes_a_position(shape, lora=LORA, width=4, cheap_parts=recompute.cheap_parts, keys=256)
    assert kept_bytes(recompute=recompute, length=256) == pytest.approx(predicted, rel=0.06)


def test_a_whole_block_keeps_its_input_only():
    kept = kept_bytes(recompute=Recompute(cheap_parts=True, blocks=1), length=256)
    states_of_the_random_generator = 8 * 5056 / 256
    assert kept == pytest.approx(4 * 128 + states_of_the_random_generator, rel=0.02)
