"""The cards that are known, and what they can do: memory, peak rate, and the share of it that training reaches.

The share is a range with its assumption, until a card is measured.
"""

from dataclasses import dataclass, replace

from fintune_kit.hardware import Card, Machine

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class KaggleSession:
    """The limits of Kaggle's free sessions with a device."""

    hours: float
    """Of one session."""
    hours_a_week: int
    quota: str
    """The name of the weekly quota: `GPU` or `TPU`."""


GPU_SESSION = KaggleSession(hours=12.0, hours_a_week=30, quota="GPU")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A card, or several of one kind, as the planner knows it."""

    name: str
    kind: str = "cuda"
    """Which engine plans for it (`engines.py`): `cuda`, `cpu`, or one that another room has registered."""
    cards: int = 1
    memory_gib: float
    """Of one card: what PyTorch may use after the driver has taken its share."""
    capability: tuple[int, int] | None
    """CUDA compute capability; None without CUDA."""
    peak_tflops: float
    """Of one card, in the compute dtype with float32 accumulation."""
    faster_in_half: float = 1.0
    """How much faster float16 products are that are also added up in float16."""
    reached: tuple[float, float]
    """Share of the peak that NF4 training reaches, low and high. Assumed, until a card is measured."""
    assumption: str
    """The reason for `reached`."""
    kaggle: KaggleSession | None = None

    @property
    def half_peak_tflops(self) -> float:
        """Of one card, with float16 accumulation."""
        return self.peak_tflops * self.faster_in_half


CARDS: tuple[Device, ...] = (
    Device(
        name="p100",
        memory_gib=15.9,
        capability=(6, 0),
        peak_tflops=9.3,
        faster_in_half=2.0,
        reached=(0.65, 0.95),
        assumption="no tensor cores: float16 products that accumulate in float32 run at the float32 rate",
        kaggle=GPU_SESSION,
    ),
    Device(
        name="t4",
        memory_gib=14.7,
        capability=(7, 5),
        peak_tflops=65.0,
        reached=(0.25, 0.42),
        assumption="a T4 throttles to 70 W long before its peak of 65 TFLOP/s",
        kaggle=GPU_SESSION,
    ),
    Device(
        name="t4x2",
        cards=2,
        memory_gib=14.7,
        capability=(7, 5),
        peak_tflops=65.0,
        reached=(0.24, 0.40),
        assumption="two T4, one process a card; gradients of the adapter are averaged over PCIe once a step",
        kaggle=GPU_SESSION,  # two T4 in one session are counted once
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
)

CPU = Device(
    name="cpu",
    kind="cpu",
    memory_gib=12.0,
    capability=None,
    peak_tflops=0.1,
    reached=(0.2, 0.8),
    assumption="two cores with AVX2; only the smoke recipe is meant for it",
)


def device_of(machine: Machine, *, processes: int | None = None) -> Device:
    """The planner's entry for this machine: a known card by its name, with the memory that it really has.

    Args:
        processes: how many will run, each on a card of its own or a share of the CPU; None for one a card.
    """
    if machine.kind == "cpu":
        count = processes or 1
        return replace(CPU, cards=count, memory_gib=CPU.memory_gib / count)
    card, count = machine.cards[0], processes or len(machine.cards)
    named = [device for device in CARDS if device.cards == 1 and device.name in card.name.lower()]
    known = named[0] if named else _nearest(card)
    return replace(
        known,
        name=known.name if count == 1 else f"{known.name}x{count}",
        cards=count,
        memory_gib=card.memory_bytes / GIB,
        capability=card.capability,
        assumption=known.assumption if named else f"{card.name} is not known; rates of the {known.name}",
    )


def _nearest(card: Card) -> Device:
    """The known card of the nearest generation, and among these of the nearest memory."""
    gib = card.memory_bytes / GIB

    def distance(device: Device) -> tuple[int, float]:
        assert device.capability is not None
        return abs(device.capability[0] - card.capability[0]), abs(device.memory_gib - gib)

    return min((device for device in CARDS if device.cards == 1), key=distance)
