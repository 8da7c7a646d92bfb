"""A world for the TPU path: packs with shared prefixes, a two-layer Qwen2, the same recipe on PyTorch and JAX."""

import json
import multiprocessing
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import SCHEMA
from fintune_kit.pack.stage import pack_conversations
from fintune_kit.recipes import Recipe, smoke
from fintune_kit.tiny import build_tokenizer
from fintune_kit.workspace import Workspace, write_manifest

WORDS = ("profit", "loss", "rose", "fell", "shares", "bond", "yield", "bank", "gold", "oil")
LENGTH = 128


def conversation(number: int) -> list[dict[str, str]]:
    """Every third one begins with the words of the one before: a prefix to share."""
    draw, shared = random.Random(number), random.Random(number - number % 3)
    words = shared.choices(WORDS, k=5) + draw.choices(WORDS, k=draw.randint(1, 6))
    answer = draw.choices(("up", "down", "flat"), k=draw.randint(1, 4))
    return [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": " ".join(answer)}]


def make_world(root: Path, *, train: int = 360, validation: int = 40) -> Path:
    """`packed/` and `base/` in a folder."""
    folder = root / "conversations"
    folder.mkdir(parents=True)
    for split, numbers in (("train", range(train)), ("validation", range(10_000, 10_000 + validation))):
        rows: dict[str, Any] = {
            "messages": [conversation(n) for n in numbers],
            "row_id": [f"made#{n}" for n in numbers],
        } | {name: ["made"] * len(numbers) for name in ("task_type", "source", "conversation_id")}
        rows["context_turns"] = [None] * len(numbers)
        pq.write_table(pa.table(rows, schema=SCHEMA), folder / f"{split}.parquet")
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    tokenizer = build_tokenizer(iter([" ".join(WORDS)] * 4), vocab_size=320)
    tokenizer.save_pretrained(root / "base")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=320,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.1,  # large enough that attention tells tokens apart
            tie_word_embeddings=True,
        )
    )
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name:  # as made they are all zero or one, and could be mixed up unseen
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(root / "base")
    pack_conversations(folder, encoder=ChatEncoder.load(root / "base"), out=root / "packed", max_length=LENGTH, seed=0)
    return root


def recipe(*, dropout: float = 0.0, effective_batch: int = 16) -> Recipe:
    """A recipe for both PyTorch and JAX: no quantization, AdamW in float32. 21 steps, half as many of 32."""
    base = smoke()
    return replace(
        base,
        pack=replace(base.pack, max_length=LENGTH),
        lora=replace(base.lora, rank=4, alpha=8, dropout=dropout),
        train=replace(
            base.train,
            epochs=1,
            effective_batch=effective_batch,
            accumulation=8,
            learning_rate=5e-3,
            max_grad_norm=0.5,
            quantization="none",
            optimizer="adamw_torch",
        ),
    )


def run(stage: Any, world: Path, out: Path, the_recipe: Recipe | None = None, **options: Any) -> Any:
    """Runs a stage (`stage.train` or `tpu.train_on_tpu`) on the world."""
    return stage(the_recipe or recipe(), Workspace(out), packed=world / "packed", base=world / "base", **options)


def _run_on_tpu(world: Path, out: Path, options: dict[str, Any]) -> None:
    from fintune_kit.tpu.stage import train_on_tpu

    run(train_on_tpu, world, out, **options)


def run_in_a_process(world: Path, out: Path, *, devices: int, **options: Any) -> None:
    """Runs the TPU path in a fresh process with so many CPU devices."""
    before = os.environ["XLA_FLAGS"]
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    try:
        process = multiprocessing.get_context("spawn").Process(target=_run_on_tpu, args=(world, out, options))
        process.start()
    finally:
        os.environ["XLA_FLAGS"] = before
    process.join()
    assert process.exitcode == 0, process.exitcode


def records(out: Path) -> list[dict[str, Any]]:
    """The log of a run."""
    return [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
