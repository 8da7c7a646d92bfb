import pytest
import torch
from torch.nn import functional as F

from fintune_kit.chat.examples import IGNORE
from fintune_kit.train.attention import TREE_ATTENTION
from fintune_kit.train.loss import enable_packs, summed_cross_entropy
from fintune_kit.train.trainer import stack_packs
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
    labels = torch.randint(0, 50, (13,))
    whole = F.cross_entropy(hidden @ head.T, labels, reduction="sum")
    (expected,) = torch.autograd.grad(3 * whole, hidden)
    loss = summed_cross_entropy(hidden, head, labels, chunk=chunk)
    (found,) = torch.autograd.grad(3 * loss, hidden)
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_a_half_precision_head_keeps_small_gradients():
    """Probabilities of a large vocabulary lie below float16's smallest number; scaled, their sum survives."""
    torch.manual_seed(0)
    hidden = torch.randn(4, 64).half().requires_grad_()
    head = (0.02 * torch.randn(20_000, 64)).half()
    labels = torch.randint(0, 20_000, (4,))
    exact = hidden.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(exact @ head.double().T, labels, reduction="sum"), exact)
    (found,) = torch.autograd.grad(summed_cross_entropy(hidden, head, labels, chunk=2), hidden)
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
        summed_cross_entropy(torch.randn(2, 4), head, torch.tensor([0, 1]), chunk=2)


def test_a_model_that_reads_packs_still_answers_ordinary_calls(make_model):
    model = make_model()
    expected = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    enable_packs(model)
    assert torch.equal(model(input_ids=torch.tensor([[5, 6, 7]])).logits, expected)
