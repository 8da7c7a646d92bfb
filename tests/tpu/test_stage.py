"""Stage 3 on JAX beside stage 3 on PyTorch: the same packs, the same recipe, the same log."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("jax", reason="JAX is not installed: `make test-tpu` runs these tests in .venv-tpu")
pytest.importorskip("tunix", reason="Tunix is not installed: `make test-tpu` runs these tests in .venv-tpu")

import jax

from fintune_kit.errors import UserError
from fintune_kit.pack.store import open_packed
from fintune_kit.tpu.stage import learning_rates, train_on_tpu, without_validation
from fintune_kit.train.artifacts import FILES
from fintune_kit.train.model import load_adapter, load_base
from fintune_kit.train.record.log import read_log
from fintune_kit.train.stage import train
from fintune_kit.train.validation import mean_loss
from fintune_kit.workspace import sha256_of
from tests.tpu.world import make_world, recipe, records, run, run_in_a_process

SAME = 1e-4
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("tpu") / "world")


@pytest.fixture(scope="module")
def on_torch(world) -> Path:
    """The run on PyTorch, through TRL's trainer."""
    out = world.parent / "torch"
    assert run(train, world, out).finished
    return out


@pytest.fixture(scope="module")
def on_eight(world) -> Path:
    """The run on eight devices."""
    assert len(jax.devices()) == 8
    out = world.parent / "eight"
    outcome = run(train_on_tpu, world, out)
    assert outcome.finished
    assert (outcome.plan.processes, outcome.plan.packs_per_step) == (8, 16)
    assert outcome.plan.accumulation == 2, "one micro-batch a step would not show that gradients are summed"
    return out


def agree(found: list[dict], expected: list[dict]) -> None:
    """Two logs tell the same run: step by step, to 1e-4 of each number."""
    assert len(found) == len(expected) >= 20
    assert expected[-1]["loss"] < 0.6 * expected[0]["loss"], "a run that learns nothing could not tell"
    assert len({record["supervised_tokens"] for record in expected}) > 10, "equal steps could not tell their order"
    for key in ("step", "skipped", "supervised_tokens", "examples"):
        assert [record[key] for record in found] == [record[key] for record in expected]
    for key in ("loss", "learning_rate", "grad_norm"):
        ours, theirs = ([record[key] for record in log] for log in (found, expected))
        assert ours == pytest.approx(theirs, rel=SAME, abs=1e-12), key


def test_the_packs_have_prefixes_to_share(world):
    packed = open_packed(world / "packed")
    depths = np.asarray(packed.train.rows.with_format("numpy")["position_ids"])
    ends = np.asarray(packed.train.rows.with_format("numpy")["subtree_end"])
    falls = np.diff(depths, axis=1) < 0
    assert (falls & (depths[:, 1:] > 0)).any(), "no branch leaves a prefix: ordinary packing would pass as well"
    assert len(np.unique(ends)) > 20


def test_eight_devices_learn_what_pytorch_learns(on_eight, on_torch):
    agree(records(on_eight), records(on_torch))


def test_one_device_learns_what_pytorch_learns(world, on_torch):
    out = world.parent / "one"
    run_in_a_process(world, out, devices=1)
    plan = json.loads((out / "run" / "plan.json").read_text())["plan"]
    assert (plan["processes"], plan["accumulation"]) == (1, 16)
    agree(records(out), records(on_torch))


def test_the_adapter_gives_the_same_loss_in_pytorch(world, on_eight, on_torch):
    packed = open_packed(world / "packed")
    for out in (on_eight, on_torch):
        said = json.loads((out / "run" / "manifest.json").read_text())
        base = load_base(world / "base", dtype="float32", quantization="none", device="cpu")
        model = load_adapter(base, out / "adapter")
        loss, tokens = mean_loss(model, packed.validation.rows, micro_batch=4, device="cpu")
        assert tokens == said["counts"]["validation_tokens"]
        assert loss == pytest.approx(said["loss"]["validation"], rel=SAME)
    fresh = load_base(world / "base", dtype="float32", quantization="none", device="cpu")
    untrained, _ = mean_loss(fresh, packed.validation.rows, micro_batch=4, device="cpu")
    assert loss < 0.7 * untrained, "an adapter that does nothing could not tell"


def test_the_artifacts_are_those_of_the_pytorch_path(on_eight, on_torch):
    assert set(FILES) <= {path.name for path in (on_eight / "adapter").iterdir()}
    ours, theirs = (json.loads((out / "adapter" / "adapter_config.json").read_text()) for out in (on_eight, on_torch))
    assert sorted(ours.pop("target_modules")) == sorted(theirs.pop("target_modules"))
    assert ours == theirs
    found, expected = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (on_eight, on_torch))
    assert found.keys() == expected.keys()
    for name, matrix in expected.items():
        assert found[name].dtype == matrix.dtype == np.float32
        np.testing.assert_allclose(found[name], matrix, atol=2e-3 * np.abs(matrix).max())


