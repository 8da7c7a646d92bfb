"""Answers in the model's own words: greedy, in batches of similar length, until the closing token.

Decoding is greedy and nothing else: a base model's own generation config (Qwen's penalizes repetition) would make the
numbers depend on it.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import GenerationConfig

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.evaluate.scoring import Compute, encode_questions
from fintune_kit.evaluate.tasks import Question

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Generated:
    """One answer: its text without the closing token, and whether that token came."""

    text: str
    finished: bool


def generate_answers(
    model: Any,
    questions: Sequence[Question],
    *,
    encoder: ChatEncoder,
    compute: Compute,
    max_new_tokens: int,
    label: str = "generating",
) -> list[Generated]:
    """The answer to each question, in the order of the questions.

    Args:
        model: a causal LM of transformers, or a PEFT model around one.
        max_new_tokens: an answer that has not closed by then is cut, and says so.
        label: of the progress bar.
    """
    prompts, _ = encode_questions([replace(q, options=("-",)) for q in questions], encoder=encoder)
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    _show_signature(causal_lm)
    causal_lm.eval()
    answers: list[Generated | None] = [None] * len(questions)
    with tqdm(total=len(questions), desc=label, unit=" rows", leave=False) as bar:
        for rows in batches([len(prompt) for prompt in prompts], new=max_new_tokens, budget=compute.generation_tokens):
            produced = _generate(causal_lm, [prompts[row] for row in rows], encoder, compute, max_new_tokens)
            for row, tokens in zip(rows, produced, strict=True):
                answers[row] = _read(tokens, encoder)
            bar.update(len(rows))
    assert all(answer is not None for answer in answers), "a question was not answered"
    return [answer for answer in answers if answer is not None]


def batches(lengths: Sequence[int], *, new: int, budget: int) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, the longest first, each within `budget` tokens of prompts and answers.

    A row that is over the budget by itself is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    while order:
        size = max(1, budget // (lengths[order[0]] + new))
        yield order[:size]
        order = order[size:]


@torch.inference_mode()
def _generate(
    causal_lm: Any, prompts: Sequence[Ints], encoder: ChatEncoder, compute: Compute, max_new_tokens: int
) -> list[list[int]]:
    """New tokens of each prompt, the end token and what pads behind it included."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), encoder.pad_id)
    seen = torch.zeros((len(prompts), longest), dtype=torch.long)
    for row, prompt in enumerate(prompts):  # padded on the left: generation goes on at the right edge
        ids[row, longest - len(prompt) :] = torch.from_numpy(prompt)
        seen[row, longest - len(prompt) :] = 1
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=encoder.end_id,
        pad_token_id=encoder.pad_id,
        use_cache=True,
        temperature=1.0,  # what is left unset here is taken from the model's own config
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
    )
    half = compute.dtype != "float32"
    with torch.autocast(compute.device.split(":")[0], dtype=getattr(torch, compute.dtype), enabled=half):
        out = causal_lm.generate(
            input_ids=ids.to(compute.device),
            attention_mask=seen.to(compute.device),
            generation_config=config,
        )
    return out[:, longest:].tolist()


def _read(tokens: Sequence[int], encoder: ChatEncoder) -> Generated:
    finished = encoder.end_id in tokens
    kept = list(tokens[: tokens.index(encoder.end_id)]) if finished else list(tokens)
    return Generated(encoder.tokenizer.decode(kept, skip_special_tokens=True).strip(), finished)


def _show_signature(causal_lm: Any) -> None:
    """`generate` reads the signature of `forward` to learn that it takes positions and can leave out the prompt's
    logits (gigabytes with a real vocabulary); the forward that reads packs hides it."""
    forward = getattr(causal_lm.forward, "__func__", causal_lm.forward)
    forward.__signature__ = inspect.signature(type(causal_lm).forward)
