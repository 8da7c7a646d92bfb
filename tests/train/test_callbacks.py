"""The clock of a run: a signal stops it after the step that runs, with a checkpoint."""

import signal

import pytest
from transformers import TrainerControl, TrainerState

from fintune_kit.train.callbacks import Clock


def after_a_step(clock, state=None):
    """The wishes of the clock at the end of a step: to save, and to stop."""
    control = TrainerControl()
    clock.on_step_end(None, state or TrainerState(), control)
    return control.should_save, control.should_training_stop


@pytest.fixture
def clock():
    return Clock(minutes_between_checkpoints=20.0)


@pytest.fixture
def heard():
    """The signals that reach the handlers from before."""
    signals = []
    before = {n: signal.signal(n, lambda number, _: signals.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def test_without_a_signal_a_run_goes_on(clock, heard):
    with clock.catching_signals():
        assert after_a_step(clock) == (False, False)
    assert heard == []


def test_the_last_step_is_saved_before_anything_that_may_fail(clock):
    assert after_a_step(clock, TrainerState(global_step=6, max_steps=7)) == (False, False)
    assert after_a_step(clock, TrainerState(global_step=7, max_steps=7)) == (True, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_save_and_then_does_what_it_would_have_done(clock, heard, number, capsys):
    with clock.catching_signals():
        signal.raise_signal(number)
        assert heard == []
        assert after_a_step(clock) == (True, True)
    assert heard == [number]
    assert capsys.readouterr().err == "stopping after this step, with a checkpoint\n"


def test_a_second_ctrl_c_stops_at_once(clock, heard):
    sent = []

    def three_signals():
        with clock.catching_signals():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):  # a launcher adds the one in the middle
                sent.append(number)
                signal.raise_signal(number)
            pytest.fail("it went on")

    with pytest.raises(KeyboardInterrupt):
        three_signals()
    assert len(sent) == 3
    assert heard == []
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM], "the handlers are back"


def test_a_launcher_that_repeats_a_signal_does_not_keep_its_workers_from_saving(clock, heard, monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("fintune_kit.train.callbacks.decide_together", lambda *wishes: wishes)
    with clock.catching_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert after_a_step(clock) == (True, True)
    assert heard == [signal.SIGTERM]
