"""The costs of one block of a model in a training step: kernel launches, bytes through memory, operations, host time.

Twice: as transformers and PEFT define it, and as training runs it (`train/blocks`). Attention is the same in both.

    python benchmarks/step_cost.py --config ../shared/data/qwen-configs/Qwen2.5-3B-Instruct [--out results/step-cost]

Counted, not timed on a card. The block runs forward and backward with float16 weights in NF4, adapters and dropout, as
on a T4. No number is computed (PyTorch's fake tensors), so real sizes take seconds: a dispatch mode sees every operator
with its tensors. One block is the difference between a model of two blocks and one of a single block.

    launches   operators that start a kernel; views do not. Operators that start several are counted so (`KERNELS`)
    bytes      tensors read and written by these operators, each tensor of an operator once
    host       milliseconds of Python and dispatch (processor time of one thread), by running a tiny block on this CPU
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fintune_kit.chat.examples import IGNORE

LENGTH = 2048
RANK = 64
KERNELS = {
    "gemm_4bit": 4,  # the scales' own scales, their offset, the weights, and the product
    "dequantize_4bit": 1,
    "dequantize_blockwise": 1,
    "sort": 3,
    "_scaled_dot_product_flash_attention_for_cpu_backward": 4,
    "nonzero": 3,
}
"""Operators that start more than one kernel on a card; all others start one."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "gemm_4bit")


@dataclass
class Cost:
    """Sums over the operators that were seen."""

    launches: int = 0
    flops: float = 0.0
    bytes_by_kind: Counter[str] = field(default_factory=Counter)
    launches_by_operator: Counter[str] = field(default_factory=Counter)
    bytes_by_operator: Counter[str] = field(default_factory=Counter)

    def minus(self, other: "Cost") -> "Cost":
        """The additional costs of this one."""
        return Cost(
            launches=self.launches - other.launches,
            flops=self.flops - other.flops,
            bytes_by_kind=difference(self.bytes_by_kind, other.bytes_by_kind),
            launches_by_operator=difference(self.launches_by_operator, other.launches_by_operator),
            bytes_by_operator=difference(self.bytes_by_operator, other.bytes_by_operator),
        )


def difference(ours: Counter[str], theirs: Counter[str]) -> Counter[str]:
    """Counts that are left, zero and negative ones included where they are not zero."""
    return Counter({key: ours[key] - theirs[key] for key in {*ours, *theirs} if ours[key] != theirs[key]})


class Count(TorchDispatchMode):
    """Counts every operator below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if not starts_a_kernel(func, name, given, made):
            return out
        kernels = KERNELS.get(name, 1)
        moved = sum(bytes_of(t) for t in {id(t): t for t in given}.values()) + sum(bytes_of(t) for t in made)
        self.cost.launches += kernels
        self.cost.launches_by_operator[name] += kernels
        self.cost.bytes_by_kind[kind_of(name, [*given, *made])] += moved
        self.cost.bytes_by_operator[name] += moved
        self.cost.flops += operations(name, given, made)
        return out


def starts_a_kernel(func: Any, name: str, given: list[Tensor], made: list[Tensor]) -> bool:
    """Whether an operator does any work: views and allocations do not."""
    if func.is_view or not made or name.startswith(("empty", "new_empty")):
        return False
    if name in ("_unsafe_view", "_reshape_alias", "alias", "set_", "detach", "lift_fresh"):
        return False
    if name in ("zeros", "ones", "full", "zeros_like", "arange", "scalar_tensor", "full_like", "new_zeros"):
        return sum(t.numel() for t in made) > 1
    return any(t.numel() > 1 for t in [*given, *made])


def bytes_of(tensor: Tensor) -> int:
    """Bytes that a kernel touches: a dimension that is expanded is read once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride or size == 1 else 1
    return count * tensor.element_size()


def kind_of(name: str, tensors: list[Tensor]) -> str:
    """The purpose of an operator."""
    if "attention" in name:
        return "attention"
    if "dequantize" in name:
        return "dequantization"
    if name.rstrip("_") not in PRODUCTS:
        return "elementwise"
    narrow = min(size for tensor in tensors if tensor.dim() > 1 for size in tensor.shape) <= 3 * RANK
    return "narrow products" if narrow and name != "gemm_4bit" else "products"


