"""Makes one model from base and adapter, which needs no PEFT, and measures how close it is to the two.

    export/  model.safetensors  config.json  generation_config.json  tokenizer files     transformers, vLLM
             or NAME-q4_k_m.gguf  Modelfile                                              llama.cpp, Ollama
             README.md  manifest.json

The adapter can be merged into two bases: the dequantized NF4 base of its training, or the original 16-bit base. It
depends on the model which of them is closer. So the loss and the share of changed choices are measured for both, and
written into manifest and card.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import Environment, StrictUndefined
from transformers import AutoModelForCausalLM, GenerationConfig

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import read_conversations
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate.models import compute_here
from fintune_kit.evaluate.scoring import Compute
from fintune_kit.hardware import find_machine
from fintune_kit.pack.store import open_packed
from fintune_kit.publish.gguf_file import read_gguf, write_gguf
from fintune_kit.publish.licences import base_licence, source_licences
from fintune_kit.publish.measure import MAX_CHANGED, Measurement, Sample, compare, measure, sample_of
from fintune_kit.publish.merge import merged_weights, write_config, write_shards
from fintune_kit.publish.ollama import write_modelfile
from fintune_kit.publish.quantizer import FILE_TYPES, find_quantizer
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import base_of
from fintune_kit.train.artifacts import check_adapter, check_foreign_adapter, save_tokenizer
from fintune_kit.train.base_id import base_id, is_hub_id
from fintune_kit.train.loss import enable_packs
from fintune_kit.train.model import load_adapter, load_base, load_config
from fintune_kit.workspace import (
    MANIFEST,
    Workspace,
    read_manifest,
    replacing_folder,
    sha256_of,
    versions,
    write_json,
    write_text,
)

Form = Literal["safetensors", "f16", "q8_0", "q4_k_m", "q5_k_m"]
FORMS: tuple[Form, ...] = ("safetensors", "f16", "q8_0", "q4_k_m", "q5_k_m")
DTYPES = ("bfloat16", "float16", "float32")
MergeBase = Literal["nf4", "16bit"]
MERGE_BASES: tuple[MergeBase, ...] = ("nf4", "16bit")
MAX_QUESTIONS = 200
"""Choices that are compared. One changed choice is half a percent."""
_WORDS = {"nf4": "dequantized NF4", "16bit": "original 16-bit"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of one export."""

    base: str | Path
    adapter: Path
    encoder: ChatEncoder
    config: Any
    compute: Compute
    quantization: str
    """The quantization of the base in training."""
    merge_quantization: str
    """The quantization of the base that the adapter is merged into."""
    form: Form
    dtype: str
    name: str


def export(
    recipe: Recipe,
    workspace: Workspace,
    *,
    out: Path,
    adapter: Path | None = None,
    base: str | Path | None = None,
    form: Form = "safetensors",
    dtype: str = "bfloat16",
    merge_base: MergeBase = "nf4",
    max_questions: int = MAX_QUESTIONS,
) -> dict[str, Any]:
    """Writes the merged model, loads it again, and measures its difference from base and adapter in training.

    Args:
        out: folder to write.
        adapter: folder of any LoRA adapter; None takes the workspace's.
        base: hub id or folder of the base model; None takes the recipe's.
        form: `safetensors`, or GGUF as `f16`, `q8_0`, `q4_k_m`, `q5_k_m` (the last two by llama.cpp's quantizer).
        dtype: of safetensors weights. float16 overflows in some layers of Qwen, bfloat16 does not.
        merge_base: `nf4` merges into the dequantized base of training, `16bit` into the original weights.
        max_questions: choices to compare; 0 measures nothing.

    Returns:
        The content of `manifest.json` in the folder: files with their SHA-256, `measured`, `good`, `verdict`, versions.

    Raises:
        UserError: the adapter is damaged or for another base, a name is unknown, or a quantizer is missing.
    """
    _check_names(form, dtype, merge_base)
    if form in FILE_TYPES:
        find_quantizer()  # its error must come before anything is loaded
    plan = _plan(recipe, workspace, adapter=adapter, base=base, form=form, dtype=dtype, merge_base=merge_base)
    sample = _sample(workspace, plan, max_questions=max_questions)
    measured: dict[str, Measurement] = {}
    with replacing_folder(out) as folder:
        for quantization in dict.fromkeys((plan.quantization, "none", plan.merge_quantization)):
            is_merged = quantization == plan.merge_quantization
            if not (is_merged or sample):
                continue
            model = _load(plan, quantization=quantization)
            if sample:
                name = f"{'nf4' if quantization == 'nf4' else '16-bit'} + adapter"
                measured[name] = measure(model, sample, compute=plan.compute, label=name)
            if is_merged:
                _write_model(model, folder, plan)
            del model
        if sample:
            measured["export"] = _measure_written(folder, plan, sample)
        record = _record(recipe, plan, measured, sample)
        write_text(folder / "README.md", _card(recipe, plan, record))
        record["files"] = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        write_json(folder / MANIFEST, {"stage": "export", **record})
    return record


