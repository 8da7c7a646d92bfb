"""The known cards, with their memory and with ranges of the rates that training reaches on them.

No card has been measured yet. The low end of a range is reported by others for such cards under load. The high end is
likely from the vendor's peak. `benchmarks/card` measures a card.
"""

from dataclasses import dataclass, replace

from fintune_kit.hardware import Card, Machine

GIB = 2**30
Range = tuple[float, float]
"""Low and high."""


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
    """The engine that plans for it (`engines.py`): `cuda`, `cpu`, or one that another room has registered."""
    cards: int = 1
    memory_gib: float
    """The memory of one card that PyTorch may use, without the driver's share."""
    capability: tuple[int, int] | None
    """CUDA compute capability; None without CUDA."""
    tflops: Range
    """The rate of one card for large products in the compute dtype with float32 accumulation."""
    faster_in_half: float = 1.0
    """The factor on this rate if float16 products are also added up in float16."""
    attention_rate: float = 0.3
    """The share of `tflops` that the attention kernel reaches in small blocks with a mask."""
    bandwidth: Range = (1e9, 1e9)
    """GB/s of one card's memory."""
    microseconds_a_kernel: Range = (0.0, 0.0)
    """The host's time to start one kernel through Python and PyTorch."""
    link: Range = (5.0, 10.0)
    """GB/s between the cards of one machine."""
    assumption: str
    """The reason for the ranges."""
    kaggle: KaggleSession | None = None


CARDS: tuple[Device, ...] = (
    Device(
        name="p100",
        memory_gib=15.9,
        capability=(6, 0),
        tflops=(6.0, 8.8),
        faster_in_half=2.0,
        attention_rate=0.6,
        bandwidth=(480.0, 600.0),
        microseconds_a_kernel=(8.0, 25.0),
        assumption="no tensor cores: float16 products with float32 accumulation run at the float32 rate, 9.3 TFLOP/s",
        kaggle=GPU_SESSION,
    ),
    Device(
        name="t4",
        memory_gib=14.7,
        capability=(7, 5),
        tflops=(16.0, 27.0),
        bandwidth=(220.0, 270.0),
        microseconds_a_kernel=(8.0, 25.0),
        assumption="a T4 throttles to 70 W long before its peak of 65 TFLOP/s; 320 GB/s",
        kaggle=GPU_SESSION,
    ),
    Device(
        name="t4x2",
        cards=2,
        memory_gib=14.7,
        capability=(7, 5),
        tflops=(16.0, 27.0),
        bandwidth=(220.0, 270.0),
        microseconds_a_kernel=(8.0, 30.0),
        assumption="two T4, one process a card; the adapter's gradients are summed over PCIe once a step",
        kaggle=GPU_SESSION,  # two T4 in one session are counted once
    ),
    Device(
        name="l4",
        memory_gib=22.0,
        capability=(8, 9),
        tflops=(38.0, 62.0),
        bandwidth=(210.0, 265.0),
        microseconds_a_kernel=(7.0, 20.0),
        assumption="an L4 throttles to 72 W and has 300 GB/s",
    ),
    Device(
        name="a100",
        memory_gib=39.4,
        capability=(8, 0),
        tflops=(150.0, 230.0),
        bandwidth=(1_100.0, 1_350.0),
        microseconds_a_kernel=(7.0, 20.0),
        assumption="40 GB card, 312 TFLOP/s at its peak and 1,555 GB/s",
    ),
    Device(
        name="h100",
        memory_gib=79.1,
        capability=(9, 0),
        tflops=(350.0, 620.0),
        bandwidth=(2_200.0, 2_900.0),
        microseconds_a_kernel=(6.0, 16.0),
        assumption="dense bfloat16, 989 TFLOP/s at its peak and 3,350 GB/s",
    ),
    Device(
        name="h200",
        memory_gib=139.8,
        capability=(9, 0),
        tflops=(350.0, 650.0),
        bandwidth=(3_100.0, 4_200.0),
        microseconds_a_kernel=(6.0, 16.0),
        assumption="as the H100, with more and faster memory (4,800 GB/s)",
    ),
)

CPU = Device(
    name="cpu",
    kind="cpu",
    memory_gib=12.0,
    capability=None,
    tflops=(0.02, 0.08),
    bandwidth=(8.0, 20.0),
    assumption="two cores with AVX2; only the smoke recipe is meant for it",
)


def device_of(machine: Machine, *, processes: int | None = None) -> Device:
    """The planner's device for this machine: a card that is known by its name, with the memory of the real card.

    Args:
        processes: the number of processes, each with its own card or with a share of the CPU; None for one per card.
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
    """The known card of the nearest generation and, among several, with the nearest memory."""
    gib = card.memory_bytes / GIB

    def _distance(device: Device) -> tuple[int, float]:
        assert device.capability is not None
        return abs(device.capability[0] - card.capability[0]), abs(device.memory_gib - gib)

    return min((device for device in CARDS if device.cards == 1), key=_distance)