def operations(name: str, given: list[Tensor], made: list[Tensor]) -> float:
    """Multiplications and additions of products; attention's are left out."""
    name = name.rstrip("_")
    if name in ("mm", "bmm", "addmm", "baddbmm"):
        left = given[1] if name in ("addmm", "baddbmm") else given[0]
        return 2.0 * left.shape[-1] * made[0].numel()
    return 2.0 * given[0].shape[-1] * made[0].numel() if name == "gemm_4bit" else 0.0


def a_pack() -> dict[str, NDArray[np.int64]]:
    """A pack as the stand-in's are: one system prompt, and twelve texts of unequal length below it."""
    ends, position = np.zeros(LENGTH, np.int64), np.zeros(LENGTH, np.int64)
    borders = [0, 30, 200, 420, 560, 700, 1000, 1130, 1400, 1500, 1760, 1900, LENGTH]
    for first, last in pairwise(borders):
        depth = 0 if first == 0 else 30
        ends[first:last] = LENGTH if first == 0 else last
        position[first:last] = np.arange(depth, depth + last - first)
    labels = np.where(position % 8 == 0, 0, IGNORE)
    columns = {"input_ids": np.zeros(LENGTH, np.int64), "position_ids": position, "subtree_end": ends}
    columns |= {"shift_labels": labels, "loss_weight": (labels != IGNORE).astype(np.int64)}
    return {name: column[None] for name, column in columns.items()}


def make_tiny(config: Any) -> None:
    """The same block with the smallest sizes that its parts allow."""
    config.head_dim = 16
    config.hidden_size, config.intermediate_size = 16 * config.num_attention_heads, 128


