"""What keeps a bad step from spoiling a run, and several processes from deciding differently."""

import torch
from torch import Tensor
from torch import distributed as dist

from fintune_kit.errors import UserError

MAX_SKIPPED = 3
"""Optimizer steps in a row that may be skipped."""
MAX_REPEATS = 16
"""Times that a step is repeated at a smaller scale. A scaler starts at 65,536, so that the last scale is 1."""


class NonFiniteGuard:
    """Refuses gradients that are not finite, counts them, and stops the run after several in a row.

    With a gradient scaler (float16) gradients overflow as a matter of course until the scale has been found. Then the
    step is repeated at half the scale, and no data is lost. Elsewhere, or where the loss itself is not finite, a
    smaller scale does not help, and the step is skipped.
    """

    def __init__(self) -> None:
        self._in_a_row = 0
        self.skipped = 0
        """Steps that left the adapter unchanged."""
        self.repeats = 0
        """Times that the newest step was repeated."""
        self.last_accepted = True

    def begin_step(self) -> None:
        """Another optimizer step begins."""
        self.repeats = 0

    def wants_repeat(self, *, loss: Tensor | float, norm: Tensor | float) -> bool:
        """Whether a step with a scaled loss is to be repeated: its gradient overflowed, its loss did not.

        Raises:
            UserError: it was repeated at every scale already.
        """
        if is_finite(norm) or not is_finite(loss):
            return False
        self.repeats += 1
        if self.repeats > MAX_REPEATS:
            raise UserError(
                f"the gradient of one optimizer step overflowed float16 at {MAX_REPEATS} scales; expected one scale at "
                f"which it does not: run on a card with bfloat16, or lower train.learning_rate"
            )
        return True

    def accepts(self, norm: Tensor | float) -> bool:
        """Whether a gradient of this norm may be applied.

        Raises:
            UserError: too many in a row were not finite.
        """
        self.last_accepted = is_finite(norm)
        if self.last_accepted:
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        self.skipped += 1
        if self._in_a_row >= MAX_SKIPPED:
            raise UserError(
                f"{self._in_a_row} optimizer steps in a row had a loss or gradient that was not finite; expected "
                f"finite ones: the adapter before them is kept in the newest checkpoint; lower train.learning_rate, or "
                f"run on a card with bfloat16"
            )
        return False


def is_finite(value: Tensor | float) -> bool:
    """Whether all of a number or tensor is finite."""
    return bool(torch.isfinite(torch.as_tensor(value)).all())


def decide_together(*wishes: bool) -> tuple[bool, ...]:
    """What process 0 wishes, in every process. Clocks differ, and processes that act differently wait for ever.

    All processes must call this at the same point. In a single process it returns its arguments.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return wishes
    agreed = torch.tensor(wishes, dtype=torch.int32, device=device_for_messages())
    dist.broadcast(agreed, src=0)
    return tuple(bool(value) for value in agreed.tolist())


def device_for_messages() -> torch.device:
    """Where the processes' small messages must lie: on the card for NCCL, else on the CPU."""
    on_card = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_card else torch.device("cpu")
