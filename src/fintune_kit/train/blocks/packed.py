"""A Qwen block on packs: three functions with their own backward passes, and attention between them.

    x --> norm, queries, keys and values, rotated --> attention --> out projection + x --> norm, gated MLP + x

It computes the same numbers as transformers' block with PEFT's adapters, in fewer kernels and fewer passes over memory.
For the backward pass it keeps the residual stream, gate and up, and the tensors that attention needs. Norms, gated
products and dropout's noise cost little, so they are computed again. It is plain PyTorch, so it runs on a CPU and on
cards that Triton no longer supports.

Adapters may be loaded, switched off or exchanged at any time, so a block checks them before each forward pass. If it
cannot compute the same as PEFT, PEFT's own layers run, and the log says so once.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fintune_kit.train.attention import TreeAttention
from fintune_kit.train.blocks.clamp import clamping
from fintune_kit.train.blocks.linear import LinearGroup, has_hooks, obstacle, refresh_copies, state_of

log = logging.getLogger(__name__)

_NOISES = 4
"""Groups of linear layers in a block. Each draws its own noise."""


@dataclass
class Norm:
    """RMSNorm with a frozen weight. Sums are in float32 or better."""

    weight: Tensor
    epsilon: float

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normalized input in the weight's dtype, and the reciprocal of its root mean square `[..., 1]`."""
        exact = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        reciprocal = norm.square_().div_(x.shape[-1]).add_(self.epsilon).rsqrt_()
        return self.again(x, reciprocal), reciprocal

    def again(self, x: Tensor, reciprocal: Tensor) -> Tensor:
        """The normalized input again, from the reciprocal that `forward` returned."""
        y = torch.empty_like(x, dtype=self.weight.dtype)
        return torch.mul(x, reciprocal, out=y).mul_(self.weight)

    def backward(self, gradient: Tensor, x: Tensor, reciprocal: Tensor, *, onto: Tensor | None) -> Tensor:
        """The gradient of the input, added to `onto` if that is given. Overwrites `gradient`."""
        gradient = gradient.mul_(self.weight)
        projection = torch.mul(gradient, x).sum(dim=-1, keepdim=True, dtype=reciprocal.dtype)
        projection = projection.mul_(reciprocal.pow(3)).mul_(-1.0 / x.shape[-1])
        total = torch.empty_like(x)  # filled in one go, so that float32 sums are rounded once
        if onto is None:
            torch.mul(x, projection, out=total)
        else:
            torch.addcmul(onto, x, projection, out=total)
        return total.addcmul_(gradient, reciprocal)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """Rotates heads `[N, heads, D]` by `cos` and `sin` `[N, 1, D]`. `back` rotates in the other direction."""
    half = x.shape[-1] // 2
    y = torch.mul(x, cos, out=torch.empty_like(x))
    sign = -1 if back else 1
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sign)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
    return y


@dataclass
class AttentionInputs:
    """The first part of a block: queries, keys and values."""

    norm: Norm
    linear: LinearGroup
    head_dim: int
    head_norms: tuple[Norm, Norm] | None
    """The norms of queries and keys in Qwen3; None in Qwen2."""