def test_the_log_says_how_long_the_devices_waited_for_packs(on_eight):
    log = records(on_eight)[1:]  # the first packs are read before anything can hide it
    waited, worked = (sum(record[key] for record in log) for key in ("input_wait_seconds", "seconds"))
    assert waited < 0.01 * worked, f"{waited:.3f} s of {worked:.3f} s"


def test_the_log_says_how_long_the_compiler_took(on_eight):
    first, *others = records(on_eight)
    assert first["compile_seconds"] > 0
    assert not any("compile_seconds" in record for record in others)


def test_a_run_compiles_its_step_once(world, tmp_path):
    """The compiler runs before the first step and, for the validation loss, after the last one."""
    steps_done: list[int] = []

    def hear(name, *_args, **_kwargs):
        if name == COMPILED:
            steps_done.append(len(read_log(tmp_path / "run" / "log.jsonl")))

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        outcome = run(train_on_tpu, world, tmp_path, recipe(effective_batch=32))
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)
    assert outcome.steps_done > 5
    assert 0 in steps_done, "the listener heard nothing"
    assert outcome.steps_done in steps_done
    assert set(steps_done) == {0, outcome.steps_done}, f"the compiler ran again after steps {sorted(set(steps_done))}"


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(world, tmp_path):
    dropped = recipe(effective_batch=32, dropout=0.2)
    run(train_on_tpu, world, tmp_path / "whole", dropped)
    first = run(train_on_tpu, world, tmp_path / "parts", dropped, stop_after=4)
    assert (first.finished, first.steps_done) == (False, 4)
    assert "run the same command again" in first.describe()
    run(train_on_tpu, world, tmp_path / "parts", dropped)
    whole, parts = (
        [{key: value for key, value in record.items() if "second" not in key} for record in records(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert parts == whole
    name = "adapter/adapter_model.safetensors"
    assert sha256_of(tmp_path / "parts" / name) == sha256_of(tmp_path / "whole" / name)


def test_a_killed_run_goes_on_from_its_newest_whole_checkpoint(world, tmp_path):
    run(train_on_tpu, world, tmp_path, recipe(effective_batch=32), stop_after=5, minutes_between_checkpoints=0)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-5"]
    damaged = checkpoints / "checkpoint-5" / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    outcome = run(train_on_tpu, world, tmp_path, recipe(effective_batch=32))
    assert outcome.finished
    assert [record["step"] for record in records(tmp_path)] == list(range(1, outcome.steps_done + 1))


def test_a_budget_that_is_spent_stops_the_run_with_a_checkpoint(world, tmp_path):
    outcome = run(train_on_tpu, world, tmp_path, recipe(effective_batch=32), budget_seconds=1)
    assert (outcome.finished, outcome.steps_done) == (False, 1)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-1" / "manifest.json").is_file()


def test_a_finished_run_is_not_trained_twice(world, on_eight):
    before = sha256_of(on_eight / "adapter")
    assert run(train_on_tpu, world, on_eight).finished
    assert sha256_of(on_eight / "adapter") == before


def test_packs_of_another_length_are_refused(world, tmp_path):
    longer = replace(recipe(), pack=replace(recipe().pack, max_length=256))
    with pytest.raises(UserError, match=r"128 positions.*expects 256"):
        run(train_on_tpu, world, tmp_path, longer)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_to_end_early_is_refused_before_anything_is_written(world, tmp_path):
    impatient = replace(recipe(), train=replace(recipe().train, patience=2))
    with pytest.raises(UserError, match=r"train.patience is 2.*leave train.patience out"):
        run(train_on_tpu, world, tmp_path, impatient)
    assert not (tmp_path / "run").exists()


def test_that_nothing_is_validated_on_the_way_is_said_once_a_run(world, tmp_path, caplog):
    assert (recipe().train.validations, recipe().train.keep) != (0, "last"), "the recipe must ask for something"
    with caplog.at_level("WARNING"):
        assert run(train_on_tpu, world, tmp_path, stop_after=2).steps_done == 2
    said = [record.getMessage() for record in caplog.records if "train.validations" in record.getMessage()]
    assert said == [
        "train.validations = 10 and train.keep = 'best' have no effect on a TPU: the validation loss is measured after "
        "the last step only, and the adapter of the last step is kept"
    ]
    assert not any("validation_loss" in record for record in records(tmp_path))
    assert not (tmp_path / "run" / "best").exists()


def test_a_recipe_that_asks_for_no_validation_hears_nothing(caplog):
    quiet = replace(recipe(), train=replace(recipe().train, validations=0, keep="last"))
    with caplog.at_level("WARNING"):
        assert without_validation(quiet) == quiet
    assert not caplog.records


def test_the_rates_are_those_of_transformers():
    rates = learning_rates(replace(recipe().train, learning_rate=1.0, warmup_ratio=0.1), steps=20)
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert rates[11] == pytest.approx(0.5)
    assert rates[-1] < 0.01
