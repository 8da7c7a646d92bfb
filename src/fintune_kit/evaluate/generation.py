"""Free-text answers: greedy decoding, in batches of similar length, until the closing token.

A model's own generation config is not used: Qwen's penalizes repetition, and scores would depend on that.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import GenerationConfig

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.evaluate.scoring import Compute
from fintune_kit.evaluate.tasks import Question

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GeneratedText:
    """One answer of a model."""

    text: str
    """Without the closing token."""
    finished: bool
    """Whether the model wrote the closing token."""


def generate_answers(
    model: Any,
    questions: Sequence[Question],
    *,
    encoder: ChatEncoder,
    compute: Compute,
    max_new_tokens: int,
    label: str = "generating",
) -> list[GeneratedText]:
    """The answer to each question, in the order of the questions.

    Args:
        model: a causal LM of transformers, or a PEFT model around one.
        max_new_tokens: a longer answer is cut here, and marked as unfinished.
        label: of the progress bar.
    """
    prompts = prompt_tokens([question.messages for question in questions], encoder=encoder)
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    show_signature(causal_lm)
    causal_lm.eval()
    answers: list[GeneratedText | None] = [None] * len(questions)
    lengths = [len(prompt) for prompt in prompts]
    with tqdm(total=len(questions), desc=label, unit=" questions", leave=False) as bar:
        for batch in batches(lengths, max_new_tokens=max_new_tokens, max_tokens=compute.generation_tokens):
            produced = _generate(causal_lm, [prompts[index] for index in batch], encoder, compute, max_new_tokens)
            for index, tokens in zip(batch, produced, strict=True):
                answers[index] = _read(tokens, encoder)
            bar.update(len(batch))
    assert all(answer is not None for answer in answers), "a question was not answered"
    return [answer for answer in answers if answer is not None]


def prompt_tokens(prompts: Sequence[Sequence[Message]], *, encoder: ChatEncoder) -> list[Ints]:
    """The tokens of each prompt up to the first token of the answer, int64 [n] each."""
    closed = [[*messages, Message(role="assistant", content="-")] for messages in prompts]
    return [
        example.tokens[: np.flatnonzero(example.supervised)[-2]].astype(np.int64) for example in encoder.encode(closed)
    ]


def batches(lengths: Sequence[int], *, max_new_tokens: int, max_tokens: int) -> Iterator[list[int]]:
    """Indices of questions in batches of similar length, the longest first.

    A batch holds at most `max_tokens` tokens of prompts and answers; a longer question is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    while order:
        size = max(1, max_tokens // (lengths[order[0]] + max_new_tokens))
        yield order[:size]
        order = order[size:]


def greedy_config(encoder: ChatEncoder, *, max_new_tokens: int) -> GenerationConfig:
    """Greedy decoding that ends with the chat's closing token."""
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=encoder.end_id,
        pad_token_id=encoder.pad_id,
        use_cache=True,
        temperature=1.0,  # transformers takes a value that is not set here from the model's own config
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
    )


def show_signature(causal_lm: Any) -> None:
    """Gives `forward` its original signature again. The `forward` that reads packs hides it.

    `generate` needs the signature: it says that the model takes positions, and can skip the logits of the prompt. With
    a real vocabulary these logits take gigabytes.
    """
    forward = getattr(causal_lm.forward, "__func__", causal_lm.forward)
    forward.__signature__ = inspect.signature(type(causal_lm).forward)


@torch.inference_mode()
def _generate(
    causal_lm: Any, prompts: Sequence[Ints], encoder: ChatEncoder, compute: Compute, max_new_tokens: int
) -> list[list[int]]:
    """The new tokens of each prompt, with the closing token and the padding after it."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), encoder.pad_id)
    seen = torch.zeros((len(prompts), longest), dtype=torch.long)
    for index, prompt in enumerate(prompts):  # padded on the left: generation continues at the right edge
        ids[index, longest - len(prompt) :] = torch.from_numpy(prompt)
        seen[index, longest - len(prompt) :] = 1
    with compute.autocast():
        out = causal_lm.generate(
            input_ids=ids.to(compute.device),
            attention_mask=seen.to(compute.device),
            generation_config=greedy_config(encoder, max_new_tokens=max_new_tokens),
        )
    return out[:, longest:].tolist()


def _read(tokens: Sequence[int], encoder: ChatEncoder) -> GeneratedText:
    finished = encoder.end_id in tokens
    kept = list(tokens[: tokens.index(encoder.end_id)]) if finished else list(tokens)
    return GeneratedText(encoder.tokenizer.decode(kept, skip_special_tokens=True).strip(), finished)
