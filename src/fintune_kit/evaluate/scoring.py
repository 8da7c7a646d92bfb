"""The likelihood of answer options, in few packed forward passes. The head runs only where an option is predicted.

    questions -> prompts + option tries -> packs -> hidden states -> log p(target | parent) -> sum along each option

The score of an option is the log-probability of the whole answer with its closing token. So options are disjoint
events, and `Stock` does not win over `Stock Movement` only because it is shorter. The scores are the same as for each
option alone. Logits exist for one chunk of positions at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.evaluate.tasks import Question
from fintune_kit.evaluate.trees import OptionTrie, TreePack, build_packs, check_depth, option_trie
from fintune_kit.train.loss import states_of_packs

Ints = NDArray[np.int64]
VOCABULARY_BLOCK = 8192
_PROBE: list[Message] = [Message(role="user", content="?")]


@dataclass(frozen=True)
class OptionScores:
    """The scores of one question's options, in their order."""

    log_probability: NDArray[np.float64]
    """[options] log-probability of the whole answer, in nats."""
    tokens: Ints
    """[options] number of tokens in each answer."""

    @property
    def normalized(self) -> NDArray[np.float64]:
        """[options] mean log-probability per token."""
        return self.log_probability / self.tokens

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """[options] probability of each option among the options."""
        shifted = np.exp(self.log_probability - self.log_probability.max())
        return shifted / shifted.sum()


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a model runs. These values change a score by rounding only."""

    device: str
    dtype: str = "float32"
    length: int = 2048
    """Positions in a pack."""
    micro_batch: int = 1
    """Packs in one forward pass."""
    head_chunk: int = 256
    """Positions whose logits exist at once."""
    generation_tokens: int = 8192
    """Prompt and answer tokens in one batch of generation."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision if `dtype` is a half-precision one."""
        half = self.dtype != "float32"
        return torch.autocast(self.device.split(":")[0], dtype=getattr(torch, self.dtype), enabled=half)


def score_choices(
    model: Any, questions: Sequence[Question], *, encoder: ChatEncoder, compute: Compute, label: str = "scoring"
) -> list[OptionScores]:
    """The log-probability of every option of every question.

    Args:
        model: a causal LM of transformers, or a PEFT model around one.
        label: of the progress bar and of errors.

    Returns:
        One `OptionScores` for each question, in their order.

    Raises:
        UserError: a question is longer than the model can read.
    """
    prompts, tries = encode_questions(questions, encoder=encoder)
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    check_depth(prompts, tries, max_depth=causal_lm.config.max_position_embeddings, task=label)
    scores: list[OptionScores | None] = [None] * len(questions)
    causal_lm.eval()
    packs = build_packs(prompts, tries, length=compute.length)
    with tqdm(total=len(questions), desc=label, unit=" questions", leave=False) as bar:
        while batch := list(islice(packs, compute.micro_batch)):
            for index, values in _score_batch(causal_lm, batch, tries, compute):
                scores[index] = OptionScores(tries[index].on_path @ values, tries[index].on_path.sum(axis=1))
                bar.update(1)
    assert all(score is not None for score in scores), "a question was not scored"
    return [score for score in scores if score is not None]


def encode_questions(questions: Sequence[Question], *, encoder: ChatEncoder) -> tuple[list[Ints], list[OptionTrie]]:
    """Prompt tokens and option tries of questions. Prompt + option equals the tokens of the whole conversation.

    Tokens after the last control token of a prompt do not depend on the tokens before it. So each set of options is
    encoded once, and not again for each question.
    """
    tails = {options: _tails(encoder, options) for options in {question.options for question in questions}}
    tries = {options: option_trie(tail) for options, (tail, _) in tails.items()}
    whole = encoder.encode([[*q.messages, Message(role="assistant", content=q.options[0])] for q in questions])
    prompts = []
    for question, example in zip(questions, whole, strict=True):
        _, cut = tails[question.options]
        prompts.append(example.tokens[: len(example) - cut].astype(np.int64))
    return prompts, [tries[question.options] for question in questions]


