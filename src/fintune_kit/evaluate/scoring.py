"""Likelihood of answer options: a few packed forward passes, the head on the positions that predict, in chunks.

    questions -> prompts + option tries -> packs -> hidden states -> log p(target | parent) -> sum along each option

An option's score is the log-probability of the whole answer, its closing token included: so options are disjoint
events, and one that begins like another (`Stock`, `Stock Movement`) is not favoured for being shorter. The scores are
those of each option alone; nothing of size [rows, vocabulary] outlives its chunk.
"""

from collections.abc import Iterator, Sequence
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
from fintune_kit.train.attention import attention_inputs

Ints = NDArray[np.int64]
VOCABULARY_BLOCK = 8192
_PROBE: list[Message] = [Message(role="user", content="?")]


@dataclass(frozen=True)
class OptionScores:
    """Of one question, in the order of its options."""

    log_probability: NDArray[np.float64]
    """[options] of the whole answer, in nats."""
    tokens: Ints
    """[options] that the sum runs over."""

    @property
    def normalized(self) -> NDArray[np.float64]:
        """Mean log-probability a token."""
        return self.log_probability / self.tokens

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Shares among the options."""
        shifted = np.exp(self.log_probability - self.log_probability.max())
        return shifted / shifted.sum()


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a model is run; none of it changes a score beyond rounding."""

    device: str
    dtype: str = "float32"
    length: int = 2048
    """Positions in a pack."""
    micro_batch: int = 1
    """Packs in a forward pass."""
    head_chunk: int = 256
    """Positions that the head sees at once."""
    generation_tokens: int = 8192
    """Prompt and answer tokens in a batch of generation."""


def score_choices(
    model: Any, questions: Sequence[Question], *, encoder: ChatEncoder, compute: Compute, label: str = "scoring"
) -> list[OptionScores]:
    """The log-probability of every option of every question.

    Args:
        model: a causal LM of transformers, or a PEFT model around one.
        label: of the progress bar and of errors.

    Raises:
        UserError: a row is longer than the model can read.
    """
    prompts, tries = encode_questions(questions, encoder=encoder)
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    check_depth(prompts, tries, most=causal_lm.config.max_position_embeddings, task=label)
    scores: list[OptionScores | None] = [None] * len(questions)
    causal_lm.eval()
    packs = build_packs(prompts, tries, length=compute.length)
    with tqdm(total=len(questions), desc=label, unit=" rows", leave=False) as bar:
        while batch := list(islice(packs, compute.micro_batch)):
            for row, values in _score_batch(causal_lm, batch, tries, compute):
                scores[row] = OptionScores(tries[row].on_path @ values, tries[row].on_path.sum(axis=1))
                bar.update(1)
    assert all(score is not None for score in scores), "a question was not scored"
    return [score for score in scores if score is not None]


def encode_questions(questions: Sequence[Question], *, encoder: ChatEncoder) -> tuple[list[Ints], list[OptionTrie]]:
    """Prompt tokens and option tries of questions; prompt + option equals the whole conversation's tokens.

    What follows the last control token of a prompt does not depend on what precedes it, so options are encoded once,
    not once a row.
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
    """Tokens of each option from where options part or are supervised, closing token last; and how many tokens end a
    conversation whose answer is the first option."""
    probes = encoder.encode([[*_PROBE, Message(role="assistant", content=option)] for option in options])
    spans = [np.flatnonzero(probe.supervised) for probe in probes]
    start = min(int(span[0]) for span in spans)
    for probe in probes:  # a blank start merges with its header: then the prompt ends earlier
        differing = np.flatnonzero(probe.tokens[:start] != probes[0].tokens[:start])
        start = int(differing[0]) if len(differing) else start
    tails = [p.tokens[start : span[-1] + 1].astype(np.int64) for p, span in zip(probes, spans, strict=True)]
    return tails, len(probes[0]) - start


@torch.inference_mode()
def _score_batch(
    causal_lm: Any, batch: Sequence[TreePack], tries: Sequence[OptionTrie], compute: Compute
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(row, log-probability of each of its trie's targets) of every row in some packs."""
    longest = max(map(len, batch))
    columns = {name: _stack(batch, name, longest) for name in ("input_ids", "position_ids", "subtree_end")}
    columns = {name: column.to(compute.device) for name, column in columns.items()}
    half = compute.dtype != "float32"
    with torch.autocast(compute.device.split(":")[0], dtype=getattr(torch, compute.dtype), enabled=half):
        hidden = causal_lm.model(
            input_ids=columns["input_ids"],
            position_ids=columns["position_ids"],
            **attention_inputs(columns["subtree_end"], implementation=causal_lm.config._attn_implementation),
            use_cache=False,  # with a cache, transformers lets packed rows see one another
        ).last_hidden_state
    parent = np.concatenate([pack.parent + number * longest for number, pack in enumerate(batch)])
    target = np.concatenate([pack.target for pack in batch])
    found = target_log_probabilities(
        hidden.flatten(0, 1), causal_lm.lm_head.weight, parent, target, chunk=compute.head_chunk
    )
    start = 0
    for row in np.concatenate([pack.rows for pack in batch]):
        count = len(tries[row].targets)
        yield int(row), found[start : start + count]
        start += count


def target_log_probabilities(
    hidden: Tensor, head: Tensor, parent: Ints, target: Ints, *, chunk: int
) -> NDArray[np.float64]:
    """log p(target | hidden[parent]), `chunk` positions at a time; one with many targets is normalized once.

    Args:
        hidden: `[N, H]`.
        head: `[V, H]`.
        parent: `[K]` rows of `hidden`.
        target: `[K]` token ids.
    """
    positions, which = np.unique(parent, return_inverse=True)
    order = np.argsort(which, kind="stable")
    borders = np.searchsorted(which[order], np.arange(0, len(positions) + chunk, chunk))
    found = np.empty(len(target))
    for number, (first, last) in enumerate(pairwise(borders)):
        here = order[first:last]
        rows = hidden[torch.from_numpy(positions[number * chunk : (number + 1) * chunk]).to(hidden.device)]
        rows = rows.to(head.dtype)
        within = torch.from_numpy(which[here] - number * chunk).to(hidden.device)
        wanted = head[torch.from_numpy(target[here]).to(hidden.device)]
        logits = (rows[within].float() * wanted.float()).sum(dim=-1)
        found[here] = (logits - _log_normalizer(rows, head)[within]).double().cpu().numpy()
    return found


def _log_normalizer(rows: Tensor, head: Tensor) -> Tensor:
    """log of the summed exponentials of `rows @ head.T`, float32 [rows].

    A block of the vocabulary at a time: the logits stay in the cache, which halves the time on a CPU, and never take
    more than `rows * VOCABULARY_BLOCK` values.
    """
    total = torch.full((len(rows),), -torch.inf, device=rows.device)
    for block in head.split(VOCABULARY_BLOCK):
        total = torch.logaddexp(total, (rows @ block.T).float().logsumexp(dim=-1))
    return total


def _stack(batch: Sequence[TreePack], name: str, length: int) -> Tensor:
    """`[B, length]` int64; positions behind a pack's end see only themselves."""
    stacked = np.zeros((len(batch), length), np.int64)
    if name == "subtree_end":
        stacked[:] = np.arange(1, length + 1)
    for number, pack in enumerate(batch):
        column = getattr(pack, name)
        stacked[number, : len(column)] = column
    return torch.from_numpy(stacked)