class _Project(torch.autograd.Function):
    """From `x [N, H]`: rotated queries, rotated keys, and values, `[N, heads, D]` each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: AttentionInputs, turns: Any, seed: int | None, *_: Tensor) -> Any:
        """Keeps `x`, the narrow middles and, in Qwen3, the heads before their norms."""
        normed, reciprocal = part.norm.forward(x)
        read = part.linear.read(normed, seed=seed)
        narrow = part.linear.narrow(read)
        query, key, value = (y.view(len(x), -1, part.head_dim) for y in part.linear.outputs(normed, narrow))
        kept: list[Tensor] = []
        if part.head_norms is not None:
            heads = (query, key)
            (query, of_query), (key, of_key) = (n.forward(y) for n, y in zip(part.head_norms, heads, strict=True))
            kept = [*heads, of_query, of_key]
        ctx.save_for_backward(x, reciprocal, *([] if narrow is None else [narrow]), *kept)
        ctx.part, ctx.turns, ctx.seed, ctx.adapted = part, turns, seed, narrow is not None
        return rotate(query, *turns), rotate(key, *turns), value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of `x` and of the adapters' matrices."""
        part = ctx.part
        x, reciprocal, *rest = ctx.saved_tensors
        narrow = rest.pop(0) if ctx.adapted else None
        of_query, of_key = (rotate(g, *ctx.turns, back=True) for g in gradients[:2])
        if part.head_norms is not None:
            query, key, of_q, of_k = rest
            of_query = part.head_norms[0].backward(of_query, query, of_q, onto=None)
            of_key = part.head_norms[1].backward(of_key, key, of_k, onto=None)
        read = part.linear.read(part.norm.again(x, reciprocal), seed=ctx.seed)
        flat = [g.reshape(len(x), -1) for g in (of_query, of_key, gradients[2])]
        of_normed, matrices = part.linear.backward(flat, read, narrow)
        return part.norm.backward(of_normed, x, reciprocal, onto=None), None, None, None, *matrices


class _AddProjection(torch.autograd.Function):
    """`x + y W'` for `x [N, H]` and attention's output `y [N, inputs]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, linear: LinearGroup, seed: int | None, *_: Tensor) -> Tensor:
        """Keeps `y` and the narrow middle."""
        narrow = linear.narrow(linear.read(y, seed=seed))
        (out,) = linear.outputs(y, narrow)
        ctx.save_for_backward(y, *([] if narrow is None else [narrow]))
        ctx.linear, ctx.seed = linear, seed
        return x + out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of `x`, of `y` and of the adapter's matrices."""
        y, *rest = ctx.saved_tensors
        (gradient,) = gradients
        read = ctx.linear.read(y, seed=ctx.seed)
        of_y, matrices = ctx.linear.backward([gradient.to(y.dtype)], read, rest[0] if rest else None)
        return gradient, of_y, None, None, *matrices


@dataclass
class GatedMLP:
    """The last part of a block."""

    norm: Norm
    gate_up: LinearGroup
    down: LinearGroup
    limit: float | None = None
    """The largest value of the gated product and of the output; None for no limit (`clamp`)."""

    def bounded(self, values: Tensor) -> Tensor:
        """Clamps the values in place, if there is a limit. Their gradients are not changed."""
        return values if self.limit is None else values.clamp_(-self.limit, self.limit)


class _AddMLP(torch.autograd.Function):
    """`x + down(silu(gate(norm(x))) * up(norm(x)))` for `x [N, H]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: GatedMLP, seeds: Sequence[int | None], *_: Tensor) -> Tensor:
        """Keeps `x`, gate and up, and the narrow middles."""
        normed, reciprocal = part.norm.forward(x)
        narrow = part.gate_up.narrow(part.gate_up.read(normed, seed=seeds[0]))
        gate, up = part.gate_up.outputs(normed, narrow)
        product = part.bounded(F.silu(gate).mul_(up))
        narrow_down = part.down.narrow(part.down.read(product, seed=seeds[1]))
        (out,) = part.down.outputs(product, narrow_down)
        middles = [middle for middle in (narrow, narrow_down) if middle is not None]
        ctx.save_for_backward(x, reciprocal, gate, up, *middles)
        ctx.part, ctx.seeds = part, seeds
        ctx.adapted = (narrow is not None, narrow_down is not None)
        return x + part.bounded(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of `x` and of the adapters' matrices."""
        part, (gradient,) = ctx.part, gradients
        x, reciprocal, gate, up, *middles = ctx.saved_tensors
        narrow = middles.pop(0) if ctx.adapted[0] else None
        narrow_down = middles.pop(0) if ctx.adapted[1] else None
        activated = F.silu(gate)
        read = part.down.read(part.bounded(activated * up), seed=ctx.seeds[1])
        of_product, of_down = part.down.backward([gradient.to(gate.dtype)], read, narrow_down)
        del read
        of_up = activated.mul_(of_product)
        of_gate = torch.ops.aten.silu_backward(of_product.mul_(up), gate)
        read = part.gate_up.read(part.norm.again(x, reciprocal), seed=ctx.seeds[0])
        of_normed, of_gate_up = part.gate_up.backward([of_gate, of_up], read, narrow)
        total = part.norm.backward(of_normed, x, reciprocal, onto=gradient)
        return total, None, None, *of_gate_up, *of_down


