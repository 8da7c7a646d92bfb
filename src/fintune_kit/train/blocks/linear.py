"""Frozen linear layers with adapters. Layers with the same input run together, in few kernels.

    y = x W' + b + scale * (x * noise) A' B'                A' and B' are A and B transposed

Layers with the same input are queries, keys and values, or gate and up. They share the noise of dropout, and one
product with their A matrices, which are stacked. The scale is applied to the narrow middle, where it costs nothing. The
backward pass draws the noise again from its seed, so no noise is kept.

Autograd does not see these functions: `packed.py` calls them in the forward and backward passes of its own functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


@dataclass
class Adapter:
    """A `[rank, inputs]` and B `[outputs, rank]` of one layer in float32, and their copies in the compute dtype."""

    a: nn.Parameter
    b: nn.Parameter
    scale: float
    a_copy: Tensor
    """A view into `LinearGroup.a_together`."""
    b_copy: Tensor


@dataclass
class Linear:
    """One frozen layer, with or without an adapter."""

    module: Any
    """`nn.Linear` or bitsandbytes' `Linear4bit`."""
    adapter: Adapter | None

    def weight(self) -> Tensor:
        """`[outputs, inputs]` in the compute dtype. A 4-bit weight is unpacked at each call."""
        split = getattr(self.module, "split_weight", None)
        if split is not None:
            whole: Tensor = split.whole()
            return whole
        packed = self.module.weight
        if getattr(packed, "quant_state", None) is None:
            return packed.data
        from bitsandbytes.functional import dequantize_4bit

        weight: Tensor = dequantize_4bit(packed.data, packed.quant_state)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """`[outputs]`, or None."""
        return None if self.module.bias is None else self.module.bias.data


@dataclass
class Input:
    """The input of a group's adapters."""

    noisy: Tensor | None
    """The input after dropout, `[N, inputs]`; None without adapters."""
    kept: Tensor | None
    """bool `[N, inputs]`: True where dropout kept a value; None without dropout."""