def _tails(encoder: ChatEncoder, options: tuple[str, ...]) -> tuple[list[Ints], int]:
    """The tokens of each option with its closing token, and the length of the end that is cut off a conversation.

    This end is the first option and everything after it. Options begin at their first supervised token, or earlier if
    their tokens differ before it.
    """
    probes = encoder.encode([[*_PROBE, Message(role="assistant", content=option)] for option in options])
    spans = [np.flatnonzero(probe.supervised) for probe in probes]
    start = min(int(span[0]) for span in spans)
    for probe in (
        probes
    ):  # a blank at the start of an option becomes a part of the token before it: the prompt then ends earlier
        differing = np.flatnonzero(probe.tokens[:start] != probes[0].tokens[:start])
        start = int(differing[0]) if len(differing) else start
    tails = [p.tokens[start : span[-1] + 1].astype(np.int64) for p, span in zip(probes, spans, strict=True)]
    return tails, len(probes[0]) - start


@torch.inference_mode()
def _score_batch(
    causal_lm: Any, batch: Sequence[TreePack], tries: Sequence[OptionTrie], compute: Compute
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(index of the question, log-probability of each target of its trie) for every question in some packs."""
    longest = max(map(len, batch))
    columns = {name: _stack(batch, name, longest) for name in ("input_ids", "position_ids", "subtree_end")}
    with compute.autocast():
        hidden = states_of_packs(causal_lm, columns)
    parent = np.concatenate([pack.parent + number * longest for number, pack in enumerate(batch)])
    target = np.concatenate([pack.target for pack in batch])
    found = target_log_probabilities(
        hidden.flatten(0, 1), causal_lm.lm_head.weight, parent, target, chunk=compute.head_chunk
    )
    start = 0
    for index in np.concatenate([pack.questions for pack in batch]):
        count = len(tries[index].targets)
        yield int(index), found[start : start + count]
        start += count


def target_log_probabilities(
    hidden: Tensor, head: Tensor, parent: Ints, target: Ints, *, chunk: int
) -> NDArray[np.float64]:
    """log p(target | hidden[parent]) as float64 `[K]`, `chunk` positions at a time.

    A position with several targets is normalized once.

    Args:
        hidden: `[N, H]`.
        head: `[V, H]`.
        parent: `[K]` indices into `hidden`.
        target: `[K]` token ids.
        chunk: positions whose logits exist at once.
    """
    positions, which = np.unique(parent, return_inverse=True)
    order = np.argsort(which, kind="stable")
    borders = np.searchsorted(which[order], np.arange(0, len(positions) + chunk, chunk))
    found = np.empty(len(target))
    for number, (first, last) in enumerate(pairwise(borders)):
        here = order[first:last]
        states = hidden[torch.from_numpy(positions[number * chunk : (number + 1) * chunk]).to(hidden.device)]
        states = states.to(head.dtype)
        within = torch.from_numpy(which[here] - number * chunk).to(hidden.device)
        wanted = head[torch.from_numpy(target[here]).to(hidden.device)]
        logits = (states[within].float() * wanted.float()).sum(dim=-1)
        found[here] = (logits - _log_normalizer(states, head)[within]).double().cpu().numpy()
    return found


def _log_normalizer(states: Tensor, head: Tensor) -> Tensor:
    """log of the summed exponentials of `states @ head.T`, float32 `[len(states)]`.

    It computes one block of the vocabulary at a time. The logits of a block stay in the processor's cache, which
    halves the time on a CPU.
    """
    total = torch.full((len(states),), -torch.inf, device=states.device)
    for block in head.split(VOCABULARY_BLOCK):
        total = torch.logaddexp(total, (states @ block.T).float().logsumexp(dim=-1))
    return total


def _stack(batch: Sequence[TreePack], name: str, length: int) -> Tensor:
    """One column of some packs, int64 `[B, length]`. Padding positions see only themselves."""
    stacked = np.zeros((len(batch), length), np.int64)
    if name == "subtree_end":
        stacked[:] = np.arange(1, length + 1)
    for number, pack in enumerate(batch):
        column = getattr(pack, name)
        stacked[number, : len(column)] = column
    return torch.from_numpy(stacked)