@dataclass
class Parts:
    """The layers of a block, grouped for these functions."""

    inputs: AttentionInputs
    out: LinearGroup
    mlp: GatedMLP

    @property
    def groups(self) -> list[LinearGroup]:
        """All groups of linear layers."""
        return [self.inputs.linear, self.out, self.mlp.gate_up, self.mlp.down]


class PackedBlock:
    """One block of a model, for the positions of a micro-batch."""

    def __init__(self, block: Any, *, index: int, dtype: torch.dtype) -> None:
        """
        Args:
            block: transformers' decoder layer of a Qwen2 or Qwen3, with PEFT's adapters or without.
            index: of the block, for its noise.
            dtype: of the products.
        """
        self._block, self._index, self._dtype = block, index, dtype
        self._state: tuple[object, ...] = ()
        self.parts: Parts | None = None
        """None if transformers' own block must run instead."""
        self.obstacle: str | None = None
        """The reason for that, as a phrase."""
        self._switched_off: str | None = None
        self._limit: float | None = None

    def clamp(self, limit: float) -> None:
        """Clamps the gated product and the output of `down_proj` from here on, in our own layers and in PEFT's."""
        self._limit, self._state = limit, ()

    def switch_off(self, reason: str) -> None:
        """Lets transformers' and PEFT's own layers run from here on."""
        self._switched_off, self._state = reason, ()

    def refresh(self) -> None:
        """Groups the layers again if the block's adapters have changed."""
        norms, layers = _norms_of(self._block), _layers_of(self._block)
        frozen = [(id(norm.weight), norm.weight.requires_grad, norm.weight.dtype) for norm in norms]
        state = (*frozen, *self._hooked(), *(value for group in layers for value in state_of(group)))
        if state == self._state:
            return
        self._state, self.obstacle = state, self._find_obstacle()
        self.parts = None if self.obstacle else _parts_of(self._block, dtype=self._dtype, limit=self._limit)

    def _find_obstacle(self) -> str | None:
        norms, mlp = _norms_of(self._block), self._block.mlp
        if self._switched_off:
            return self._switched_off
        if any(norm.weight.requires_grad for norm in norms):
            return "the base is trained too"
        if any(norm.weight.dtype != self._dtype for norm in norms):
            return f"a norm is not in {self._dtype}"
        if any(self._hooked()):
            return "a layer has a hook"
        if mlp.config.hidden_act != "silu":
            return f"the MLP is gated by {mlp.config.hidden_act}"
        found = (obstacle(group, dtype=self._dtype) for group in _layers_of(self._block))
        return next((reason for reason in found if reason is not None), None)

    def ordinary(self) -> AbstractContextManager[None]:
        """To be entered while transformers' own block runs."""
        return nullcontext() if self._limit is None else clamping(self._block.mlp.down_proj, limit=self._limit)

    def _hooked(self) -> list[bool]:
        """Whether attention, MLP and activation have hooks. The norms have hooks of our own (`model.load_base`)."""
        return [has_hooks(part) for part in (self._block.self_attn, self._block.mlp, self._block.mlp.act_fn)]

    def __call__(self, x: Tensor, tree: TreeAttention, turns: tuple[Tensor, Tensor]) -> Tensor:
        """The residual stream after the block.

        Args:
            x: `[N, H]`, the residual stream.
            tree: the attention mask, and the seed of the noise.
            turns: cos and sin of the positions, `[N, 1, D]`.
        """
        assert self.parts is not None, self.obstacle
        inputs, out, mlp = self.parts.inputs, self.parts.out, self.parts.mlp
        seeds: list[int | None] = [None] * _NOISES
        if self._block.training and tree.noise_seed is not None:
            first = tree.noise_seed + self._index * _NOISES
            seeds = list(range(first, first + _NOISES))
        query, key, value = _Project.apply(x, inputs, turns, seeds[0], *inputs.linear.parameters)
        mixed = tree.attend(query, key, value, scale=self._block.self_attn.scaling).reshape(len(x), -1)
        x = _AddProjection.apply(x, mixed, out, seeds[1], *out.parameters)
        return _AddMLP.apply(x, mlp, seeds[2:], *mlp.gate_up.parameters, *mlp.down.parameters)


