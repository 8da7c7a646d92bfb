import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from fintune_kit.chat.examples import IGNORE
from fintune_kit.errors import UserError
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.plan import Plan
from fintune_kit.recipes import smoke
from fintune_kit.tiny import build_tokenizer
from fintune_kit.train.attention import TREE_ATTENTION
from fintune_kit.train.blocks.packed import use_packed_blocks
from fintune_kit.train.blocks.recompute import blocks_of
from fintune_kit.train.callbacks import Clock
from fintune_kit.train.guards import NonFiniteGuard
from fintune_kit.train.loss import enable_packs
from fintune_kit.train.record.log import StepLog, read_log, restore_log
from fintune_kit.train.step import StepMemory
from fintune_kit.train.trainer import (
    PackTrainer,
    in_training_order,
    stack_packs,
    step_order,
    training_arguments,
)
from fintune_kit.train.validation import mean_loss
from fintune_kit.workspace import newest_checkpoint
from tests.train.conftest import EXAMPLES, LENGTH, PACKS

NOTHING = Recompute()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(["profit rose"], vocab_size=300)


def plan(*, micro_batch: int, packs_per_step: int, optimizer_steps: int) -> Plan:
    return Plan(
        device="cpu",
        processes=1,
        dtype="float32",
        dtype_reason="",
        micro_batch=micro_batch,
        accumulation=packs_per_step // micro_batch,
        packs_per_step=packs_per_step,
        optimizer_steps=optimizer_steps,
        recompute=Recompute(),
        head_chunk=4,
        memory={},
        hours=(0.0, 0.0),
    )


