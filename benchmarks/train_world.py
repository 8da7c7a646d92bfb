"""Shared by both sides of `train.py`: the model, the examples, and the two ways to arrange them."""

import json
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from fintune_kit.recipes import LoraRecipe, PackRecipe, Recipe, TrainRecipe

SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "sujet_sample.csv"
VALIDATION = 48
VOCABULARY = 8_192


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One comparison: which model, in which precision, by which recipe."""

    says: str
    device: str | None
    """The planner's name of the card that is played; None on a CPU."""
    dtype: str
    config: str
    recipe: Recipe
    tiny: bool = False
    """A model and data that take seconds, to rehearse the command."""
    quiet: bool = False
    """Without dropout, with a plain optimizer and a constant rate: so that curves can be compared number by number."""


def cpu_setup() -> Setup:
    recipe = Recipe(
        name="benchmark",
        lora=LoraRecipe(rank=8, alpha=16),
        train=TrainRecipe(effective_batch=3, accumulation=1, quantization="none"),
    )
    return Setup(
        says="a random Qwen2 of 42 M parameters on a CPU, float32",
        device=None,
        dtype="float32",
        config="",
        recipe=recipe,
    )


def rehearsal_setup() -> Setup:
    """The smallest run that has every part: it shows that the command works, and its figures mean nothing."""
    setup = cpu_setup()
    recipe = replace(setup.recipe, pack=PackRecipe(max_length=256), lora=LoraRecipe(rank=4, alpha=8))
    return replace(setup, says="a rehearsal with a tiny model; its figures mean nothing", tiny=True, recipe=recipe)


def card_setup(config: str, device: str) -> Setup:
    from fintune_kit.hardware import choose_dtype
    from fintune_kit.plan.engines import find_device

    card = find_device(device)
    dtype, _ = choose_dtype(card.capability)
    says = f"{config}'s config with random weights, NF4, as {device}: {dtype}, {card.memory_gib} GiB"
    return Setup(says=says, device=device, dtype=dtype, config=config, recipe=Recipe(name="benchmark"))


def without_noise(setup: Setup) -> Setup:
    recipe = setup.recipe
    return replace(
        setup,
        quiet=True,
        recipe=replace(
            recipe,
            lora=replace(recipe.lora, dropout=0.0),
            train=replace(
                recipe.train, optimizer="adamw_torch", schedule="constant", warmup_ratio=0.0, learning_rate=1e-3
            ),
        ),
    )


def prepare(setup: Setup, data: Path | None, work: Path) -> None:
    """`packed/` for us, `examples.parquet` for the peer, and the tokenizer in `base/`."""
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.conversations import Conversation, write_conversations
    from fintune_kit.pack.stage import pack_conversations
    from fintune_kit.workspace import write_manifest

    rows = [row for row in read_rows(setup, data) if row["user_prompt"] and row["answer"]]
    conversations = [as_messages(row) for row in rows]
    folder = tokenizer_folder(setup, data, work, texts=[text for row in rows[::4] for text in row.values() if text])
    encoder = ChatEncoder.load(folder)
    folder = work / "conversations"
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", conversations[:-VALIDATION]), ("validation", conversations[-VALIDATION:])):
        named = [(f"{split}#{number}", messages) for number, messages in enumerate(part)]
        write_conversations(
            folder / f"{split}.parquet",
            [Conversation(row_id=n, messages=m, task_type="any", source="any", conversation_id=n) for n, m in named],
        )
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    length = setup.recipe.pack.max_length
    pack_conversations(folder, encoder=encoder, out=work / "packed", max_length=length, seed=0)
    kept = [example for example in encoder.encode(conversations[:-VALIDATION]) if len(example) <= length]
    columns = {
        "input_ids": [e.tokens.tolist() for e in kept],
        "labels": [np.where(e.supervised, e.tokens, -100).tolist() for e in kept],
    }
    pq.write_table(pa.table(columns), work / "examples.parquet")


def read_rows(setup: Setup, data: Path | None) -> list[dict[str, str]]:
    """The stand-in for Sujet; in a rehearsal the sample of the repository, which has the same columns."""
    columns = ["system_prompt", "user_prompt", "answer"]
    if setup.tiny:
        return pv.read_csv(SAMPLE).select(columns).to_pylist()
    assert data is not None, "the folder of the stand-in data is missing: name it with --data"
    return pq.read_table(data / "sujet_proxy.parquet", columns=columns).to_pylist()


def as_messages(row: dict[str, str]) -> list[dict[str, str]]:
    system = [{"role": "system", "content": row["system_prompt"]}] if row["system_prompt"] else []
    turn = [{"role": "user", "content": row["user_prompt"]}, {"role": "assistant", "content": row["answer"]}]
    return system + turn


