from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.evaluate.scoring import Compute, encode_questions, score_choices, target_log_probabilities
from fintune_kit.evaluate.tasks import Question
from tests.evaluate.conftest import QUESTIONS

Make = Callable[..., Qwen2ForCausalLM]


def alone(model: Qwen2ForCausalLM, question: Question, encoder: ChatEncoder) -> list[float]:
    """Each option by itself: the whole conversation through the ordinary forward pass, its supervised tokens summed."""
    sums = []
    for option in question.options:
        (example,) = encoder.encode([[*question.messages, Message(role="assistant", content=option)]])
        tokens = torch.from_numpy(example.tokens.astype(np.int64))
        logs = model(input_ids=tokens[None], use_cache=False).logits[0].double().log_softmax(dim=-1)
        places = np.flatnonzero(example.supervised)
        sums.append(sum(float(logs[place - 1, tokens[place]]) for place in places))
    return sums


@pytest.mark.parametrize("length", [16, 96, 512])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_tree_scores_equal_the_scores_of_each_option_alone(
    make_model: Make, encoder: ChatEncoder, length: int, micro_batch: int
) -> None:
    model = make_model()
    compute = Compute(device="cpu", length=length, micro_batch=micro_batch, head_chunk=3)
    scores = score_choices(model, QUESTIONS, encoder=encoder, compute=compute)
    expected = [alone(model, question, encoder) for question in QUESTIONS]
    assert max(map(max, expected)) - min(map(min, expected)) > 1, "equal scores could not tell options apart"
    for score, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score.log_probability, wanted, rtol=0, atol=1e-5)


def test_an_option_is_the_whole_answer_with_its_closing_token(encoder: ChatEncoder) -> None:
    prompts, tries = encode_questions(QUESTIONS, encoder=encoder)
    for question, prompt, trie in zip(QUESTIONS, prompts, tries, strict=True):
        for option, on_path in zip(question.options, trie.on_path, strict=True):
            whole = [*prompt, *trie.targets[on_path]]
            assert encoder.tokenizer.decode(whole).endswith(f"assistant\n{option}<|im_end|>")


def test_a_prompt_and_its_option_are_the_conversations_own_tokens(encoder: ChatEncoder) -> None:
    prompts, tries = encode_questions(QUESTIONS, encoder=encoder)
    for question, prompt, trie in zip(QUESTIONS, prompts, tries, strict=True):
        for option, on_path in zip(question.options, trie.on_path, strict=True):
            (example,) = encoder.encode([[*question.messages, Message(role="assistant", content=option)]])
            last = np.flatnonzero(example.supervised)[-1]
            assert [*prompt, *trie.targets[on_path]] == example.tokens[: last + 1].tolist()


def test_probabilities_and_the_mean_a_token(make_model: Make, encoder: ChatEncoder) -> None:
    compute = Compute(device="cpu", length=256)
    (score,) = score_choices(make_model(), QUESTIONS[4:5], encoder=encoder, compute=compute)
    assert score.probabilities.sum() == pytest.approx(1)
    assert len(set(score.tokens.tolist())) > 1, "options of equal length could not tell the mean from the sum"
    np.testing.assert_allclose(score.normalized * score.tokens, score.log_probability)


def test_the_head_never_sees_more_rows_than_a_chunk() -> None:
    seen = []

    class Spy(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.Tensor.matmul or func is torch.matmul or func is torch.Tensor.__matmul__:
                seen.append(args[0].shape[0])
            return super().__torch_function__(func, types, args, kwargs or {})

    hidden = torch.randn(50, 8)
    head = torch.randn(20, 8).as_subclass(Spy)
    rng = np.random.default_rng(0)
    parent, target = rng.integers(0, 50, 200), rng.integers(0, 20, 200)
    found = target_log_probabilities(hidden, head, parent, target, chunk=7)
    assert seen, "no product with the head was seen"
    assert max(seen) <= 7
    assert sum(seen) == len(set(parent.tolist())), "a position was computed twice"
    expected = (hidden @ torch.as_tensor(head).as_subclass(torch.Tensor).T).log_softmax(-1)[parent, target]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
