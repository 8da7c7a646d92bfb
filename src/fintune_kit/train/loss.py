"""The loss: the summed cross-entropy of the supervised tokens of packs, without all logits in memory at once.

A causal LM's head is its widest matrix (151,936 rows), and in finance data about one position in eight is supervised.
So the head runs on supervised positions only, in chunks, and computes each chunk's gradient while its logits exist:

    hidden [B, L, H] --gather--> [N, H] --chunk--> [C, H] @ head.T -> logits [C, V] float32 -> loss, d loss / d hidden

A token that several examples predict from one position counts as often (`loss_weight`).

It is plain PyTorch, so it runs on a CPU and on cards that Triton no longer supports. The head is frozen in QLoRA. A
head that requires a gradient is refused, because it would get none.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutputWithPast

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.tree import COLUMNS
from fintune_kit.train.attention import TREE_ATTENTION, TreeAttention, dense_mask
from fintune_kit.train.batch import MicroBatch, lay_out
from fintune_kit.train.blocks.packed import refresh_blocks

HALF_SCALE = 2.0**12
"""Probabilities below 2**-24 become 0 in float16. So a chunk's gradient is multiplied by this before the product with
the head, and divided by it afterwards, in float32."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Weighted sum of the cross-entropy of `hidden @ head.T` against `labels`, a chunk of positions at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor, chunk: int) -> Tensor:
        """The loss. Its gradient is computed here, while the logits exist."""
        total = torch.zeros((), dtype=_accumulator(hidden.dtype), device=hidden.device)
        wants_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden, dtype=total.dtype) if wants_gradient else None
        weights = weights[:, None].to(total.dtype)
        scale = HALF_SCALE if head.dtype is torch.float16 else 1.0
        for start in range(0, len(labels), chunk):
            some = slice(start, start + chunk)
            logits = (hidden[some].to(head.dtype) @ head.T).to(total.dtype)
            targets = labels[some, None]
            normalizer = logits.logsumexp(dim=-1, keepdim=True)
            total += ((normalizer - logits.gather(1, targets)) * weights[some]).sum()
            if gradient is not None:
                # In place, to save memory: a pass over all logits costs as much as the product that made them.
                slope = logits.sub_(normalizer).exp_()  # d loss / d logits, before 1 is subtracted at the target
                slope.scatter_add_(1, targets, torch.full_like(normalizer, -1.0))
                slope = slope if scale == 1.0 else slope.mul_(scale)
                # Weighted after the product, in float32: a scaled slope times a weight could overflow in float16.
                gradient[some] = (slope.to(head.dtype) @ head).to(total.dtype).mul_(weights[some] / scale)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.hidden_dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The gradient of `hidden`, which the forward pass has computed."""
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_outputs[0]).to(ctx.hidden_dtype), None, None, None, None


def summed_cross_entropy(hidden: Tensor, head: Tensor, labels: Tensor, *, weights: Tensor, chunk: int) -> Tensor:
    """Cross-entropy summed over supervised tokens, `chunk` tokens at a time.

    Args:
        hidden: `[N, H]`, the last hidden states of supervised positions.
        head: `[V, H]`, the frozen language-model head.
        labels: `[N]` int64, none of them -100.
        weights: `[N]`, how often each label counts.
        chunk: tokens whose logits exist at once; they need about `8 * chunk * V` bytes.

    Returns:
        A scalar in float32, or in float64 if `hidden` is.
    """
    assert not head.requires_grad, "the head is trained, but this loss gives it no gradient"
    with torch.autocast(device_type=hidden.device.type, enabled=False):
        return _ChunkedCrossEntropy.apply(hidden, head, labels, weights, chunk)


def packed_forward(causal_lm: Any, batch: MicroBatch, *, noise_seed: int | None = None) -> CausalLMOutputWithPast:
    """One forward pass over packs. It returns the summed loss as `.loss`, and no logits.

    Args:
        causal_lm: a Qwen2 or Qwen3 causal LM of transformers, with or without adapters.
        batch: on the model's device.
        noise_seed: the seed of dropout in training; None: no dropout.
    """
    assert causal_lm.config._attn_implementation == TREE_ATTENTION, causal_lm.config._attn_implementation
    hidden = laid_out_states(causal_lm, batch, noise_seed=noise_seed)[batch.supervised]
    head, chunk = causal_lm.lm_head.weight, causal_lm.head_chunk
    loss = summed_cross_entropy(hidden, head, batch.targets, weights=batch.weights, chunk=chunk)
    return CausalLMOutputWithPast(loss=loss)


def states_of_packs(causal_lm: Any, columns: Mapping[str, Tensor]) -> Tensor:
    """The last hidden states of some packs, `[B, L, H]`.

    Args:
        columns: `input_ids`, `position_ids`, `subtree_end`: `[B, L]` each, on any device.
    """
    packs, length = columns["input_ids"].shape
    device = causal_lm.lm_head.weight.device
    if causal_lm.config._attn_implementation == TREE_ATTENTION:
        batch = lay_out({name: column.numpy(force=True) for name, column in columns.items()}).to(device)
        return laid_out_states(causal_lm, batch)[batch.natural_order].view(packs, length, -1)
    on_device = {name: column.to(device) for name, column in columns.items()}
    mask = dense_mask(on_device["subtree_end"], implementation=causal_lm.config._attn_implementation)
    return _states(causal_lm, on_device["input_ids"], on_device["position_ids"], mask)


def laid_out_states(causal_lm: Any, batch: MicroBatch, *, noise_seed: int | None = None) -> Tensor:
    """The last hidden states of a micro-batch, `[positions, H]`, in the order of its layout."""
    refresh_blocks(causal_lm)
    kv_heads, dtype = causal_lm.config.num_key_value_heads, compute_dtype(causal_lm)
    tree = TreeAttention.of(batch.groups, kv_heads=kv_heads, dtype=dtype, noise_seed=noise_seed)
    by_kind = {"full_attention": tree}  # transformers passes such a dictionary on unchanged
    return _states(causal_lm, batch.input_ids[None], batch.position_ids[None], by_kind).squeeze(0)


def _states(causal_lm: Any, input_ids: Tensor, position_ids: Tensor, mask: Any) -> Tensor:
    # With a cache, transformers lets packed examples see one another.
    output = causal_lm.model(input_ids=input_ids, position_ids=position_ids, attention_mask=mask, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states


def compute_dtype(causal_lm: Any) -> torch.dtype:
    """The dtype of queries and keys: autocast's dtype while autocast is on, else the head's."""
    weight: Tensor = causal_lm.lm_head.weight
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def loss_alone(causal_lm: nn.Module, tokens: Sequence[int], labels: Sequence[int]) -> Tensor:
    """The reference: the loss of one example by the model's own forward and PyTorch's cross-entropy.

    Args:
        causal_lm: before or after `enable_packs`; its ordinary forward is called.
        tokens, labels: of one example. Labels are pre-shifted; -100 is not supervised.

    Returns:
        The loss summed over supervised tokens.
    """
    logits = causal_lm(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return F.cross_entropy(logits, torch.tensor(list(labels)), ignore_index=IGNORE, reduction="sum")


def enable_packs(causal_lm: nn.Module, *, head_chunk: int = 256) -> None:
    """Lets a causal LM take packs, either laid out or as their columns. Other calls run its own forward.

        causal_lm(micro_batch=batch)                                              as training calls it
        causal_lm(input_ids=, position_ids=, subtree_end=, shift_labels=, loss_weight=)     the columns of some packs

    It replaces the `forward` of the model itself, so it works inside the wrappers of PEFT and accelerate.
    """
    assert head_chunk >= 1, head_chunk
    ordinary = causal_lm.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of packs, or the ordinary forward pass."""
        if "micro_batch" in kwargs:
            noise_seed = kwargs.get("noise_seed")
            if noise_seed is not None:
                torch.manual_seed(noise_seed)  # for blocks that run as transformers and PEFT define them
            return packed_forward(self, kwargs["micro_batch"], noise_seed=noise_seed)
        if "subtree_end" not in kwargs:
            return ordinary(*args, **kwargs)
        return CausalLMOutputWithPast(loss=loss_of_columns(self, {name: kwargs[name] for name in COLUMNS}))

    causal_lm.head_chunk = head_chunk  # type: ignore[assignment]
    causal_lm.forward = types.MethodType(forward, causal_lm)


def loss_of_columns(causal_lm: Any, columns: Mapping[str, Tensor]) -> Tensor:
    """The summed loss of some packs from their columns, with any attention implementation."""
    states = states_of_packs(causal_lm, columns).flatten(0, 1)
    labels = columns["shift_labels"].flatten().to(states.device)
    supervised = labels != IGNORE
    weights = columns["loss_weight"].flatten().to(states.device)[supervised]
    head, chunk = causal_lm.lm_head.weight, causal_lm.head_chunk
    return summed_cross_entropy(states[supervised], head, labels[supervised].long(), weights=weights, chunk=chunk)


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32
