from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from transformers import TrainerControl

from fintune_kit.pack.store import Packed, PackedSplit
from fintune_kit.recipes import TrainRecipe
from fintune_kit.train.loss import enable_packs
from fintune_kit.train.validation import (
    Schedule,
    Validator,
    load_best_adapter,
    losses_of_packs,
    mean_by_task,
    mean_loss,
    save_best_adapter,
    tasks_of,
    validation_schedule,
)


def split(strata: list[list[int]]) -> PackedSplit:
    """Packs of which only the composition is known."""
    counts = np.ones(len(strata), np.int64)
    table = np.array(strata, np.int64).reshape(len(strata), 2)
    return PackedSplit([None] * len(strata), counts, counts, counts, counts, strata=table)  # type: ignore[arg-type]


def packed(*, train: int, validation: list[list[int]]) -> Packed:
    return Packed(split([[4, 4]] * train), split(validation), {"strata": [["qa", ""], ["sentiment", "positive"]]})


def test_it_is_measured_at_even_distances_and_after_the_last_step():
    schedule = validation_schedule(
        TrainRecipe(validations=4), packed=packed(train=400, validation=[[8, 0], [0, 8]]), optimizer_steps=10
    )
    assert schedule.steps == (2, 5, 7, 10)
    assert schedule.packs == (0, 1)


def test_a_short_run_is_measured_once_a_step_at_most():
    schedule = validation_schedule(
        TrainRecipe(validations=9), packed=packed(train=400, validation=[[8, 0]]), optimizer_steps=3
    )
    assert schedule.steps == (1, 2, 3)


def test_only_as_many_packs_are_measured_as_three_hundredths_of_the_time_allow():
    """1,000 training packs, ten times: 6 packs each, since a forward pass takes half a training step."""
    schedule = validation_schedule(
        TrainRecipe(validations=10), packed=packed(train=1000, validation=[[8, 0], [0, 8]] * 20), optimizer_steps=100
    )
    assert len(schedule.packs) == 6
    assert sum(index % 2 for index in schedule.packs) == 3, "both tasks are among them, in proportion"


def test_without_validation_packs_nothing_is_measured():
    nothing = validation_schedule(TrainRecipe(), packed=packed(train=9, validation=[]), optimizer_steps=9)
    assert nothing == Schedule((), ())


def test_the_task_of_a_pack_is_the_one_that_it_holds():
    assert tasks_of(packed(train=1, validation=[[3, 0], [0, 2]])) == ["qa", "sentiment"]


def test_a_mean_is_over_tokens_and_not_over_packs():
    measured = mean_by_task(np.array([6.0, 1.0, 5.0]), np.array([2, 1, 5]), ["qa", "qa", "sentiment"])
    assert measured.loss == pytest.approx(12 / 8)
    assert measured.by_task == pytest.approx({"qa": 7 / 3, "sentiment": 1.0})


def run(losses: list[float], *, patience: int | None = None, log: list[dict] | None = None) -> tuple[Validator, list]:
    """A validator that measures these losses after steps 1, 2, ..., until it stops the run."""
    kept: list[tuple[int, float]] = []
    queue = iter(losses)
    validator = Validator(
        Schedule(tuple(range(1, len(losses) + 1)), (0,)),
        tasks=["qa"],
        losses_of=lambda _packs: (np.array([next(queue)]), np.array([1])),
        save_best=lambda step, loss: kept.append((step, loss)),
        patience=patience,
    )
    validator.resume(log or [])
    control = TrainerControl()
    for step in range(1, len(losses) + 1):
        validator.on_step_end(None, SimpleNamespace(global_step=step), control)
        if control.should_training_stop:
            break
    return validator, kept


def test_each_new_best_is_kept():
    _, kept = run([3.0, 2.0, 2.5, 1.0])
    assert kept == [(1, 3.0), (2, 2.0), (4, 1.0)]


def test_patience_stops_a_run_that_gets_no_better():
    validator, _ = run([3.0, 2.0, 2.0, 2.5, 1.0], patience=2)
    assert validator.stopped_early
    assert validator.record_of(4)["validation_loss"] == 2.5, "two measurements after the best"
    assert validator.record_of(4)["validation_by_task"] == {"qa": 2.5}
    assert validator.record_of(5) == {}


def test_a_resumed_run_knows_what_was_measured_before():
    _, kept = run([2.5, 1.5], log=[{"step": 1, "validation_loss": 2.0}, {"step": 2}])
    assert kept == [(2, 1.5)]
    validator, _ = run([2.5], log=[{"validation_loss": 2.0}, {"validation_loss": 2.1}], patience=2)
    assert validator.stopped_early


def test_a_run_that_was_killed_after_it_stopped_early_does_not_train_on():
    validator, _ = run([], log=[{"validation_loss": loss} for loss in (2.0, 2.1, 2.2)], patience=2)
    assert validator.stopped_early
    validator, _ = run([], log=[{"validation_loss": loss} for loss in (2.0, 2.1, 1.2)], patience=2)
    assert not validator.stopped_early


@pytest.fixture
def reader(make_model):
    model = make_model().requires_grad_(False)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)  # stands in for an adapter
    enable_packs(model, head_chunk=4)
    return model


def test_the_loss_of_packs_is_that_of_each_alone(reader, rows):
    reader.train()
    losses, tokens = losses_of_packs(reader, rows, [0, 2, 3], device="cpu")
    assert reader.training, "a measurement leaves the model as it was"
    for place, index in enumerate([0, 2, 3]):
        mean, count = mean_loss(reader, rows.select([index]), micro_batch=1, device="cpu")
        assert tokens[place] == count
        assert losses[place] == pytest.approx(mean * count)
    assert len(set(tokens.tolist())) > 1, "equal packs could not tell their order"


def test_the_best_adapter_comes_back_with_its_step(reader, tmp_path):
    assert load_best_adapter(reader, tmp_path) is None
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    save_best_adapter(reader, tmp_path, step=40, loss=1.25)
    with torch.no_grad():
        reader.model.layers[0].mlp.up_proj.weight.add_(1.0)
    assert load_best_adapter(reader, tmp_path) == (40, 1.25)
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())


def test_the_mean_counts_a_token_as_often_as_examples_predict_it(reader, rows):
    before = mean_loss(reader, rows, micro_batch=2, device="cpu")
    heavier = rows.map(
        lambda row: {"loss_weight": [3 * weight for weight in row["loss_weight"]]}, features=rows.features
    )
    loss, tokens = mean_loss(reader, heavier, micro_batch=2, device="cpu")
    assert (loss, tokens) == (pytest.approx(before[0], rel=1e-6), 3 * before[1])


def test_a_pack_without_supervised_tokens_has_no_loss(reader):
    columns = {"input_ids": [[1, 2]], "position_ids": [[0, 1]], "subtree_end": [[2, 2]]}
    columns |= {"shift_labels": [[-100, -100]], "loss_weight": [[0, 0]]}
    features = Features({name: List(Value("int32"), length=2) for name in columns})
    empty = Dataset.from_dict(columns, features=features)
    assert mean_loss(reader, empty, micro_batch=1, device="cpu") == (0.0, 0)