def _norms_of(block: Any) -> list[Any]:
    """The norms before attention and before the MLP and, in Qwen3, those of queries and keys."""
    attention = block.self_attn
    heads = [attention.q_norm, attention.k_norm] if hasattr(attention, "q_norm") else []
    return [block.input_layernorm, block.post_attention_layernorm, *heads]


def _layers_of(block: Any) -> list[list[Any]]:
    """The linear layers, grouped by their input."""
    attention, mlp = block.self_attn, block.mlp
    first = [attention.q_proj, attention.k_proj, attention.v_proj]
    return [first, [attention.o_proj], [mlp.gate_proj, mlp.up_proj], [mlp.down_proj]]


def _parts_of(block: Any, *, dtype: torch.dtype, limit: float | None) -> Parts:
    first, out, gate_up, down = (LinearGroup.of(layers, dtype=dtype) for layers in _layers_of(block))
    before_attention, before_mlp, *heads = (Norm(norm.weight, norm.variance_epsilon) for norm in _norms_of(block))
    head_norms = (heads[0], heads[1]) if heads else None
    inputs = AttentionInputs(
        norm=before_attention, linear=first, head_dim=block.self_attn.head_dim, head_norms=head_norms
    )
    return Parts(inputs=inputs, out=out, mlp=GatedMLP(before_mlp, gate_up, down, limit))


def use_packed_blocks(model: Any, *, dtype: torch.dtype) -> None:
    """Lets the blocks of a causal LM run as `PackedBlock` when their mask is a `TreeAttention`.

    Args:
        model: transformers' causal LM, with PEFT's adapters inside or without.
        dtype: of the products.
    """
    model.packed_blocks = []
    for index, block in enumerate(model.model.layers):
        block.packed_block = PackedBlock(block, index=index, dtype=dtype)
        block.forward = _with_packs(block.forward, block.packed_block)
        model.packed_blocks.append(block.packed_block)
    refresh_blocks(model)


def refresh_blocks(model: Any) -> None:
    """Brings all blocks up to date with the model's adapters. To be called before each forward pass on packs.

    Args:
        model: a causal LM. Without `use_packed_blocks`, this function does nothing.
    """
    blocks: list[PackedBlock] = getattr(model, "packed_blocks", [])
    before = {block.obstacle for block in blocks}
    for block in blocks:
        block.refresh()
    for reason in {block.obstacle for block in blocks if block.obstacle} - before:
        count = sum(block.obstacle == reason for block in blocks)
        log.warning("%d of %d blocks run as PEFT defines them, which is slower: %s", count, len(blocks), reason)
    refresh_copies([group for block in blocks if block.parts for group in block.parts.groups])


def _with_packs(ordinary: Any, packed: PackedBlock) -> Any:
    def _forward(hidden_states: Tensor, attention_mask: Any = None, **kwargs: Any) -> Tensor:
        if packed.parts is None or not isinstance(attention_mask, TreeAttention):
            with packed.ordinary():
                return ordinary(hidden_states, attention_mask=attention_mask, **kwargs)
        turns = tuple(part.squeeze(0).unsqueeze(1) for part in kwargs["position_embeddings"])
        states: Tensor = packed(hidden_states.squeeze(0), attention_mask, turns).unsqueeze(0)
        return states

    return _forward
