"""The claim that carries the project: packs give the loss and the gradients of each example alone."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.examples import Example, Examples
from fintune_kit.pack.drawing import stretches
from fintune_kit.pack.tree import arrange, write_columns
from fintune_kit.train.attention import tree_mask
from tests.pack.world import GROWING, THREE_LEVELS, examples

EXACT = {"rtol": 1e-9, "atol": 1e-12}
Columns = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads cost these few tokens more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def softmax_in_double(monkeypatch):
    """Eager attention takes its softmax in float32 whatever the model's dtype; here it keeps to float64."""
    softmax = F.softmax
    monkeypatch.setattr(F, "softmax", lambda scores, dim, dtype: softmax(scores, dim=dim, dtype=scores.dtype))  # noqa: ARG005


def make_model(*, attention: str = "sdpa", dtype: torch.dtype = torch.float64) -> Qwen2ForCausalLM:
    """A random Qwen2 of three layers with grouped-query attention, four heads on two.

    In float64 its norms are PyTorch's: those of transformers compute in float32 whatever the dtype, and would blur
    the comparison at 1e-8.
    """
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(dtype)
    if dtype is torch.float64:
        for layer in model.model.layers:
            layer.input_layernorm = torch.nn.RMSNorm(64, eps=config.rms_norm_eps, dtype=dtype)
            layer.post_attention_layernorm = torch.nn.RMSNorm(64, eps=config.rms_norm_eps, dtype=dtype)
        model.model.norm = torch.nn.RMSNorm(64, eps=config.rms_norm_eps, dtype=dtype)
    return model


def with_lora(model: Qwen2ForCausalLM) -> Any:
    from peft import LoraConfig, get_peft_model

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=names))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero at the start: the gradient of lora_A would be zero too, and show nothing
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted.to(model.dtype)


SOME = Examples.concatenate([examples(*THREE_LEVELS), GROWING])


def packs(*, max_length: int = 30, **shares: bool) -> Columns:
    arrangement = arrange(SOME, max_length=max_length, seed=3, **shares)
    assert len(arrangement) > 1, "one pack could not tell a sum over packs from a mean"
    columns = write_columns(SOME, arrangement, first=0, last=len(arrangement), max_length=max_length, pad_id=0)
    return {name: torch.from_numpy(column).long() for name, column in columns.items()}


def packed_loss(model: Any, columns: Columns, *, use_cache: bool = False) -> torch.Tensor:
    allowed = tree_mask(columns["subtree_end"])
    if model.config._attn_implementation == "eager":
        allowed = torch.zeros(allowed.shape, dtype=model.dtype).masked_fill(~allowed, -math.inf)
    output = model(
        input_ids=columns["input_ids"],
        position_ids=columns["position_ids"],
        attention_mask=allowed,
        use_cache=use_cache,
    )
    return weighted_loss(output.logits, columns)


def weighted_loss(logits: torch.Tensor, columns: Columns) -> torch.Tensor:
    losses = F.cross_entropy(logits.flatten(0, 1), columns["shift_labels"].flatten(), reduction="none")
    return (losses * columns["loss_weight"].flatten()).sum()


def loss_of_each_alone(model: Any, some: Examples = SOME) -> torch.Tensor:
    total = torch.zeros((), dtype=model.dtype)
    for index in range(len(some)):
        tokens = torch.from_numpy(some[index].tokens).long()
        supervised = torch.from_numpy(some[index].supervised)[1:]
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1]
        total = total + F.cross_entropy(logits[supervised], tokens[1:][supervised], reduction="sum")
    return total


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_to_each_alone(model: Any, columns: Columns, **tolerance: float) -> None:
    expected_loss = loss_of_each_alone(model)
    expected = gradients(model, expected_loss)
    loss = packed_loss(model, columns)
    found = gradients(model, loss)
    torch.testing.assert_close(loss, expected_loss, **tolerance)
    assert expected.keys() == found.keys()
    assert sum(bool(gradient.abs().max() > 1e-3) for gradient in expected.values()) > 20, "zeros would prove nothing"
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=tolerance["rtol"], atol=tolerance["rtol"] * scale)


