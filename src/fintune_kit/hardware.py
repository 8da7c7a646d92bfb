"""The abilities of this machine, and their reasons: its cards, their memory, the compute dtype, the kernels.

A card can be visible and still unusable: PyTorch builds leave old architectures out, and the first operation fails. So
`find_machine` reads what is there, and `check_machine` runs one real operation before anything large is loaded.
PyTorch is imported inside functions; without it there are no cards, and `find_machine` says so.
"""

import importlib.metadata
import importlib.util
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from fintune_kit.errors import UserError, first_line

Result = TypeVar("Result")
NO_TORCH = "PyTorch is not installed"
TORCHAO = "torchao>=0.16"
TORCHAO_REASON = "peft stops beside an older one"
"""Kaggle's and Colab's images have torchao 0.10."""
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The variable that sets PyTorch's memory on cards: its new name and its old one."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One accelerator, as the driver reports it."""

    name: str
    capability: tuple[int, int]
    """CUDA compute capability: (6, 0) is a P100, (7, 5) a T4."""
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The cards that this process can see, and how to compute on them."""

    kind: Literal["cpu", "cuda"]
    cards: tuple[Card, ...]
    dtype: Literal["float32", "float16", "bfloat16"]
    """Of the frozen weights and of autocast. Adapter and optimizer are float32 everywhere."""
    dtype_reason: str
    """Why this dtype, for logs and for the user."""
    cpu_cores: int

    @property
    def name(self) -> str:
        """For logs and figures: `2 x Tesla T4`, `CPU (2 cores)`."""
        if self.kind == "cpu":
            return f"CPU ({self.cpu_cores} cores)"
        count = f"{len(self.cards)} x " if len(self.cards) > 1 else ""
        return count + self.cards[0].name


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of `fintune-kit doctor`."""

    what: str
    fine: bool
    detail: str
    remedy: str = ""


def choose_dtype(capability: tuple[int, int] | None) -> tuple[Literal["float32", "float16", "bfloat16"], str]:
    """The compute dtype of a card and the reason. Precision is decided here and nowhere else.

    `torch.cuda.is_bf16_supported` is not asked: it counts emulation too, which a T4 has and which is slow there.

    Args:
        capability: of the card; None without a card.
    """
    if capability is None:
        return "float32", "on a CPU half precision gains little and needs loss scaling"
    major, minor = capability
    if major >= 8:
        return "bfloat16", f"sm_{major}{minor} has bfloat16 in hardware"
    return "float16", f"sm_{major}{minor} has no bfloat16 in hardware; losses are scaled"


def find_machine() -> Machine:
    """The devices that this process sees. Nothing runs on them here (see `check_machine`)."""
    has_torch = importlib.util.find_spec("torch") is not None
    cards = _find_cards() if has_torch else ()
    dtype, reason = choose_dtype(cards[0].capability if cards else None)
    return Machine(
        kind="cuda" if cards else "cpu",
        cards=cards,
        dtype=dtype,
        dtype_reason=reason if has_torch else f"{NO_TORCH}, so no card can be seen",
        cpu_cores=count_cores(),
    )


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _find_cards() -> tuple[Card, ...]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    return tuple(
        Card(name=card.name, capability=(card.major, card.minor), memory_bytes=card.total_memory) for card in found
    )


def forbid_hub_kernels() -> None:
    """Keeps bitsandbytes and transformers from fetching compiled code from the Hub, and from asking for it.

    They do so when they are imported and the package `kernels` is installed. So each room that imports one of them
    calls this first.
    """
    os.environ["USE_HUB_KERNELS"] = "0"  # for transformers, in the processes too that this one starts
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def use_expandable_segments() -> None:
    """Lets PyTorch's memory on a card grow in place, so that packs of many shapes leave no unusable gaps.

    A value of the user's stays. To be called before CUDA is initialized, which reads the variable once.
    """
    if importlib.util.find_spec("torch") is None or allocator_setting() is not None:
        return
    major, minor = importlib.metadata.version("torch").split(".")[:2]
    reads_new_name = (int(major), int(minor)) >= (2, 11)  # 2.9 ignores this setting under the new name
    os.environ[_ALLOCATOR[0] if reads_new_name else _ALLOCATOR[1]] = "expandable_segments:True"


def allocator_setting() -> str | None:
    """The setting of PyTorch's memory on cards, as `NAME=value`; None if there is none."""
    return next((f"{name}={os.environ[name]}" for name in _ALLOCATOR if os.environ.get(name)), None)