def make_model(config: Any, folder: Path, *, layers: int, dtype: str, packed: bool) -> Any:
    """A base of so many random blocks with the recipe's adapter: `packed` as training runs it, else as PEFT does."""
    from transformers import AutoModelForCausalLM

    from fintune_kit.recipes import LoraRecipe
    from fintune_kit.train.blocks.packed import use_packed_blocks
    from fintune_kit.train.blocks.weights import keep_ready
    from fintune_kit.train.model import add_adapter, load_base

    config.num_hidden_layers, config.vocab_size = layers, 256
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1] * layers
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    base = load_base(folder, dtype=dtype, quantization="nf4", device="cpu")
    rank = min(RANK, config.hidden_size // 2)
    model = add_adapter(base, LoraRecipe(rank=rank, alpha=2 * rank, dropout=0.05), seed=0).train()
    if packed:
        keep_ready(model, dense=False)
        use_packed_blocks(base, dtype=getattr(torch, dtype))
    return model


def dropout_of_a_card(values: Tensor, p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> Tensor:
    """The operator that a card uses; a CPU would take three others."""
    return torch.native_dropout(values, p, training)[0]


def run_once(model: Any, batch: Any, *, dtype: str) -> None:
    """The backbone forward and backward on one pack."""
    from fintune_kit.train.loss import laid_out_states

    with torch.autocast("cpu", dtype=getattr(torch, dtype), enabled=dtype != "float32"):
        hidden = laid_out_states(model.get_base_model(), batch, noise_seed=0)
    hidden.backward(torch.ones_like(hidden))


def count(config: Any, *, layers: int, dtype: str, packed: bool) -> Cost:
    """The cost of a model with so many blocks."""
    from fintune_kit.train.batch import lay_out

    with tempfile.TemporaryDirectory() as folder:
        model = make_model(config, Path(folder), layers=layers, dtype=dtype, packed=packed)
    batch = lay_out(a_pack())
    with FakeTensorMode(allow_non_fake_inputs=True), Count() as counted:
        run_once(model, batch, dtype=dtype)
    return counted.cost


def host_milliseconds(config: Any, *, packed: bool, repeats: int = 30) -> float:
    """Host time of one block, forward and backward.

    All sizes are tiny, so that kernels take next to no time. The dtype is float32, since this CPU has slow kernels for
    half precision: so the casts of a card are not in it.
    """
    from fintune_kit.train.batch import QUERY_CHUNK, lay_out

    make_tiny(config)
    small = 32
    columns = {name: column[:, ::small] for name, column in a_pack().items()}
    columns["subtree_end"] = -(-columns["subtree_end"] // small)
    batch = lay_out(columns, chunk=QUERY_CHUNK // small)
    seconds = {}
    for layers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            model = make_model(config, Path(folder), layers=layers, dtype="float32", packed=packed)
        for _ in range(5):
            run_once(model, batch, dtype="float32")
        taken = []
        for _ in range(repeats):
            began = time.process_time()
            run_once(model, batch, dtype="float32")
            taken.append(time.process_time() - began)
        seconds[layers] = min(taken)
    return 1000 * (seconds[2] - seconds[1])


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a card: values that Python reads, and results of unknown size."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        by_mask = name == "index" and any(t is not None and t.dtype is torch.bool for t in args[1])
        self.count += name in ("_local_scalar_dense", "nonzero") or by_mask
        return func(*args, **(kwargs or {}))


def waits_of_a_micro_batch(config: Any, *, packed: bool) -> int:
    """How often the host waits in one micro-batch, from the columns of a pack to the gradients."""
    from fintune_kit.train.batch import lay_out

    make_tiny(config)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(config, Path(folder), layers=1, dtype="float32", packed=packed)
    batch = lay_out(a_pack())
    tolist = Tensor.tolist
    with Waits() as waits:

        def counted(tensor: Tensor) -> Any:
            waits.count += 1
            return tolist(tensor)

        Tensor.tolist = counted
        try:
            model(micro_batch=batch, noise_seed=0).loss.backward()
        finally:
            Tensor.tolist = tolist
    return waits.count


@dataclass
class Found:
    """All that is said of one way to run a block."""

    cost: Cost
    host_milliseconds: float
    waits: int
    """Of a micro-batch."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `dataclasses.asdict` would make a counter of pairs of a counter."""
        cost = {name: dict(v) if isinstance(v, Counter) else v for name, v in vars(self.cost).items()}
        return cost | {"host_milliseconds": self.host_milliseconds, "waits": self.waits}


def measure(folder: Path, *, dtype: str, packed: bool) -> Found:
    """One block: the difference between two blocks and one."""
    from transformers import AutoConfig

    def config() -> Any:
        return AutoConfig.from_pretrained(folder)

    two, one = (count(config(), layers=layers, dtype=dtype, packed=packed) for layers in (2, 1))
    host = host_milliseconds(config(), packed=packed)
    return Found(two.minus(one), host, waits_of_a_micro_batch(config(), packed=packed))


def as_table(name: str, before: Found, after: Found, *, layers: int) -> str:
    """The counts of one block and of the whole model."""
    lines = [
        f"# What a pack of {LENGTH:,} costs in one block of {name}, forward and backward",
        "",
        f"| | transformers and PEFT | ours | times fewer | ours, {layers} blocks |",
        "|---|---|---|---|---|",
    ]

    def row(title: str, old: float, new: float, form: str, unit: str = "") -> str:
        factor = f"{old / new:.2f}" if new else "-"
        return f"| {title} | {old:{form}}{unit} | {new:{form}}{unit} | {factor} | {new * layers:,.0f}{unit} |"

    costs = (before.cost, after.cost)
    lines.append(row("kernel launches", *(cost.launches for cost in costs), ",.0f"))
    lines += [
        row(f"bytes, {kind}", *(cost.bytes_by_kind[kind] / 1e9 for cost in costs), ".2f", " GB")
        for kind in ("elementwise", "narrow products", "products", "attention", "dequantization")
    ]
    lines += [
        row("bytes, all", *(sum(cost.bytes_by_kind.values()) / 1e9 for cost in costs), ".2f", " GB"),
        row("operations of products", *(cost.flops / 1e12 for cost in costs), ".3f", " T"),
        row("host time, tiny sizes on this CPU", before.host_milliseconds, after.host_milliseconds, ".1f", " ms"),
        f"| the host waits in a micro-batch, loss included | {before.waits} | {after.waits} | | |",
        "",
        "| operator of ours | launches | GB |",
        "|---|---|---|",
    ]
    lines += [
        f"| {operator} | {after.cost.launches_by_operator[operator]} | {moved / 1e9:.3f} |"
        for operator, moved in after.cost.bytes_by_operator.most_common()
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the cost of a block."""
    from transformers import AutoConfig

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="folder with the model's config.json")
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    parser.add_argument("--dtype", default="float16", choices=("float16", "bfloat16"), help="float16, as on a T4")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.nn.functional.dropout = dropout_of_a_card
    layers = AutoConfig.from_pretrained(arguments.config).num_hidden_layers
    before, after = (measure(arguments.config, dtype=arguments.dtype, packed=packed) for packed in (False, True))
    text = as_table(arguments.config.name, before, after, layers=layers)
    print(text)
    if arguments.out:
        found = {"transformers_and_peft": before.as_dict(), "ours": after.as_dict(), "layers": layers}
        arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
