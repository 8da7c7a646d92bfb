"""A finished run, small and made by hand: conversations, packs, a base, an adapter that nobody had to train."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import SCHEMA, Message
from fintune_kit.pack.stage import pack_conversations
from fintune_kit.pack.store import open_packed
from fintune_kit.recipes import LoraRecipe, Recipe, smoke
from fintune_kit.train.artifacts import save_tokenizer
from fintune_kit.train.model import add_adapter, load_base
from fintune_kit.train.validation import mean_loss
from fintune_kit.workspace import MANIFEST, sha256_of, write_json, write_manifest
from tests.evaluate.conftest import SYSTEM

TEXTS = {
    "positive": "Profit rose {} % and the shares gained.",
    "negative": "Profit fell {} % and the shares lost.",
    "neutral": "The annual general meeting is on {} March.",
}


@dataclass(frozen=True)
class World:
    """Where everything lies."""

    recipe: Recipe
    base: Path
    conversations: Path
    packed: Path
    run: Path
    adapter: Path


def make_world(
    root: Path,
    encoder: ChatEncoder,
    *,
    train: tuple[str, ...] = (*TEXTS, "qa"),
    validation: tuple[str, ...] = (*TEXTS, "qa"),
    learned: float = 0.1,
) -> World:
    """All stages before the fourth.

    Args:
        train, validation: kinds of conversations in the splits (`conversation`).
        learned: standard deviation of the adapter's B matrices.
    """
    recipe = replace(smoke(), lora=LoraRecipe(rank=4, alpha=8, dropout=0.0))
    recipe = replace(recipe, pack=replace(recipe.pack, max_length=256))
    world = World(recipe, *(root / name for name in ("base", "conversations", "packed", "run", "adapter")))
    make_base(world.base, encoder)
    make_conversations(world.conversations, train=train, validation=validation)
    pack_conversations(world.conversations, encoder=encoder, out=world.packed, max_length=256)
    make_run(world.run, recipe)
    make_adapter(world.adapter, world, encoder, learned=learned)
    return world


def make_base(folder: Path, encoder: ChatEncoder, *, layers: int = 2) -> None:
    config = Qwen2Config(
        vocab_size=704,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)


def conversation(kind: str, number: int) -> dict[str, object]:
    """A sentiment row, or (kind `qa`) a question with an answer of its own."""
    if kind == "qa":
        messages = [
            Message(role="user", content=f"What is term number {number}?"),
            Message(role="assistant", content=f"Term {number} is a word that stands in list {number % 7} of the book."),
        ]
    else:
        messages = [
            Message(role="system", content=SYSTEM),
            Message(role="user", content=TEXTS[kind].format(number)),
            Message(role="assistant", content=kind),
        ]
    task_type = "qa" if kind == "qa" else "sentiment_analysis"
    row_id = f"made#{kind}-{number}"
    return {"messages": messages, "task_type": task_type, "source": "made", "conversation_id": row_id, "row_id": row_id}


def make_conversations(folder: Path, *, train: tuple[str, ...], validation: tuple[str, ...]) -> None:
    folder.mkdir()
    for split, kinds, first, last in (("train", train, 0, 12), ("validation", validation, 20, 24)):
        rows = [conversation(kind, number) for kind in kinds for number in range(first, last)]
        if split == "train" and "neutral" in kinds:
            rows += [conversation("neutral", number) for number in range(last, last + 6)]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / f"{split}.parquet")
    write_manifest(
        folder, stage="conversations", inputs={}, counts={"rows_read": 80, "kept": 70, "train": 54, "validation": 16}
    )


def make_run(folder: Path, recipe: Recipe) -> None:
    folder.mkdir()
    plan = {"dtype": "float32", "packs_per_step": 4, "micro_batch": 2, "accumulation": 2, "processes": 1}
    write_json(folder / "plan.json", {"recipe": recipe.as_dict(), "plan": plan})
    lines = [f'{{"step": {step}, "loss": {7 - step / 10}, "learning_rate": 0.001}}\n' for step in range(1, 31)]
    (folder / "log.jsonl").write_text("".join(lines), encoding="utf-8")
    losses = {"first": 6.9, "last": 4.0, "validation": 4.5}
    counts = {"optimizer_steps": 30}
    write_manifest(folder, stage="run", inputs={}, counts=counts, loss=losses, machine="a machine")


def make_adapter(folder: Path, world: World, encoder: ChatEncoder, *, learned: float) -> None:
    """Random B matrices: an adapter that changes every answer."""
    base = load_base(world.base, dtype="float32", quantization="nf4", device="cpu")
    model = add_adapter(base, world.recipe.lora, seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=learned)
    loss, _ = mean_loss(model, open_packed(world.packed).validation.rows, micro_batch=2, device="cpu")
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink()
    save_tokenizer(encoder.tokenizer, folder)
    write_manifest(
        folder,
        stage="adapter",
        inputs={"packed": sha256_of(world.packed / MANIFEST)},
        counts={"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)},
        base="base",
        recipe=world.recipe.as_dict(),
        validation_loss=loss,
    )