@pytest.mark.usefixtures("softmax_in_double")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("adapters", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_and_gradients_of_packs_are_those_of_each_example_alone(attention, adapters, training):
    model = make_model(attention=attention)
    model = (with_lora(model) if adapters else model).train(training)
    assert_equal_to_each_alone(model, packs(), **EXACT)


@pytest.mark.parametrize("adapters", [False, True], ids=["whole", "lora"])
def test_with_activation_checkpointing_they_still_are(adapters):
    model = make_model()
    calls = 0

    def counted(function: Callable[..., Any], *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)

    for layer in model.model.layers:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = True, counted
    model = (with_lora(model) if adapters else model).train()
    assert_equal_to_each_alone(model, packs(), **EXACT)
    assert calls >= 3 * (len(SOME) + 1), "every layer of every pass is checkpointed"


@pytest.mark.parametrize("shares", [{"share_prefixes": False}, {"share_answers": False}])
def test_packs_that_share_less_give_the_same_loss_and_gradients(shares):
    assert_equal_to_each_alone(make_model(), packs(**shares), **EXACT)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(1, 2), st.booleans()), min_size=2, max_size=8), min_size=2, max_size=12
    )
)
def test_loss_and_gradients_of_random_trees_are_those_of_each_example_alone(rows):
    some = Examples.of(
        [Example(np.array([t for t, _ in row], np.int32), np.array([s for _, s in row])) for row in rows]
    )
    arrangement = arrange(some, max_length=12, seed=0)
    columns = write_columns(some, arrangement, first=0, last=len(arrangement), max_length=12, pad_id=0)
    model = make_model()
    expected_loss = loss_of_each_alone(model, some)
    loss = packed_loss(model, {name: torch.from_numpy(column).long() for name, column in columns.items()})
    torch.testing.assert_close(loss, expected_loss, **EXACT)
    if columns["loss_weight"].any():
        expected, found = gradients(model, expected_loss), gradients(model, loss)
        for name, gradient in expected.items():
            scale = max(float(gradient.abs().max()), 1e-3)  # a token that sees itself alone gives queries none
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9 * scale)


def test_in_float32_they_agree_to_rounding():
    assert_equal_to_each_alone(make_model(dtype=torch.float32), packs(), rtol=1e-5, atol=1e-5)


def test_the_packs_of_these_tests_share_three_levels_deep_and_answers():
    weights = packs()["loss_weight"]
    assert weights.max() >= 4, "no answer is shared"
    assert weights.sum() == SOME.supervised.sum()
    shared, plain = packs(), packs(share_prefixes=False)
    assert (shared["input_ids"] == 10).sum() < (plain["input_ids"] == 10).sum(), "no report is shared"
    rows = [{name: column[row].numpy() for name, column in shared.items()} for row in range(len(shared["input_ids"]))]
    assert max(stretch.level for row in rows for stretch in stretches(row)) >= 3, "system, report, question, own"


def mask_off_by_one(columns: Columns) -> Columns:
    return {**columns, "subtree_end": columns["subtree_end"] + (columns["input_ids"] != 0).long()}


def mask_too_short(columns: Columns) -> Columns:
    """By two: the last token of an example predicts nothing, so nobody misses what it does not see."""
    position = torch.arange(columns["subtree_end"].shape[1])
    return {**columns, "subtree_end": torch.maximum(columns["subtree_end"] - 2, position + 1)}


def mask_ends_at_the_pack(columns: Columns) -> Columns:
    return {**columns, "subtree_end": torch.full_like(columns["subtree_end"], columns["subtree_end"].shape[1])}


def positions_not_restarting(columns: Columns) -> Columns:
    return {
        **columns,
        "position_ids": torch.arange(columns["position_ids"].shape[1]).expand_as(columns["position_ids"]),
    }


def branches_restarting_at_zero(columns: Columns) -> Columns:
    depths = columns["position_ids"].clone()
    branches = (depths[:, 1:] > 0) & (depths[:, 1:] <= depths[:, :-1])
    depths[:, 1:][branches] = 0
    return {**columns, "position_ids": depths}


