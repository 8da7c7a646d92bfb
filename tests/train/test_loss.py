import pytest
import torch
from torch.nn import functional as F

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.tree import pack_examples, unpack
from fintune_kit.train.attention import TREE_ATTENTION
from fintune_kit.train.batch import lay_out
from fintune_kit.train.loss import enable_packs, loss_alone, summed_cross_entropy
from fintune_kit.train.trainer import stack_columns, stack_packs
from tests.pack.world import GROWING
from tests.train.conftest import EXAMPLES, PACKS, pack_row


def alone(model, tokens, supervised):
    """The loss of one example by itself, through the model's own forward and PyTorch's cross-entropy."""
    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    first = len(tokens) - supervised
    return F.cross_entropy(logits[first - 1 : -1], torch.tensor(tokens[first:]), reduction="sum")


def packed(model, packs):
    rows = stack_packs([{k: torch.tensor(v).numpy() for k, v in pack_row(*examples).items()} for examples in packs])
    return model(**rows).loss


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def with_frozen_head(model):
    """The head shares its matrix with the embeddings here, and is frozen in QLoRA."""
    model.get_input_embeddings().weight.requires_grad_(False)
    return model


def with_exact_norms(model):
    """The norms of transformers compute in float32, and a gradient that is a sum would be rounded otherwise."""
    for layer in model.model.layers:
        for name in ("input_layernorm", "post_attention_layernorm"):
            setattr(layer, name, torch.nn.RMSNorm(64, eps=model.config.rms_norm_eps, dtype=torch.float64))
    model.model.norm = torch.nn.RMSNorm(64, eps=model.config.rms_norm_eps, dtype=torch.float64)
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager", TREE_ATTENTION])
@pytest.mark.parametrize("training", [True, False])
def test_packed_loss_and_gradients_are_those_of_each_example_alone(make_model, attention, training):
    model = with_frozen_head(make_model(dtype=torch.float64, attention=attention)).train(training)
    expected_loss = sum(alone(model, *example) for example in EXAMPLES)
    expected = gradients(model, expected_loss)
    enable_packs(model, head_chunk=3)

    loss = packed(model, PACKS)
    found = gradients(model, loss)

    # transformers' eager attention takes its softmax in float32, whatever the model's dtype
    rtol, atol = (1e-9, 1e-12) if attention != "eager" else (1e-6, 1e-5)
    torch.testing.assert_close(loss, expected_loss, rtol=rtol, atol=0)
    assert len(found) > 20, "few gradients could not tell much"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=rtol, atol=atol)


@pytest.mark.parametrize("attention", ["sdpa", TREE_ATTENTION])
def test_answers_that_are_written_once_count_as_often_as_they_stood(make_model, attention):
    """Packs of a growing conversation, with branches and a twin, laid out and as columns."""
    model = with_exact_norms(with_frozen_head(make_model(dtype=torch.float64, attention=attention)))
    packs = stack_columns(pack_examples(GROWING, max_length=14, pad_id=0))
    assert len(packs["input_ids"]) > 1
    assert packs["loss_weight"].max() >= 3
    alone = [
        pair for index in range(len(packs["input_ids"])) for pair in unpack({n: c[index] for n, c in packs.items()})
    ]
    expected_loss = sum(loss_alone(model, *pair) for pair in alone)
    expected = gradients(model, expected_loss)
    enable_packs(model, head_chunk=3)
    losses = [model(**{name: torch.from_numpy(column) for name, column in packs.items()}).loss]
    if attention == TREE_ATTENTION:
        losses.append(model(micro_batch=lay_out(packs, chunk=5)).loss)
    for loss in losses:
        torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0)
        for name, found in gradients(model, loss).items():
            torch.testing.assert_close(found, expected[name], rtol=1e-9, atol=1e-12)


def test_in_float32_they_agree_to_rounding(make_model):
    model = with_frozen_head(make_model())
    expected_loss = sum(alone(model, *example) for example in EXAMPLES)
    expected = gradients(model, expected_loss)
    enable_packs(model)
    loss = packed(model, PACKS)
    found = gradients(model, loss)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=float(largest) * 1e-5)


def test_a_pack_that_lets_examples_see_each_other_has_another_loss(make_model):
    """The guard itself: without isolation the sum must differ, or the tests above would prove nothing."""
    model = with_frozen_head(make_model(dtype=torch.float64))
    expected = sum(alone(model, *example) for example in PACKS[0])
    enable_packs(model)
    row = pack_row(*PACKS[0])
    leaking = {**row, "subtree_end": [len(row["input_ids"])] * len(row["input_ids"])}
    loss = model(**stack_packs([{k: torch.tensor(v).numpy() for k, v in leaking.items()}])).loss
    assert abs(loss - expected) > 1e-3


@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
def test_the_head_in_chunks_equals_the_head_at_once(chunk):
    torch.manual_seed(0)
    hidden = torch.randn(13, 8, dtype=torch.float64, requires_grad=True)
    head = torch.randn(50, 8, dtype=torch.float64)
    labels, weights = torch.randint(0, 50, (13,)), torch.randint(1, 9, (13,))
    whole = (F.cross_entropy(hidden @ head.T, labels, reduction="none") * weights).sum()
    (expected,) = torch.autograd.grad(3 * whole, hidden)
    loss = summed_cross_entropy(hidden, head, labels, weights=weights, chunk=chunk)
    (found,) = torch.autograd.grad(3 * loss, hidden)
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("weight", [1, 70])
def test_a_half_precision_head_keeps_small_gradients_and_large_weights(weight):
    """Probabilities of a large vocabulary lie below float16's smallest number; scaled, their sum survives.

    A scaled slope times 70 would be more than float16's largest number.
    """
    torch.manual_seed(0)
    hidden = torch.randn(4, 64).half().requires_grad_()
    head = (0.02 * torch.randn(20_000, 64)).half()
    labels = torch.randint(0, 20_000, (4,))
    exact = hidden.detach().double().requires_grad_()
    whole = weight * F.cross_entropy(exact @ head.double().T, labels, reduction="sum")
    (expected,) = torch.autograd.grad(whole, exact)
    weights = torch.full((4,), weight)
    (found,) = torch.autograd.grad(summed_cross_entropy(hidden, head, labels, weights=weights, chunk=2), hidden)
    error = (found.double() - expected).norm() / expected.norm()
    assert error < 2e-3


def test_no_supervised_token_gives_a_loss_of_zero_and_no_gradient(make_model):
    model = with_frozen_head(make_model())
    enable_packs(model)
    row = pack_row(([5, 6, 7], 1))
    row["shift_labels"] = [IGNORE] * len(row["shift_labels"])
    loss = model(**stack_packs([{k: torch.tensor(v).numpy() for k, v in row.items()}])).loss
    assert loss.item() == 0
    assert all(g.abs().max() == 0 for g in gradients(model, loss).values())


def test_a_head_that_wants_a_gradient_is_refused():
    head = torch.randn(5, 4, requires_grad=True)
    with pytest.raises(AssertionError, match="head is trained"):
        summed_cross_entropy(torch.randn(2, 4), head, torch.tensor([0, 1]), weights=torch.ones(2), chunk=2)


def test_a_model_that_reads_packs_still_answers_ordinary_calls(make_model):
    model = make_model()
    expected = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    enable_packs(model)
    assert torch.equal(model(input_ids=torch.tensor([[5, 6, 7]])).logits, expected)
