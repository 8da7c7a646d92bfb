from collections.abc import Callable

import torch
from transformers import GenerationConfig, Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.evaluate.generation import batches, generate_answers
from fintune_kit.evaluate.scoring import Compute
from tests.evaluate.conftest import QUESTIONS, question

Make = Callable[..., Qwen2ForCausalLM]


def test_answers_in_a_batch_are_those_of_each_question_alone(make_model: Make, encoder: ChatEncoder) -> None:
    model = make_model()
    one = Compute(device="cpu", generation_tokens=1)
    together = generate_answers(
        model, QUESTIONS, encoder=encoder, compute=Compute(device="cpu", generation_tokens=4000), max_new_tokens=12
    )
    alone = generate_answers(model, QUESTIONS, encoder=encoder, compute=one, max_new_tokens=12)
    assert len({len(q.text) for q in QUESTIONS}) > 1, "equal lengths need no padding"
    assert together == alone


def test_the_head_sees_only_the_last_position_of_a_prompt(make_model: Make, encoder: ChatEncoder) -> None:
    model, seen = make_model(), []
    model.lm_head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[1]))
    generate_answers(model, QUESTIONS, encoder=encoder, compute=Compute(device="cpu"), max_new_tokens=2)
    assert set(seen) == {1}, "logits of a whole prompt take gigabytes with a real vocabulary"


def test_generation_is_greedy_whatever_the_model_asks_for(make_model: Make, encoder: ChatEncoder) -> None:
    plain, opinionated = make_model(), make_model()
    opinionated.generation_config = GenerationConfig(do_sample=True, temperature=0.7, top_k=5, repetition_penalty=5.0)
    compute = Compute(device="cpu")
    first, second = (
        generate_answers(model, QUESTIONS, encoder=encoder, compute=compute, max_new_tokens=16)
        for model in (plain, opinionated)
    )
    assert first == second


def test_an_answer_ends_at_its_closing_token_and_says_whether_it_came(make_model: Make, encoder: ChatEncoder) -> None:
    model, asked = make_model(), [question("x", "y")]
    (cut,) = generate_answers(model, asked, encoder=encoder, compute=Compute(device="cpu"), max_new_tokens=3)
    assert not cut.finished
    end = torch.tensor([encoder.end_id])
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: logits.index_fill(-1, end, 1e9))
    (closed,) = generate_answers(model, asked, encoder=encoder, compute=Compute(device="cpu"), max_new_tokens=3)
    assert (closed.text, closed.finished) == ("", True)


def test_batches_hold_every_question_once_the_longest_first() -> None:
    found = list(batches([5, 90, 40, 45, 7], max_new_tokens=10, max_tokens=110))
    assert found == [[1], [3, 2], [4, 0]]
    assert list(batches([500], max_new_tokens=10, max_tokens=100)) == [[0]]