def has_kernels_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether a build for `architectures` (as `torch.cuda.get_arch_list()` gives them) runs on a card.

    Binary code runs on cards of its own major version and the same or a later minor version: an L4 (8, 9) runs sm_86.
    """
    built = [name.removeprefix("sm_").rstrip("af") for name in architectures if name.startswith("sm_")]
    return any(int(sm[:-1]) == capability[0] and int(sm[-1]) <= capability[1] for sm in built)


def in_its_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Runs a function of a module in a new process, whose memory on the cards is free again when it ends.

    A notebook checks cards in this way: half a gigabyte on each of them would be missing in the training.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def check_machine(machine: Machine, *, index: int | None = None) -> None:
    """Runs one real operation on each card.

    Args:
        index: of the only card to check; None for all.

    Raises:
        UserError: this PyTorch has no kernels for the card, or the card fails.
    """
    import torch

    for number, card in enumerate(machine.cards):
        if index not in (None, number):
            continue
        architectures = torch.cuda.get_arch_list()
        if not has_kernels_for(card.capability, architectures):
            raise UserError(missing_kernels(card, torch.__version__, architectures))
        try:
            product = torch.ones(64, 64, device=f"cuda:{number}", dtype=getattr(torch, machine.dtype)).square().sum()
            assert product.item() == 64 * 64
        except RuntimeError as error:
            raise UserError(
                f"the first operation on {card.name} failed ({first_line(error)}); expected a working card: "
                f"restart the session, and if it persists install another PyTorch build"
            ) from error


def missing_kernels(card: Card, torch_version: str, architectures: list[str]) -> str:
    """The sentence for a card that this PyTorch build was not compiled for."""
    major, minor = card.capability
    pins = "requirements-p100.txt (torch 2.7.1)" if major < 7 else "a PyTorch build for its architecture"
    return (
        f"{card.name} is sm_{major}{minor}, but PyTorch {torch_version} has kernels only for "
        f"{', '.join(architectures) or 'no card at all'}: install {pins} and restart"
    )


def doctor() -> list[Finding]:
    """A report on what this machine can run, with advice about the rest."""
    forbid_hub_kernels()
    machine = find_machine()
    findings = [
        Finding(
            what="accelerator",
            fine=bool(machine.cards),
            detail=machine.name,
            remedy="" if machine.cards else "recipe smoke runs here, others need a card (on Kaggle: GPU T4 x2)",
        ),
        Finding(what="precision", fine=True, detail=f"{machine.dtype}: {machine.dtype_reason}"),
    ]
    if importlib.util.find_spec("torch") is None:
        install = "pip install 'fintune-kit[all]'; `plan`, `recipe` and `kaggle` work without it"
        return [*findings, Finding(what="PyTorch", fine=False, detail="not installed", remedy=install)]
    try:
        check_machine(machine)
        if machine.cards:
            findings.append(Finding(what="kernels", fine=True, detail="one operation ran on each card"))
    except UserError as error:
        findings.append(Finding(what="kernels", fine=False, detail="none for this card", remedy=str(error)))
    return [*findings, _check_quantization(machine), *_check_torchao()]


def _check_torchao() -> list[Finding]:
    """A finding if torchao is so old that PEFT refuses to put an adapter on a base in 16 or 32 bits."""
    from packaging.requirements import Requirement

    wanted = Requirement(TORCHAO)
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if wanted.specifier.contains(version, prereleases=True):
        return []
    detail = f"{version}, expected none or {wanted.specifier}, because {TORCHAO_REASON}"
    return [Finding(what=wanted.name, fine=False, detail=detail, remedy=f"pip uninstall {wanted.name}")]


def _check_quantization(machine: Machine) -> Finding:
    """Quantizes one small layer to NF4 and multiplies with it, on the device that training would use."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return Finding(what="bitsandbytes", fine=False, detail="not installed", remedy="pip install bitsandbytes")
    import torch

    try:
        import bitsandbytes as bnb

        layer = bnb.nn.Linear4bit(64, 64, bias=False, quant_type="nf4", compute_dtype=getattr(torch, machine.dtype))
        layer = layer.to("cuda:0" if machine.cards else "cpu")
        out = layer(torch.ones(1, 64, device="cuda:0" if machine.cards else "cpu"))
        assert bool(torch.isfinite(out).all())
    except Exception as error:  # a broken binary may raise anything, and each error is a finding
        remedy = "reinstall bitsandbytes for this CUDA version (`python -m bitsandbytes` says which it looks for)"
        return Finding(what="bitsandbytes", fine=False, detail=f"an NF4 layer failed: {error}", remedy=remedy)
    return Finding(what="bitsandbytes", fine=True, detail="an NF4 layer ran")
