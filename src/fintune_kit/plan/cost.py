"""What a run costs on a card, by arithmetic that a reader can follow: bytes by part, operations, hours as a range.

Sizes come from the model's own config; what the arithmetic cannot know (how much of its peak a card reaches) is a range
in `DEVICES`, with its assumption. Nothing here touches a device.
"""

from dataclasses import dataclass
from typing import Any, Literal

from fintune_kit.recipes import LoraRecipe

GIB = 2**30
UNPACK = 200.0
"""Operations that fit in the time of unpacking one 4-bit weight: 2.5 bytes at 320 GB/s, beside 25 TFLOP/s (a T4)."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A card, or several of one kind, as the planner knows it."""

    name: str
    kind: Literal["cpu", "cuda", "tpu"] = "cuda"
    cards: int = 1
    memory_gib: float
    """Of one card, what PyTorch may use once the driver has taken its share."""
    capability: tuple[int, int] | None
    peak_tflops: float
    """Of one card, in the compute dtype with float32 accumulation."""
    faster_in_half: float = 1.0
    """How much faster float16 products are that are also added up in float16."""
    reached: tuple[float, float]
    """Share of the peak that NF4 training reaches, low and high. Assumed, until a card is measured."""
    assumption: str

    @property
    def half_peak_tflops(self) -> float:
        """Of one card, with float16 accumulation."""
        return self.peak_tflops * self.faster_in_half


DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        Device(
            name="p100",
            memory_gib=15.9,
            capability=(6, 0),
            peak_tflops=9.3,
            faster_in_half=2.0,
            reached=(0.65, 0.95),
            assumption="no tensor cores: float16 products that accumulate in float32 run at the float32 rate",
        ),
        Device(
            name="t4",
            memory_gib=14.7,
            capability=(7, 5),
            peak_tflops=65.0,
            reached=(0.25, 0.42),
            assumption="a T4 throttles to 70 W long before its peak of 65 TFLOP/s",
        ),
        Device(
            name="t4x2",
            cards=2,
            memory_gib=14.7,
            capability=(7, 5),
            peak_tflops=65.0,
            reached=(0.24, 0.40),
            assumption="two T4, one process a card; gradients of the adapter are averaged over PCIe once a step",
        ),
        Device(
            name="l4",
            memory_gib=22.0,
            capability=(8, 9),
            peak_tflops=121.0,
            reached=(0.28, 0.45),
            assumption="an L4 throttles to 72 W and has 300 GB/s",
        ),
        Device(
            name="a100",
            memory_gib=39.4,
            capability=(8, 0),
            peak_tflops=312.0,
            reached=(0.30, 0.50),
            assumption="40 GB card; dequantizing NF4 costs about a tenth",
        ),
        Device(
            name="h100",
            memory_gib=79.1,
            capability=(9, 0),
            peak_tflops=989.0,
            reached=(0.20, 0.40),
            assumption="dense bfloat16; the adapter's small products do not fill the card",
        ),
        Device(
            name="h200",
            memory_gib=139.8,
            capability=(9, 0),
            peak_tflops=989.0,
            reached=(0.20, 0.42),
            assumption="as the H100, with more and faster memory",
        ),
        Device(
            name="v5e8",
            kind="tpu",
            cards=8,
            memory_gib=15.75,
            capability=None,
            peak_tflops=197.0,
            reached=(0.20, 0.40),
            assumption="eight v5e; XLA's cost model says 0.43 without attention and noise (results/tpu-cycles.md)",
        ),
        Device(
            name="cpu",
            kind="cpu",
            memory_gib=12.0,
            capability=None,
            peak_tflops=0.1,
            reached=(0.2, 0.8),
            assumption="two cores with AVX2; only the smoke recipe is meant for it",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Recompute:
    """Activations that are computed again in the backward pass instead of being kept (see `recompute`)."""

    cheap_parts: bool = False
    """Adapters' inputs, gated products, attention's inner values, in every block."""
    blocks: int = 0
    """Blocks that keep nothing but their input."""

    @property
    def cost(self) -> tuple[int, bool]:
        """Orders them by what they cost."""
        return self.blocks, self.cheap_parts

    def describe(self) -> str:
        """In words."""
        parts = ["cheap parts"] * self.cheap_parts + [f"{self.blocks} whole block(s)"] * bool(self.blocks)
        return " and ".join(parts) or "nothing"


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a dense Qwen2 or Qwen3, from its config."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool

    @classmethod
    def of(cls, config: Any) -> "ModelShape":
        """Reads a transformers config."""
        heads = config.num_attention_heads
        return cls(
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            ffn=config.intermediate_size,
            vocab=config.vocab_size,
            tied=bool(config.tie_word_embeddings),
        )

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of one block."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, q),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (q, self.hidden),
            "gate_proj": (self.hidden, self.ffn),
            "up_proj": (self.hidden, self.ffn),
            "down_proj": (self.ffn, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all projections, those that NF4 holds: 2,774,532,096 of the 3B."""
        return self.layers * sum(i * o for i, o in self.projections.values())

    def adapter_parameters(self, lora: LoraRecipe) -> int:
        """Values in the adapter: rank x (inputs + outputs) of each target; 119,734,272 for the p100 recipe."""
        targets = [self.projections[name] for name in lora.target_modules if name in self.projections]
        return self.layers * sum(lora.rank * (i + o) for i, o in targets)


def memory_by_part(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    max_length: int,
    micro_batch: int,
    recompute: Recompute,
    half: bool,
    quantized: bool,
    head_chunk: int,
    keys: int,
    supervised_share: float = 0.25,
    context_bytes: int = 700 * 2**20,
) -> dict[str, int]:
    """Peak bytes on one card, by what takes them.

    Args:
        micro_batch: packs in one forward pass.
        half: whether the compute dtype has two bytes (the residual stream has four on cards without bfloat16).
        keys: that a query is multiplied with.
        supervised_share: positions that reach the head; the head's gradient is held for these in float32.
        context_bytes: the CUDA context, cuBLAS workspaces and what the allocator rounds up.
    """
    width = 2 if half else 4
    tokens = micro_batch * max_length
    adapters = shape.adapter_parameters(lora)
    block = tokens * bytes_a_position(shape, lora=lora, width=width, cheap_parts=recompute.cheap_parts, keys=keys)
    kept = (shape.layers - recompute.blocks) * block + recompute.blocks * tokens * 4 * shape.hidden
    kept += block if recompute.blocks else 0  # the one that is being computed again
    projections = round(shape.linear_parameters * (0.5 + 1 / 64 + 4 / (64 * 256))) if quantized else 0
    return {
        "weights": projections or shape.linear_parameters * width,
        "embeddings": shape.vocab * shape.hidden * width * (1 if shape.tied else 2),
        "dequantized": max(i * o for i, o in shape.projections.values()) * width if quantized else 0,
        "adapters": adapters * 4,
        "gradients": adapters * 4,
        "optimizer": round(adapters * 2 * (1 + 4 / 256)),
        "activations": kept,
        "backward": tokens * width * 4 * shape.ffn,  # slopes of gate and up, their product, what is made of them
        "mask": tokens * keys * (1 + (width if half else 0)),
        "head": 2 * head_chunk * shape.vocab * 4
        + head_chunk * shape.vocab * width
        + round(tokens * supervised_share) * shape.hidden * 8,
        "context": context_bytes,
    }


def bytes_a_position(shape: ModelShape, *, lora: LoraRecipe, width: int, cheap_parts: bool, keys: int) -> int:
    """What one block keeps of one position for the backward pass.

    Checked against PyTorch's own count for one block of the 3B in float32: 372,552 and 141,202 bytes
    (`tests/train/test_recompute.py`).

    Args:
        width: bytes of the compute dtype.
        cheap_parts: whether these are recomputed.
        keys: that a query is multiplied with; their copies for each chunk of queries are kept too.
    """
    hidden, ffn, q, kv = shape.hidden, shape.ffn, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    low_rank = len(lora.target_modules) * 2 * width * lora.rank
    residual = 2 * 4 * hidden  # before each norm
    if cheap_parts:
        return residual + low_rank + width * (2 * hidden + (q + 2 * kv) + q + 2 * ffn)
    inputs = sum(shape.projections[name][0] for name in lora.target_modules)
    adapter_inputs = (width + (1 if lora.dropout else 0)) * inputs  # what dropout leaves, and its noise
    chunks = max(1, round(keys / 256))  # each position's key and value is copied for about as many chunks of queries
    attention = width * (q + 2 * kv + 2 * q + 2 * q * chunks)
    return residual + low_rank + 2 * width * hidden + adapter_inputs + attention + width * 4 * ffn


def operations(
    shape: ModelShape,
    *,
    lora: LoraRecipe,
    positions: int,
    supervised: int,
    keys: int,
    recompute: Recompute,
    micro_batches: int = 0,
) -> float:
    """Floating-point operations of one pass over `positions` pack positions, forward and backward.

    A frozen weight costs 2 operations a position forward and 2 backward (no gradient of its own), and 2 more in blocks
    that are repeated; an adapter 2, 4 and 2. The head runs forward and backward on supervised positions.

    Args:
        keys: that a query is multiplied with, masked or not.
        micro_batches: in which 4-bit weights are unpacked; 0 where there are none.
    """
    again = recompute.blocks / shape.layers
    frozen = 2.0 * shape.linear_parameters * (2 + again)
    adapter = 2.0 * shape.adapter_parameters(lora) * (3 + again)
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * keys * (3 + max(again, recompute.cheap_parts))
    head = 2.0 * shape.vocab * shape.hidden * 2
    unpacking = micro_batches * shape.linear_parameters * UNPACK * (2 + again)
    return positions * (frozen + adapter + attention) + supervised * head + unpacking


def hours(work: float, device: Device, *, half_accumulation: bool = False) -> tuple[float, float]:
    """Low and high estimate of the hours that `work` operations take on all of a device's cards."""
    low, high = device.reached
    rate = (device.half_peak_tflops if half_accumulation else device.peak_tflops) * 1e12 * device.cards
    return work / (rate * high) / 3600, work / (rate * low) / 3600