def _check_names(form: str, dtype: str, merge_base: str) -> None:
    for flag, given, known in (
        ("form", form, FORMS),
        ("dtype", dtype, DTYPES),
        ("merge-base", merge_base, MERGE_BASES),
    ):
        if given not in known:
            raise UserError(f"there is no {flag} {given!r}; expected one of {', '.join(known)}: check --{flag}")


def _plan(
    recipe: Recipe,
    workspace: Workspace,
    *,
    adapter: Path | None,
    base: str | Path | None,
    form: Form,
    dtype: str,
    merge_base: MergeBase,
) -> Plan:
    adapter = adapter or workspace.existing("adapter")
    source = base or base_of(recipe, workspace)
    config = load_config(source)
    if (adapter / MANIFEST).is_file() or not adapter.is_dir():
        check_adapter(adapter, base_config=config)
    else:
        check_foreign_adapter(adapter)
    quantization = recipe.train.quantization
    model = recipe.name if recipe.base == "tiny" else base_id(source).split("/")[-1]
    return Plan(
        base=source,
        adapter=adapter,
        encoder=ChatEncoder.load(adapter if (adapter / "tokenizer.json").is_file() else source),
        config=config,
        compute=compute_here(recipe, find_machine()),
        quantization=quantization,
        merge_quantization=quantization if merge_base == "nf4" else "none",
        form=form,
        dtype=dtype,
        name=f"{model}-finance".lower(),
    )


def _sample(workspace: Workspace, plan: Plan, *, max_questions: int) -> Sample | None:
    """The sample for the measurement: the workspace's validation data if it exists, and general questions."""
    if max_questions == 0:
        return None
    train, validation, packs = [], [], None
    try:
        conversations = workspace.existing("conversations")
        train, validation = (read_conversations(conversations, split) for split in ("train", "validation"))
        packs = open_packed(workspace.existing("packed"), fingerprint=plan.encoder.fingerprint)
    except MissingInputError:
        pass  # an adapter can be exported without its training data
    return sample_of(train, validation, packs=packs, encoder=plan.encoder, max_questions=max_questions)


def _load(plan: Plan, *, quantization: str) -> Any:
    compute = plan.compute
    base = load_base(plan.base, dtype=compute.dtype, quantization=quantization, device=compute.device)
    return load_adapter(base, plan.adapter)


def _write_model(model: Any, folder: Path, plan: Plan) -> None:
    weights = merged_weights(model)
    if plan.form == "safetensors":
        write_config(plan.config, folder, dtype=plan.dtype)
        save_tokenizer(plan.encoder.tokenizer, folder)
        ends = [plan.encoder.end_id, plan.encoder.pad_id]
        GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=plan.encoder.pad_id).save_pretrained(folder)
        write_shards(weights, folder, dtype=getattr(torch, plan.dtype))
        return
    path = folder / f"{plan.name}-{plan.form}.gguf"
    tokenizer = plan.encoder.tokenizer
    if plan.form in FILE_TYPES:
        whole = folder / f"{plan.name}-f16.gguf"
        write_gguf(whole, weights, config=plan.config, tokenizer=tokenizer, form="f16", name=plan.name)
        find_quantizer()(whole, path, plan.form)
        whole.unlink()
    else:
        form: Literal["f16", "q8_0"] = "f16" if plan.form == "f16" else "q8_0"
        write_gguf(path, weights, config=plan.config, tokenizer=tokenizer, form=form, name=plan.name)
    write_modelfile(folder, file=path.name, tokenizer=tokenizer)


