"""Loads the quantized base model and puts an adapter on it, in exactly the dtypes of the plan.

frozen    4-bit NF4 blocks (uint8) of the seven projections; embeddings and norms in the compute dtype
trainable adapter matrices in float32: float16 gradients cannot be unscaled, bfloat16 matrices lose small updates
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from fintune_kit.errors import UserError, first_line
from fintune_kit.hub import find_hub_fault
from fintune_kit.recipes import LoraRecipe
from fintune_kit.train.attention import TREE_ATTENTION
from fintune_kit.train.loss import enable_packs

SUPPORTED = ("qwen2", "qwen3")
HYBRID = ", whose linear-attention layers carry a state through a pack: its examples would see one another"


def load_config(source: str | Path) -> Any:
    """The transformers config of a base model.

    Raises:
        UserError: no model was found, it is not a dense Qwen2 or Qwen3, or it asks for code from the hub.
    """
    if fault := find_hub_fault(source, file="config.json"):
        raise _no_model(source, fault)
    try:
        config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:  # a config that someone else wrote can make transformers raise anything
        raise _no_model(source, first_line(error)[:300]) from error
    if config.model_type not in SUPPORTED:
        layers = getattr(getattr(config, "text_config", config), "layer_types", None) or ()
        raise UserError(
            f"{str(source)!r} is a {config.model_type} model{HYBRID if 'linear_attention' in layers else ''}; expected "
            f"one of {', '.join(SUPPORTED)}: name another with FINTUNE_MODEL"
        )
    if "/" in str(config._attn_implementation):  # transformers takes an implementation `owner/name` from the hub
        raise UserError(
            f"{str(source)!r} asks for code from the hub (attn_implementation {config._attn_implementation!r}); "
            f"expected a model without code: delete this line from its config.json, or name another with FINTUNE_MODEL"
        )
    return config


def _no_model(source: str | Path, why: str) -> UserError:
    return UserError(
        f"no model was found at {str(source)!r} ({why}); expected a hub id or a folder with config.json: set "
        f"FINTUNE_MODEL to one, or turn the internet on"
    )


def _no_weights(source: str | Path, why: str) -> UserError:
    return UserError(
        f"the weights of {str(source)!r} could not be loaded ({why}); expected whole safetensors of the sizes in "
        f"config.json there: check the name, copy them again, or turn the internet on"
    )


def load_base(
    source: str | Path,
    *,
    dtype: str,
    quantization: str,
    device: str,
    head_chunk: int = 256,
    attention: str = TREE_ATTENTION,
) -> PreTrainedModel:
    """Loads a base model, frozen, and lets it read packs.

    Args:
        source: hub id or folder with safetensors.
        dtype: compute dtype, `float32`, `float16` or `bfloat16`.
        quantization: `nf4` (double quantization) or `none`.
        device: `cpu`, `cuda:0`, ...
        head_chunk: tokens whose logits exist at once (see `loss`).

    Raises:
        UserError: the model is missing, or its type is not supported.
    """
    load_config(source)
    compute = getattr(torch, dtype)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(source),
            dtype=compute,
            quantization_config=four_bit if quantization == "nf4" else None,
            attn_implementation=attention,
            device_map={"": device},
            trust_remote_code=False,
            use_safetensors=True,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, SafetensorError) as error:
        raise _no_weights(source, first_line(error)[:300]) from error
    model.requires_grad_(False)
    if compute is torch.float16:
        _keep_residual_stream_in_float32(model)
    if quantization == "nf4":
        _keep_weights_as_packed(model)
    enable_packs(model, head_chunk=head_chunk)
    return model


def add_adapter(model: PreTrainedModel, lora: LoraRecipe, *, seed: int) -> PeftModel:
    """Puts a new adapter on the base. A is drawn from Kaiming's uniform distribution with `seed`, B is 0; float32."""
    with torch.random.fork_rng(devices=_cuda_devices(model)):
        torch.manual_seed(seed)
        return get_peft_model(model, peft_config(lora))


def peft_config(lora: LoraRecipe) -> LoraConfig:
    """The recipe's adapter as PEFT's config. It is written with the same bytes by every process."""
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", task_type="CAUSAL_LM"
    )
    config.target_modules = sorted(lora.target_modules)  # given to LoraConfig, they become a set without an order
    return config


def choose_kernels(*, half_accumulation: bool) -> None:
    """Which of PyTorch's kernels a card may use for products and attention.

    cuDNN's attention is off: it makes a plan for each shape, which takes 0.4 s or more, and packs have about 190
    shapes. Sums of products are kept in float32, because `down_proj` of a Qwen comes near float16's largest value.

    Args:
        half_accumulation: add up float16 products in float16 nevertheless (`TrainRecipe.half_accumulation`).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = half_accumulation
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_accumulation = half_accumulation


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Puts a saved adapter on a fresh base, frozen.

    Raises:
        UserError: the folder holds no adapter, or the adapter was made for another base.
    """
    check_adapter(folder)
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the adapter in {folder} does not fit {model.config.name_or_path!r} ({first_line(error)}); expected the "
            f"base that it was trained on: set FINTUNE_MODEL to that"
        ) from error


def check_adapter(folder: Path) -> None:
    """Checks, before a base is loaded, that a folder holds an adapter.

    Raises:
        UserError: it holds none, or its config is not an adapter's.
    """
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise UserError(f"{folder} holds no adapter_config.json; expected the output of notebook 03: run it first")
    try:
        is_adapter = bool(json.loads(config.read_text(encoding="utf-8"))["peft_type"])
    except (ValueError, KeyError, TypeError):
        is_adapter = False
    if not is_adapter:
        raise UserError(f"{config} does not describe a PEFT adapter; expected the output of notebook 03: run it first")


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name. The base is frozen, so these are the adapter's matrices."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def dtype_map(model: nn.Module) -> dict[tuple[str, str], int]:
    """The number of values of each (dtype, `frozen` or `trainable`): `{("uint8", "frozen"): 1_543_714_304, ...}`.

    4-bit weights are counted as they are stored, two in a uint8.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for parameter in model.parameters():
        name = str(parameter.dtype).removeprefix("torch.")
        counts[name, "trainable" if parameter.requires_grad else "frozen"] += parameter.numel()
    return dict(counts)


def check_dtypes(model: nn.Module, *, dtype: str, quantization: str) -> dict[tuple[str, str], int]:
    """Asserts that all parameters have the dtypes of the plan, and returns `dtype_map`."""
    found = dtype_map(model)
    allowed = {(dtype, "frozen"), ("float32", "trainable")} | (
        {("uint8", "frozen")} if quantization == "nf4" else set()
    )
    assert set(found) <= allowed, f"parameters are {sorted(found)}, the plan allows {sorted(allowed)}"
    return found


def _keep_weights_as_packed(model: nn.Module) -> None:
    """Keeps bitsandbytes 0.50 from changing 4-bit weights on a CPU with AVX512-BF16.

    At the first evaluation it would store them in another layout and round their scales to bfloat16. The evaluated
    model would differ from the trained one, and weights read afterwards would be wrong.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _keep_residual_stream_in_float32(model: PreTrainedModel) -> None:
    """Lets the residual stream start in float32. Autocast then keeps it in float32.

    In a few channels Qwen's residual stream grows past 65,504, the largest number of float16. The output of the norms
    is small again, and is read in float16.
    """
    model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output.float())
    for block in model.model.layers:
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.register_forward_hook(lambda _module, _inputs, output: output.half())


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