def label_across_a_branch(columns: Columns) -> Columns:
    """The last token of an example predicts the first of the branch after it, as shifting a packed row would do."""
    depths, labels = columns["position_ids"], columns["shift_labels"].clone()
    branches = (depths[:, 1:] > 0) & (depths[:, 1:] <= depths[:, :-1])
    assert branches.any(), "no pack has a branch"
    labels[:, :-1][branches] = columns["input_ids"][:, 1:][branches]
    return {**columns, "shift_labels": labels, "loss_weight": (labels >= 0).long().maximum(columns["loss_weight"])}


def branch_one_token_late(columns: Columns) -> Columns:
    """The position before two answers is shared, and the label of the second one is lost."""
    with pytest.MonkeyPatch.context() as patch:
        from fintune_kit.pack.prefixes import shared_with_previous

        def one_more(some: Examples, shareable: Any, order: Any) -> Any:
            shared, most = shared_with_previous(some, shareable, order), shareable[order]
            return np.where(shared > 0, np.minimum(shared + 1, np.minimum(most, np.roll(most, 1))), 0)

        patch.setattr("fintune_kit.pack.tree.shared_with_previous", one_more)
        return packs()


def weight_lost(columns: Columns) -> Columns:
    return {**columns, "loss_weight": columns["loss_weight"].clamp(max=1)}


def weight_of_a_branch(columns: Columns) -> Columns:
    """An answer counts as often as the first branch after it, which fewer examples continue."""
    weights = columns["loss_weight"].clone()
    assert weights.max() > 1
    return {**columns, "loss_weight": torch.where(weights > 1, weights - 1, weights)}


def weight_of_the_whole_tree(columns: Columns) -> Columns:
    """Both parts of a tree that was cut count an answer as often as the whole tree repeats it."""
    whole = packs(max_length=120)
    answers = (whole["loss_weight"] == 6).nonzero()
    assert len(whole["loss_weight"]) == 1
    assert len(answers) == 1
    depth, label = (whole[name][tuple(answers[0])] for name in ("position_ids", "shift_labels"))
    same = (columns["position_ids"] == depth) & (columns["shift_labels"] == label)
    assert same.sum() > 1, "the tree is not cut"
    return {**columns, "loss_weight": torch.where(same, 6, columns["loss_weight"])}


def label_across_a_cut(columns: Columns) -> Columns:
    """The last position before a branch predicts the branch's first token, which the other pack holds."""
    labels, weights = columns["shift_labels"].clone(), columns["loss_weight"].clone()
    shared = (weights == 0) & (columns["position_ids"] == 5) & (columns["input_ids"] == 31)
    assert shared.any(), "no answer is followed by a branch"
    labels[shared], weights[shared] = 20, 1
    return {**columns, "shift_labels": labels, "loss_weight": weights}


BREAKS = [
    mask_off_by_one,
    mask_too_short,
    mask_ends_at_the_pack,
    positions_not_restarting,
    branches_restarting_at_zero,
    label_across_a_branch,
    branch_one_token_late,
    weight_lost,
    weight_of_a_branch,
    weight_of_the_whole_tree,
    label_across_a_cut,
]


@pytest.mark.parametrize("break_", BREAKS, ids=lambda function: function.__name__)
def test_the_comparison_catches_a_break(break_):
    model = make_model()
    with pytest.raises(AssertionError):
        assert_equal_to_each_alone(model, break_(packs()), **EXACT)


def test_with_the_tree_mask_a_cache_left_on_changes_nothing():
    model = make_model()
    torch.testing.assert_close(packed_loss(model, packs(), use_cache=True), loss_of_each_alone(model), **EXACT)


def test_without_it_a_cache_left_on_lets_examples_see_one_another():
    """Why the mask is not left to transformers, which finds packs by their positions, but not with a cache."""
    model = make_model()
    plain = packs(share_prefixes=False)
    alone = loss_of_each_alone(model)
    torch.testing.assert_close(packed_loss_without_mask(model, plain, use_cache=False), alone, **EXACT)
    assert abs(packed_loss_without_mask(model, plain, use_cache=True) - alone) > 1e-3


def packed_loss_without_mask(model: Any, columns: Columns, *, use_cache: bool) -> torch.Tensor:
    logits = model(input_ids=columns["input_ids"], position_ids=columns["position_ids"], use_cache=use_cache).logits
    return weighted_loss(logits, columns)