@dataclass
class LinearGroup:
    """The linear layers that read the same input."""

    layers: Sequence[Linear]
    dropout: float
    a_together: Tensor = field(init=False)
    """`[sum of ranks, inputs]` in the compute dtype."""

    def __post_init__(self) -> None:
        adapters = self.adapters
        if adapters:
            self.a_together = torch.cat([adapter.a_copy for adapter in adapters])
            parts = self.a_together.split([len(adapter.a) for adapter in adapters])
            for adapter, part in zip(adapters, parts, strict=True):
                adapter.a_copy = part

    @classmethod
    def of(cls, modules: Sequence[Any], *, dtype: torch.dtype) -> "LinearGroup":
        """A group of a model's layers, plain ones or PEFT's, with the adapters that are active now.

        Args:
            modules: layers for which `obstacle` returns None.
            dtype: of the products.
        """
        layers, dropout = [], 0.0
        for module in modules:
            names = active_adapters(module)
            if not names:
                layers.append(Linear(base_of(module), None))
                continue
            (name,) = names
            a, b = module.lora_A[name].weight, module.lora_B[name].weight
            copies = (matrix.detach().to(dtype, copy=True) for matrix in (a, b))
            layers.append(Linear(base_of(module), Adapter(a, b, module.scaling[name], *copies)))
            dropout = getattr(module.lora_dropout[name], "p", 0.0)
        return cls(layers, dropout)

    @property
    def adapters(self) -> list[Adapter]:
        """The layers' adapters, in the order of the layers."""
        return [layer.adapter for layer in self.layers if layer.adapter is not None]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A and B of each adapter, in the order of `backward`'s gradients."""
        return [matrix for adapter in self.adapters for matrix in (adapter.a, adapter.b)]

    def read(self, x: Tensor, *, seed: int | None) -> Input:
        """The adapters' input, from `x [N, inputs]`.

        Args:
            seed: of dropout's noise; None for no dropout, as in evaluation.
        """
        if not self.adapters:
            return Input(None, None)
        if not self.dropout or seed is None:
            return Input(x, None)
        kept = noise(x.shape, share=1.0 - self.dropout, seed=seed, device=x.device)
        return Input(x * kept, kept)

    def narrow(self, read: Input) -> Tensor | None:
        """The scaled products with the A matrices, `[N, sum of ranks]`; None without adapters."""
        return None if read.noisy is None else self._scaled(read.noisy @ self.a_together.T, noisy=read.kept is not None)

    def outputs(self, x: Tensor, narrow: Tensor | None) -> list[Tensor]:
        """`[N, outputs]` of each layer."""
        found = []
        middles = self._by_layer(narrow)
        for layer, middle in zip(self.layers, middles, strict=True):
            weight = layer.weight()
            y = x @ weight.T if layer.bias is None else torch.addmm(layer.bias, x, weight.T)
            if layer.adapter is not None and middle is not None:
                y.addmm_(middle, layer.adapter.b_copy.T)
            found.append(y)
        return found

    def backward(self, gradients: Sequence[Tensor], read: Input, narrow: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The gradients of the input and of `parameters`.

        Args:
            gradients: of each output, `[N, outputs]`.
            read, narrow: the same as in the forward pass.
        """
        matrices: list[Tensor] = []
        if narrow is None or read.noisy is None:
            total = None
        else:
            middles = self._by_layer(narrow)
            pairs = [(layer.adapter, g, m) for layer, g, m in zip(self.layers, gradients, middles, strict=True)]
            adapted = [(adapter, g, m) for adapter, g, m in pairs if adapter is not None and m is not None]
            back = torch.cat([g @ adapter.b_copy for adapter, g, _ in adapted], dim=1)
            back = self._scaled(back, noisy=read.kept is not None)
            of_a = back.T @ read.noisy
            ranks = [len(adapter.a) for adapter, _, _ in adapted]
            for (_, g, middle), part in zip(adapted, of_a.split(ranks), strict=True):
                matrices += [part, g.T @ middle]
            total = back @ self.a_together
            if read.kept is not None:
                total.mul_(read.kept)
        for layer, gradient in zip(self.layers, gradients, strict=True):
            weight = layer.weight()
            total = gradient @ weight if total is None else total.addmm_(gradient, weight)
        assert total is not None, "a group without layers"
        return total, matrices

    def _by_layer(self, narrow: Tensor | None) -> list[Tensor | None]:
        """Each layer's part of the narrow middle."""
        ranks = [len(layer.adapter.a) if layer.adapter else 0 for layer in self.layers]
        if narrow is None:
            return [None] * len(ranks)
        return [part if part.shape[1] else None for part in narrow.split(ranks, dim=1)]

    def _scaled(self, narrow: Tensor, *, noisy: bool) -> Tensor:
        """The product with the adapters' scale, and with the factor that balances dropout. Overwrites `narrow`."""
        scales = {adapter.scale for adapter in self.adapters}
        assert len(scales) == 1, scales
        factor = scales.pop() / (1.0 - self.dropout if noisy else 1.0)
        return narrow.mul_(factor)


def base_of(module: Any) -> Any:
    """The frozen layer, without PEFT's wrapper."""
    return module.base_layer if isinstance(module, LoraLayer) else module


def active_adapters(module: Any) -> list[str]:
    """The names of the adapters that a layer adds to its output now."""
    if not isinstance(module, LoraLayer) or module.disable_adapters or module.merged:
        return []
    return [name for name in module.active_adapters if name in module.lora_A]


def obstacle(modules: Sequence[Any], *, dtype: torch.dtype) -> str | None:
    """The reason why some layers cannot run as a group, as a phrase; None if they can."""
    factors = set()
    for module in modules:
        base, names = base_of(module), active_adapters(module)
        weight = getattr(base, "weight", None)
        packed = getattr(weight, "quant_state", None)
        if type(base) is not nn.Linear and packed is None:
            return f"a layer is a {type(base).__name__}"
        if weight is None or (packed or weight).dtype != dtype:
            return f"a weight is not in {dtype}"
        if any(parameter.requires_grad for parameter in base.parameters()):
            return "the base is trained too"
        if has_hooks(module) or has_hooks(base):
            return "a layer has a hook"
        if len(names) > 1:
            return f"{len(names)} adapters are active at once"
        if any(name in module.lora_variant or module.lora_bias.get(name, False) for name in names):
            return "an adapter is a variant of LoRA"
        if isinstance(module, LoraLayer) and module.merged and module.disable_adapters:
            return "a merged adapter is switched off"  # PEFT subtracts it from the weight before it runs
        factors |= {(module.scaling[name], getattr(module.lora_dropout[name], "p", 0.0)) for name in names}
    return "adapters of layers with the same input differ in scale or dropout" if len(factors) > 1 else None


def has_hooks(module: Any) -> bool:
    """Whether a module has a forward or backward hook."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def state_of(modules: Sequence[Any]) -> tuple[object, ...]:
    """The values from which a group of layers is made. The group must be made again when they change."""
    found: list[object] = []
    for module in modules:
        base = base_of(module)
        found += [id(module), has_hooks(module) or has_hooks(base)]
        for parameter in base._parameters.values():
            if parameter is not None:
                found += [id(parameter), parameter.dtype, parameter.device, parameter.requires_grad]
        for name in active_adapters(module):
            found += [name, id(module.lora_A[name].weight), id(module.lora_B[name].weight), module.scaling[name]]
            found += [getattr(module.lora_dropout[name], "p", 0.0), name in module.lora_variant]
        if isinstance(module, LoraLayer):
            found += [bool(module.merged), module.disable_adapters]
    return tuple(found)


def noise(shape: torch.Size, *, share: float, seed: int, device: torch.device) -> Tensor:
    """bool: True for this share of the values. The same seed on the same device gives the same values."""
    generator = torch.Generator(device)
    generator.manual_seed(seed)
    return torch.empty(shape, dtype=torch.bool, device=device).bernoulli_(share, generator=generator)


def refresh_copies(groups: Sequence[LinearGroup]) -> None:
    """Copies the current values of all adapters into their copies, in few kernels."""
    pairs = [pair for group in groups for x in group.adapters for pair in ((x.a_copy, x.a), (x.b_copy, x.b))]
    if pairs:
        copies, matrices = zip(*pairs, strict=True)
        torch._foreach_copy_(list(copies), [matrix.detach() for matrix in matrices])
