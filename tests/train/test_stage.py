"""The whole of stage 3 on the real stack: NF4, paged 8-bit AdamW, checkpoints, kills."""

import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chatml import ChatEncoder
from fintune_kit.errors import UserError
from fintune_kit.pack.store import pack_conversations
from fintune_kit.recipes import smoke
from fintune_kit.tiny import build_tokenizer
from fintune_kit.train.stage import ARTIFACTS, train
from fintune_kit.workspace import sha256_of, write_manifest

WORDS = ("profit", "loss", "rose", "fell", "shares", "bond", "yield", "bank", "gold", "oil")


def conversation(number: int) -> list[dict[str, str]]:
    draw = random.Random(number)
    text = " ".join(draw.choices(WORDS, k=6))
    return [{"role": "user", "content": text}, {"role": "assistant", "content": draw.choice(("up", "down"))}]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """`conversations/`, `packed/` and `base/`: a tiny Qwen2 with NF4-sized layers."""
    root = tmp_path_factory.mktemp("world")
    folder = root / "conversations"
    folder.mkdir()
    for split, numbers in (("train", range(40)), ("validation", range(40, 48))):
        rows = {
            "messages": [conversation(n) for n in numbers],
            "row_id": [f"made#{n}" for n in numbers],
        } | {name: ["made"] * len(numbers) for name in ("task_type", "source", "conversation_id")}
        pq.write_table(pa.table(rows), folder / f"{split}.parquet")
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    tokenizer = build_tokenizer([" ".join(WORDS)] * 4, vocab_size=320)
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    pack_conversations(folder, encoder=ChatEncoder.load(root / "base"), out=root / "packed", max_length=128, seed=0)
    return root


def recipe():
    base = smoke()
    return replace(
        base,
        pack=replace(base.pack, max_length=128),
        lora=replace(base.lora, rank=4, alpha=8, dropout=0.1),
        train=replace(base.train, epochs=3, effective_batch=2),
    )


def run(world: Path, out: Path, **options):
    return train(
        recipe(),
        packed=world / "packed",
        base=world / "base",
        run=out / "run",
        adapter=out / "adapter",
        minutes_between_checkpoints=0,
        **options,
    )


def timeless(path: Path) -> list[dict]:
    records = [json.loads(line) for line in (path / "run" / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if "second" not in key} for record in records]


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    assert run(world, out).finished
    return out


def test_a_finished_run_leaves_its_artifacts_its_log_and_its_plan(whole):
    assert set(ARTIFACTS) <= {path.name for path in (whole / "adapter").iterdir()}
    config = json.loads((whole / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base", "a path of this machine would leave it"
    plan = json.loads((whole / "run" / "plan.json").read_text())
    assert plan["plan"]["optimizer_steps"] == len(timeless(whole)) > 4


def test_it_is_not_trained_twice_unless_asked(world, whole, monkeypatch):
    before = sha256_of(whole / "adapter")
    monkeypatch.setattr("fintune_kit.train.stage.load_base", None)
    assert run(world, whole).steps_done == len(timeless(whole))
    assert sha256_of(whole / "adapter") == before


def test_another_recipe_does_not_go_on_from_this_run(world, whole):
    other = replace(recipe(), seed=7)
    with pytest.raises(UserError, match=r"another recipe.*--fresh"):
        train(other, packed=world / "packed", base=world / "base", run=whole / "run", adapter=whole / "adapter")


def test_packs_of_another_length_are_refused(world, tmp_path):
    longer = replace(recipe(), pack=replace(recipe().pack, max_length=256))
    with pytest.raises(UserError, match=r"128 positions.*expects 256"):
        train(longer, packed=world / "packed", base=world / "base", run=tmp_path / "r", adapter=tmp_path / "a")
    assert not (tmp_path / "r").exists()


def moments(run: Path) -> dict[str, Callable[[], bool]]:
    """Whether a run has come to: its beginning, another step, a save that is under way."""
    log, partial = run / "log.jsonl", run / "checkpoints" / "partial"
    size = log.stat().st_size if log.is_file() else 0
    return {
        "start": lambda: True,
        "step": lambda: log.is_file() and log.stat().st_size > size,
        "save": lambda: partial.is_dir() and any(partial.iterdir()),
    }


def test_a_run_killed_twenty_times_is_the_run_that_was_not(world, whole, tmp_path):
    """SIGKILL at random moments, saving included: a real process each time, on what the last one left."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["fintune_kit.train.stage"])
    draw, killed = random.Random(0), Counter()
    while killed.total() < 20:
        moment = draw.choice(("start", "step", "save", "save"))
        reached = moments(tmp_path / "run")[moment]
        process = processes.Process(target=run, args=(world, tmp_path))
        process.start()
        while process.is_alive() and not reached():
            process.join(timeout=0.001)
        process.join(timeout=draw.uniform(0, {"start": 0.5, "step": 0.05, "save": 0.02}[moment]))
        assert process.is_alive(), f"it ended after {killed}: too few steps to be killed in"
        process.kill()
        process.join()
        killed[moment] += 1
    assert set(killed) == {"start", "step", "save"}
    process = processes.Process(target=run, args=(world, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert timeless(tmp_path) == timeless(whole)
    assert sha256_of(tmp_path / "adapter" / "adapter_model.safetensors") == sha256_of(
        whole / "adapter" / "adapter_model.safetensors"
    )
