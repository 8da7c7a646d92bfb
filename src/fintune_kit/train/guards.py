"""Guards of a run: a bad step does not spoil the adapter, and several processes take the same decisions."""

import torch
from torch import Tensor
from torch import distributed as dist

from fintune_kit.errors import UserError

MAX_SKIPPED = 3
"""Optimizer steps in a row that may be skipped."""
MAX_REPEATS = 16
"""Times that a step is repeated at a smaller scale. A scaler starts at 65,536, so the last scale is 1."""


class NonFiniteGuard:
    """Refuses gradients that are not finite, counts them, and stops the run after several in a row.

    With a gradient scaler (float16), gradients overflow until the right scale has been found. That is normal: the step
    is repeated at half the scale, and no data is lost. Without a scaler, or when the loss itself is not finite, a
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
        """Resets the count of repeats, at the beginning of an optimizer step."""
        self.repeats = 0

    def wants_repeat(self, *, loss: Tensor | float, norm: Tensor | float) -> bool:
        """Whether to repeat a step with a scaled loss, because its gradient overflowed and its loss did not.

        Raises:
            UserError: the step was already repeated at every scale.
        """
        if is_finite(norm) or not is_finite(loss):
            return False
        self.repeats += 1
        if self.repeats > MAX_REPEATS:
            raise UserError(
                f"the gradient of one optimizer step overflowed float16 at {MAX_REPEATS} scales; expected one scale "
                f"without overflow: run on a card with bfloat16, or lower train.learning_rate"
            )
        return True

    def accepts(self, norm: Tensor | float) -> bool:
        """Whether a gradient of this norm may be applied.

        Raises:
            UserError: `MAX_SKIPPED` norms in a row were not finite.
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
                f"finite ones: lower train.learning_rate, or run on a card with bfloat16; the newest checkpoint holds "
                f"the adapter before these steps"
            )
        return False


def is_finite(value: Tensor | float) -> bool:
    """Whether a number, or every value of a tensor, is finite."""
    return bool(torch.isfinite(torch.as_tensor(value)).all())


def decide_together(*wishes: bool) -> tuple[bool, ...]:
    """Returns the wishes of process 0 in every process.

    The clocks of processes differ, and processes that act differently would wait for each other for ever. All
    processes must call this at the same point. A single process gets its own wishes back.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return wishes
    agreed = torch.tensor(wishes, dtype=torch.int32, device=device_for_messages())
    dist.broadcast(agreed, src=0)
    return tuple(bool(value) for value in agreed.tolist())


def device_for_messages() -> torch.device:
    """The device on which the processes' small messages must be: the card for NCCL, else the CPU."""
    on_card = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_card else torch.device("cpu")