def _measure_written(folder: Path, plan: Plan, sample: Sample) -> Measurement:
    """Loads the written files as a user would, and measures them: safetensors in their dtype, GGUF in float32."""
    compute = plan.compute
    if plan.form == "safetensors":
        model = load_base(folder, dtype=plan.dtype, quantization="none", device=compute.device)
        written = Compute(device=compute.device, dtype=plan.dtype, length=compute.length)
        return measure(model, sample, compute=written, label="the export")
    (file,) = folder.glob("*.gguf")
    model = AutoModelForCausalLM.from_config(plan.config, dtype=torch.float32, attn_implementation="sdpa")
    keys = [key for key in model.state_dict() if not (key == "lm_head.weight" and plan.config.tie_word_embeddings)]
    model.load_state_dict(read_gguf(file, config=plan.config, keys=keys), strict=False)
    model.tie_weights()
    enable_packs(model.eval().requires_grad_(False))
    written = Compute(device="cpu", length=compute.length)
    return measure(model, sample, compute=written, label="the export")


def _record(recipe: Recipe, plan: Plan, measured: Mapping[str, Measurement], sample: Sample | None) -> dict[str, Any]:
    reference = next(iter(measured.values()), None)
    results = {name: compare(reference, found) for name, found in measured.items()} if reference else {}
    good = results["export"]["good"] if results else None
    has_manifest = (plan.adapter / MANIFEST).is_file()
    made = read_manifest(plan.adapter, stage="adapter") if has_manifest else {}
    return {
        "form": plan.form,
        "dtype": plan.dtype if plan.form == "safetensors" else None,
        "merge_base": _WORDS["nf4" if plan.merge_quantization == "nf4" else "16bit"],
        "base": made.get("base") or base_id(plan.base),
        "recipe": recipe.as_dict(),
        "adapter": sha256_of(plan.adapter / (MANIFEST if has_manifest else "adapter_model.safetensors")),
        "questions": len(sample.questions) if sample else 0,
        "measured": results,
        "good": good,
        "verdict": _verdict(results),
        "versions": versions(),
    }


def _verdict(results: Mapping[str, Mapping[str, Any]]) -> str:
    if not results:
        return "Not measured."
    share = 100 * results["export"]["changed"]
    if results["export"]["good"]:
        return f"Good: {share:.1f} % of the choices differ from those of the adapter in training."
    other = min((name for name in results if name != "export"), key=lambda name: results[name]["changed"])
    return (
        f"Not good: {share:.1f} % of the choices differ from those of the adapter in training, more than "
        f"{100 * MAX_CHANGED:.0f} %. Export again with more bits (--dtype float32, or --form q8_0), or with "
        f"the other --merge-base; or use {other}, which needs no export."
    )


def _card(recipe: Recipe, plan: Plan, record: Mapping[str, Any]) -> str:
    """The README of an export, with the base's licence in its metadata."""
    licence = base_licence(record["base"], recipe_base=recipe.base)
    sources = source_licences(recipe.data.sources)
    free = licence.identifier == "apache-2.0" and all(source.allows_commerce for source in sources)
    head = ["---", f"license: {'apache-2.0' if free else 'other'}", "library_name: transformers"]
    head += [] if free else ["license_name: see-this-card", "license_link: README.md#licences"]
    head += [f"base_model: {record['base']}", "base_model_relation: merge"] if is_hub_id(record["base"]) else []
    head += ["tags: [finance, qwen, fintune-kit]", "---", ""]
    text = resources.files("fintune_kit.publish").joinpath("export_card.md.jinja").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)  # noqa: S701 - Markdown
    is_gguf = plan.form != "safetensors"
    body = environment.from_string(text).render(
        title=plan.name,
        base=record["base"],
        form=plan.form,
        dtype_words="" if is_gguf else f" in {plan.dtype}",
        merge_base=record["merge_base"],
        gguf=f"{plan.name}-{plan.form}.gguf" if is_gguf else "",
        verdict=record["verdict"],
        questions=record["questions"],
        models=[
            [name, "" if found["loss"] is None else f"{found['loss']:.4f}", f"{100 * found['changed']:.1f} %"]
            for name, found in record["measured"].items()
        ],
        base_licence=licence.words,
        sources=[f"`{source.source}` {source.words}" for source in sources],
    )
    return "\n".join(head) + "\n" + body.strip() + "\n"
