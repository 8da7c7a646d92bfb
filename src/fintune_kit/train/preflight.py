"""Tries one small QLoRA step on the card, and checks that the plan fits, before anything large is loaded.

So a session that cannot work fails in seconds, with a remedy, and not after minutes of loading. Examples: PyTorch has
no kernels for the card, bitsandbytes has no binary for this CUDA, or something else holds the card's memory.
"""

import importlib.metadata

import torch
from accelerate import PartialState
from torch import nn

from fintune_kit.errors import UserError, first_line
from fintune_kit.hardware import Finding, Machine, check_machine
from fintune_kit.plan.devices import GIB
from fintune_kit.plan.plan import Plan
from fintune_kit.recipes import TrainRecipe

SIZE = 512
"""Inputs and outputs of the test layer. bitsandbytes pages the state of matrices with 100,000 values and more, and this
one has 262,144."""


def preflight(machine: Machine, recipe: TrainRecipe, plan: Plan, *, index: int | None = None) -> list[Finding]:
    """Runs one kernel, one 4-bit layer with its backward pass, and one optimizer step on each card.

    Args:
        index: of the only card to check, because a process takes memory on each card that it touches; None for all.

    Returns:
        A finding for each check, all fine.

    Raises:
        UserError: a check failed, or the plan needs more memory than is free.
    """
    check_machine(machine, index=index)
    cards = range(len(machine.cards)) if index is None else [index] if machine.cards else []
    devices = [torch.device("cuda", card) for card in cards] or [torch.device("cpu")]
    for device in devices:
        check_room(device, plan)
        check_step(device, recipe, dtype=machine.dtype)
    layer = "a 4-bit layer, forward and backward" if recipe.quantization == "nf4" else "a layer, forward and backward"
    done = f"on {machine.name}, {machine.dtype}"
    return [
        Finding(what="kernels", fine=True, detail=f"one operation {done}"),
        Finding(what="layer", fine=True, detail=f"{layer} {done}"),
        Finding(what="optimizer", fine=True, detail=f"one step of {recipe.optimizer}"),
        Finding(what="memory", fine=True, detail=f"{plan.peak_gib:.2f} GiB planned, and free"),
    ]


def check_room(device: torch.device, plan: Plan) -> None:
    """Checks that the plan fits into the free memory of a card.

    Raises:
        UserError: the plan needs more.
    """
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    if free < plan.peak_gib * GIB - plan.memory["context"]:
        raise UserError(
            f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free on {device}, expected {plan.peak_gib:.1f} for the "
            f"plan: restart the kernels that hold the rest, or take a smaller model (FINTUNE_MODEL)"
        )


def check_step(device: torch.device, recipe: TrainRecipe, *, dtype: str) -> None:
    """Takes one step of a float32 adapter on a frozen layer, with the dtypes and the optimizer of the real run.

    Raises:
        UserError: the layer or the optimizer failed, or the step changed nothing.
    """
    compute = getattr(torch, dtype)
    try:
        layer = _frozen_layer(device, quantization=recipe.quantization, compute=compute)
        adapter = nn.Parameter(torch.full((SIZE, SIZE), 0.01, device=device))
        optimizer = _optimizer(recipe, adapter)
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == "float16")
        with torch.autocast(device.type, dtype=compute, enabled=dtype != "float32"):
            hidden = torch.linspace(-1, 1, 4 * SIZE, device=device, dtype=compute).view(4, SIZE)
            out = layer(hidden) + hidden @ adapter
            loss = out.float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        moved = float((adapter.detach() - 0.01).abs().max())
    except (RuntimeError, ImportError, AttributeError, NotImplementedError) as error:
        raise UserError(
            f"a {recipe.quantization} layer with {recipe.optimizer} failed on {device} ({first_line(error)}); "
            f"expected bitsandbytes {importlib.metadata.version('bitsandbytes')} with a binary for PyTorch "
            f"{torch.__version__} (CUDA {torch.version.cuda}): install requirements.txt, for a P100 "
            f"requirements-p100.txt, and restart"
        ) from error
    if not 0 < moved < 1:
        raise UserError(
            f"one optimizer step on {device} moved a weight by {moved}, expected about the learning rate "
            f"{recipe.learning_rate}: this build of PyTorch or bitsandbytes computes wrongly here; install the "
            f"versions of requirements.txt and restart"
        )


def _frozen_layer(device: torch.device, *, quantization: str, compute: torch.dtype) -> nn.Module:
    if quantization != "nf4":
        return nn.Linear(SIZE, SIZE, bias=False, device=device, dtype=compute).requires_grad_(False)
    import bitsandbytes as bnb

    layer: nn.Module = bnb.nn.Linear4bit(
        SIZE, SIZE, bias=False, compute_dtype=compute, compress_statistics=True, quant_type="nf4"
    )
    return layer.to(device).requires_grad_(False)


def _optimizer(recipe: TrainRecipe, adapter: nn.Parameter) -> torch.optim.Optimizer:
    """The recipe's optimizer, as transformers would make it."""
    from transformers import TrainingArguments
    from transformers.trainer import Trainer

    PartialState(cpu=adapter.device.type == "cpu")  # made here only where no process has said yet what it trains on
    arguments = TrainingArguments(
        output_dir="unused",
        optim=recipe.optimizer,
        report_to="none",
        # Otherwise transformers forgets which card and which processes this training has.
        accelerator_config={"use_configured_state": True},
    )
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    made: torch.optim.Optimizer = kind([adapter], **{**options, "lr": recipe.learning_rate})
    return made