def tokenizer_folder(setup: Setup, data: Path | None, work: Path, *, texts: list[str]) -> Path:
    """The folder of Qwen's tokenizer, or of one that is trained on the texts."""
    from transformers import AutoTokenizer

    from fintune_kit.tiny import build_tokenizer

    if setup.device:
        assert data is not None, "the folder of the tokenizer is missing: name it with --data"
        tokenizer = AutoTokenizer.from_pretrained(data / "qwen2.5-tokenizer")
    else:
        tokenizer = build_tokenizer(iter(texts), vocab_size=VOCABULARY)
    folder = work / "base"
    tokenizer.save_pretrained(folder)
    return folder


def make_base(setup: Setup, config_folder: Path | None, folder: Path) -> None:
    """A model of random weights in safetensors, beside its tokenizer.

    Args:
        config_folder: of a real model's `config.json`; None makes the model of the CPU.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

    layers, hidden = (2, 64) if setup.tiny else (10, 512)
    config = (
        AutoConfig.from_pretrained(config_folder)
        if config_folder
        else Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 16 if setup.tiny else 8,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, setup.dtype))
    model.save_pretrained(folder)


def restrict(setup: Setup, *, allow_triton: bool) -> None:
    """On a card: only the abilities of the card that it stands for. Stock TRL may use Triton, which helps it."""
    if setup.device is None:
        return
    from fintune_kit.plan.engines import find_device
    from fintune_kit.train.machine.other_card import behave_as

    behave_as(find_device(setup.device), allow_triton=allow_triton)


def stock_base(setup: Setup, work: Path) -> Any:
    """The base as a user of the peer loads it: the model's own forward, frozen under the adapter."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, setup.dtype),
    )
    model = AutoModelForCausalLM.from_pretrained(
        work / "base",
        dtype=getattr(torch, setup.dtype),
        quantization_config=four_bit if setup.device else None,
        device_map={"": 0} if setup.device else None,
        attn_implementation="sdpa",
    )
    return model.requires_grad_(False)


def stock_examples(work: Path) -> Any:
    from datasets import Dataset

    return Dataset.from_parquet(str(work / "examples.parquet"), cache_dir=str(work / "cache"))


def mend_stock(trainer: Any, setup: Setup) -> None:
    """On a card: the remedy without which the peer stops at its first step (its adapters are bfloat16, its scaler
    cannot unscale these)."""
    import torch

    if setup.dtype == "float16":
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.float32)


def take_rows(trainer: Any, *, steps: int, batch: int) -> list[dict[str, list[int]]]:
    """Makes the peer read rows spread over its whole set, in a known order, and returns them."""
    rows = trainer.train_dataset
    chosen = np.random.default_rng(0).choice(len(rows), steps * batch, replace=False).tolist()
    trainer._get_train_sampler = lambda *_: chosen
    return [rows[number] for number in chosen]


@dataclass(frozen=True)
class SameExamples:
    """The peer's steps, arranged as our packs: `order` names rows of `rows`, -1 an empty pack."""

    rows: Any
    order: list[int]
    packs_per_step: int


def same_examples(setup: Setup, work: Path) -> SameExamples:
    """Our packs of exactly the examples that the peer read in each of its steps."""
    from datasets import Dataset, Features, List, Value

    from fintune_kit.chat.examples import Example, Examples
    from fintune_kit.pack.tree import arrange, write_columns

    rows, batch = json.loads((work / "taken.json").read_text()), setup.recipe.train.effective_batch
    length = setup.recipe.pack.max_length
    steps = []
    for first in range(0, len(rows), batch):
        examples = []
        for row in rows[first : first + batch]:
            tokens, taught = np.asarray(row["input_ids"], np.int32), np.asarray(row["labels"]) != -100
            ends = np.cumsum(row["seq_lengths"])[:-1]
            examples += [Example(t, s) for t, s in zip(np.split(tokens, ends), np.split(taught, ends), strict=True)]
        joined = Examples.of(examples)
        arrangement = arrange(joined, max_length=length, seed=0)
        steps.append(write_columns(joined, arrangement, first=0, last=len(arrangement), max_length=length, pad_id=0))
    most = max(len(step["input_ids"]) for step in steps)
    order, total = [], 0
    for step in steps:
        count = len(step["input_ids"])
        order += [*range(total, total + count), *[-1] * (most - count)]
        total += count
    features = Features({name: List(Value("int32"), length=length) for name in steps[0]})
    columns = {name: np.concatenate([step[name] for step in steps]).tolist() for name in steps[0]}
    return SameExamples(Dataset.from_dict(columns, features=features), order, most)


def plan_of(setup: Setup, work: Path) -> Any:
    from fintune_kit.pack.store import open_packed
    from fintune_kit.train.stage import plan_here

    return plan_here(setup.recipe, packed=open_packed(work / "packed"), base=work / "base", device_name=setup.device)


def tokenizer_of(work: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(work / "base")


def peak_gib() -> float | None:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 3) if torch.cuda.is_available() else None


def describe_machine() -> str:
    import torch

    from fintune_kit.hardware import find_machine

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{find_machine().name}, {platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s), load {load}"
    )
