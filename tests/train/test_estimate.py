import pytest

from fintune_kit.train.estimate import FirstSteps, describe_progress, measured_hours
from tests.train.test_trainer import plan

PLAN = plan(micro_batch=1, packs_per_step=1, optimizer_steps=1000)


def log_of(*seconds: float) -> list[dict]:
    return [{"step": step, "loss": 1.5, "seconds": value} for step, value in enumerate(seconds, 1)]


def test_too_few_steps_say_nothing():
    assert measured_hours(log_of(50.0, 3.6, 3.6), steps=1000) is None
    assert describe_progress(log_of(50.0, 3.6), plan=PLAN) == "step 2 of 1000: loss 1.500"


def test_the_first_step_which_warms_up_is_left_out():
    assert measured_hours(log_of(50.0, 3.6, 3.6, 3.6), steps=1000) == pytest.approx((1.0, 1.0))


def test_unequal_steps_give_a_range_and_one_slow_step_does_not_move_it():
    low, high = measured_hours(log_of(9.0, 3.2, 3.6, 4.0, 400.0), steps=1000)
    assert (low, high) == pytest.approx((3.4 * 1000 / 3600, 4.2 * 1000 / 3600))


def test_measured_stands_beside_planned():
    said = describe_progress(log_of(9.0, 3.6, 3.6, 3.6), plan=PLAN)
    assert said == (
        "step 4 of 1000: loss 1.500, 1.00 h left\nall steps: 1.00 to 1.00 h measured, 0.00 to 0.00 h planned"
    )


def test_it_is_said_once_when_there_is_something_to_say(capsys):
    class State:
        is_world_process_zero = True

    seen = log_of(9.0, 3.6, 3.6)
    watch = FirstSteps(PLAN, read=lambda: seen)
    watch.on_step_begin(None, State(), None)
    assert capsys.readouterr().out == ""
    seen += [{"step": 4, "loss": 1.5, "seconds": 3.6}]
    watch.on_step_begin(None, State(), None)
    watch.on_step_begin(None, State(), None)
    assert capsys.readouterr().out.count("h measured") == 1
