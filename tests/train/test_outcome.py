"""The sentence at the end of a call of `train`."""

from types import SimpleNamespace

from fintune_kit.train.outcome import Outcome


def described(*losses, validation_loss, steps=2):
    log = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    plan = SimpleNamespace(optimizer_steps=steps)
    finished = len(log) == steps
    outcome = Outcome(finished=finished, steps_done=len(log), plan=plan, log=log, validation_loss=validation_loss)
    return outcome.describe()


def test_a_finished_run_says_its_losses():
    said = "2 of 2 optimizer steps: training loss 1.800 -> 0.900, validation loss 1.100"
    assert described(1.8, 0.9, validation_loss=1.1) == said


def test_a_process_beside_the_first_one_says_no_validation_loss():
    """It measures none. An error here would end the first process while it writes the adapter."""
    assert described(1.8, 0.9, validation_loss=None) == "2 of 2 optimizer steps: training loss 1.800 -> 0.900"


def test_a_loss_that_is_not_finite_is_a_word():
    assert "training loss not finite -> 0.900" in described(None, 0.9, validation_loss=1.1)


def test_a_stopped_run_says_how_to_go_on():
    assert described(1.8, validation_loss=None).endswith("saved; run the same command again to go on")