def run(
    make_model,
    rows,
    tokenizer,
    folder,
    *,
    micro_batch=2,
    epochs=4,
    stop_after=None,
    recompute=NOTHING,
    dropout=0.0,
    disturb=None,
    noted=None,
):
    """Trains a LoRA on the four packs with the stack that a real run uses; returns the log and the adapter."""
    recipe = replace(smoke().train, epochs=epochs, learning_rate=1e-2, optimizer="adamw_torch")
    order = step_order(np.ones((len(rows), 1), np.int64), epochs=epochs, seed=0, packs_per_step=4)
    the_plan = plan(micro_batch=micro_batch, packs_per_step=4, optimizer_steps=len(order) // 4)
    base = make_model(attention=TREE_ATTENTION).requires_grad_(False)
    enable_packs(base, head_chunk=4)
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    use_packed_blocks(base, dtype=torch.float32)
    supervised = [int((np.array(r) != IGNORE).sum()) for r in rows["shift_labels"]]
    guard = NonFiniteGuard()
    log = StepLog(
        folder / "log.jsonl",
        supervised_tokens=[sum(supervised)] * epochs,
        examples=[7] * epochs,
        positions=48,
        guard=guard,
    )
    clock = Clock(minutes_between_checkpoints=1e-9, stop_after=stop_after)  # a checkpoint a step
    folder.mkdir(exist_ok=True)
    trainer = PackTrainer(
        model=model,
        tokenizer=tokenizer,
        packs=in_training_order(rows, order),
        arguments=training_arguments(recipe, the_plan, output=folder / "checkpoints" / "partial", seed=0),
        checkpoints=folder / "checkpoints",
        identity={"recipe": "the test's"},
        clock=clock,
        guard=guard,
        memory=StepMemory(micro_batch=micro_batch, blocks=recompute.blocks),
        note_memory=lambda memory: noted.append(replace(memory)) if noted is not None else None,
        callbacks=[log],
    )
    if disturb is not None:
        disturb(trainer)
    checkpoint = newest_checkpoint(folder / "checkpoints")
    restore_log(folder / "log.jsonl", checkpoint=checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    adapter = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    return read_log(folder / "log.jsonl"), adapter, model


def losses(log):
    return [record["loss"] for record in log]


def test_the_order_is_every_pack_once_a_pass_and_filled_to_whole_steps():
    five = np.ones((5, 1), np.int64)
    order = step_order(five, epochs=2, seed=7, packs_per_step=4)
    assert order[:5].tolist() == [0, 1, 2, 3, 4]
    assert sorted(order[5:10].tolist()) == [0, 1, 2, 3, 4]
    assert order[5:10].tolist() != [0, 1, 2, 3, 4]
    assert order[10:].tolist() == [-1, -1]
    assert step_order(five, epochs=2, seed=7, packs_per_step=4).tolist() == order.tolist()
    assert step_order(five, epochs=2, seed=8, packs_per_step=4).tolist() != order.tolist()


def test_each_pass_spreads_the_tasks_evenly():
    """Eight packs of one task and eight of another: each step of two holds one of each, in every pass."""
    strata = np.array([[4, 0], [0, 4]] * 8)
    order = step_order(strata, epochs=3, seed=7, packs_per_step=2)
    for step in order.reshape(-1, 2):
        assert strata[step].sum(axis=0).tolist() == [4, 4]


def test_an_empty_pack_supervises_nothing_and_each_of_its_positions_sees_itself(rows):
    arranged = in_training_order(rows, np.array([2, -1]))
    assert arranged[0]["input_ids"].tolist() == rows[2]["input_ids"]
    assert (arranged[1]["shift_labels"] == IGNORE).all()
    assert arranged[1]["subtree_end"].tolist() == list(range(1, LENGTH + 1))


def test_a_step_is_the_mean_over_all_its_supervised_tokens(make_model, rows, tokenizer, tmp_path):
    """Not the mean of its micro-batches' means, which weighs a token by its company."""
    log, _, _ = run(make_model, rows, tokenizer, tmp_path / "run", micro_batch=1, epochs=1)
    model = make_model().requires_grad_(False)
    enable_packs(model)
    sums = [float(model(**stack_packs([row])).loss) for row in rows.with_format("numpy")]
    tokens = [sum(supervised for _, supervised in examples) for examples in PACKS]
    assert sum(tokens) == sum(supervised for _, supervised in EXAMPLES)
    mean_of_means = np.mean([s / t for s, t in zip(sums, tokens, strict=True)])
    assert abs(sum(sums) / sum(tokens) - mean_of_means) > 1e-3, "equal packs could not tell the two means apart"
    assert log[0]["loss"] == pytest.approx(sum(sums) / sum(tokens), rel=1e-5)


@pytest.mark.parametrize("changed", [{"micro_batch": 1}, {"micro_batch": 4}, {"recompute": Recompute(blocks=1)}])
def test_how_a_machine_does_it_does_not_change_what_is_learned(make_model, rows, tokenizer, tmp_path, changed):
    expected, adapter, _ = run(make_model, rows, tokenizer, tmp_path / "a")
    found, other, _ = run(make_model, rows, tokenizer, tmp_path / "b", **changed)
    assert len(expected) == 4
    assert expected[-1]["loss"] < expected[0]["loss"] - 0.1, "a run that learns nothing could not tell"
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5)
    for name, matrix in adapter.items():
        torch.testing.assert_close(other[name], matrix, rtol=1e-3, atol=1e-5)


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(make_model, rows, tokenizer, tmp_path):
    whole, adapter, _ = run(make_model, rows, tokenizer, tmp_path / "whole", dropout=0.3)
    part, _, _ = run(make_model, rows, tokenizer, tmp_path / "parts", stop_after=2, dropout=0.3)
    assert len(part) == 2
    resumed, other, _ = run(make_model, rows, tokenizer, tmp_path / "parts", dropout=0.3)
    timeless = [{k: v for k, v in record.items() if "second" not in k} for record in whole]
    assert [{k: v for k, v in record.items() if "second" not in k} for record in resumed] == timeless
    assert adapter.keys() == other.keys()
    assert all(torch.equal(adapter[name], other[name]) for name in adapter)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(make_model, rows, tokenizer, tmp_path, caplog):
    run(make_model, rows, tokenizer, tmp_path, stop_after=3)
    checkpoints = tmp_path / "checkpoints"
    assert sorted(p.name for p in checkpoints.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"], "two are kept"
    damaged = checkpoints / "checkpoint-3" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(checkpoints).name == "checkpoint-2"
    assert "optimizer.pt has changed" in caplog.text


def test_a_checkpoint_holds_no_pickle_that_is_not_a_tensor_file(make_model, rows, tokenizer, tmp_path):
    run(make_model, rows, tokenizer, tmp_path, stop_after=1)
    folder = tmp_path / "checkpoints" / "checkpoint-1"
    assert not (folder / "training_args.bin").exists()
    for path in (*folder.glob("*.pt"), *folder.glob("*.pth")):
        if path.name != "rng_state.pth":  # numpy's state; transformers loads it weights_only with an allow-list
            torch.load(path, weights_only=True)


def test_the_log_goes_on_after_a_line_that_was_cut_off(make_model, rows, tokenizer, tmp_path):
    run(make_model, rows, tokenizer, tmp_path, stop_after=2)
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "lo')
    log, _, _ = run(make_model, rows, tokenizer, tmp_path)
    assert [record["step"] for record in log] == [1, 2, 3, 4]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_evaluation_gives_the_loss_that_training_ended_with(make_model, rows, tokenizer, tmp_path):
    _, _, model = run(make_model, rows, tokenizer, tmp_path)
    one, tokens = mean_loss(model, rows, micro_batch=1, device="cpu")
    four, _ = mean_loss(model, rows, micro_batch=4, device="cpu")
    assert tokens == 14
    assert one == pytest.approx(four, rel=1e-6)
    model.train()
    total = sum(model(**stack_packs([row])).loss.item() for row in rows.with_format("numpy"))
    assert one == pytest.approx(total / 14, rel=1e-6)


def lose_memory_at(*calls):
    """Some backward passes break off, with half a gradient already in."""

    def disturb(trainer):
        original, made = trainer.accelerator.backward, []

        def backward(loss, **kwargs):
            original(loss, **kwargs)
            made.append(1)
            if len(made) in calls:
                raise torch.OutOfMemoryError("CUDA out of memory")

        trainer.accelerator.backward = backward

    return disturb


def assert_same_run(found, other, expected, adapter):
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5)
    for name, matrix in adapter.items():
        torch.testing.assert_close(other[name], matrix, rtol=1e-3, atol=1e-5)


def test_out_of_memory_halves_the_micro_batch_then_recomputes_blocks(make_model, rows, tokenizer, tmp_path):
    """Two packs at once fail in the second micro-batch, then one pack at once fails; then one block is recomputed."""
    expected, adapter, _ = run(make_model, rows, tokenizer, tmp_path / "a")
    noted, trainers = [], []

    def disturb(trainer):
        trainers.append(trainer)
        lose_memory_at(2, 5)(trainer)

    found, other, _ = run(make_model, rows, tokenizer, tmp_path / "b", disturb=disturb, noted=noted)
    assert [block.keeps_its_input_only for block in blocks_of(trainers[0].model)] == [True, False]
    assert noted == [StepMemory(micro_batch=1, blocks=0), StepMemory(micro_batch=1, blocks=1)]
    assert_same_run(found, other, expected, adapter)


def test_out_of_memory_with_everything_recomputed_says_what_to_do(make_model, rows, tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"one pack and all 2 blocks recomputed.*smaller base"):
        run(make_model, rows, tokenizer, tmp_path, disturb=lose_memory_at(*range(1, 20)))


def poison(steps):
    """Makes the gradient of some optimizer steps infinite."""

    def disturb(trainer):
        original = trainer.accelerator.clip_grad_norm_

        def clip(parameters, *args, **kwargs):
            parameters = list(parameters)
            if trainer.state.global_step + 1 in steps:
                next(p for p in parameters if p.grad is not None).grad.fill_(float("inf"))
            return original(parameters, *args, **kwargs)

        trainer.accelerator.clip_grad_norm_ = clip

    return disturb


def test_a_step_with_an_infinite_gradient_is_skipped_counted_and_does_no_harm(make_model, rows, tokenizer, tmp_path):
    log, adapter, _ = run(make_model, rows, tokenizer, tmp_path, disturb=poison({2}))
    assert [record["skipped"] for record in log] == [False, True, False, False]
    assert log[1]["grad_norm"] is None
    assert log[2]["loss"] == pytest.approx(log[1]["loss"], rel=1e-6), "the skipped step changed the adapter"
    assert all(torch.isfinite(matrix).all() for matrix in adapter.values())


def test_several_infinite_gradients_in_a_row_stop_the_run(make_model, rows, tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"3 optimizer steps in a row.*learning_rate.*newest checkpoint"):
        run(make_model, rows, tokenizer, tmp_path, epochs=6, disturb=poison({2, 3, 4, 5, 6}))
    kept = newest_checkpoint(tmp_path / "checkpoints")
    assert all(torch.isfinite(t).all() for t in load_file(kept / "adapter_model.safetensors").values())
