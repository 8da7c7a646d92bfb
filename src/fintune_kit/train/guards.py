"""What keeps a bad step from spoiling a run: gradients that are not finite, and micro-batches that do not fit."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fintune_kit.errors import UserError


class NonFiniteGuard:
    """Refuses gradients that are not finite, counts them, and stops the run after several in a row.

    With a gradient scaler the first steps overflow as a matter of course, until it has found its scale: it starts at
    65,536 and halves, so more are allowed in a row.
    """

    def __init__(self, *, in_a_row: int = 3, in_a_row_scaled: int = 16) -> None:
        """
        Args:
            in_a_row: refused steps after which the run stops.
            in_a_row_scaled: the same where losses are scaled (float16).
        """
        self._limits = {False: in_a_row, True: in_a_row_scaled}
        self._row = 0
        self.skipped = 0
        self.last_accepted = True

    def accepts(self, norm: Tensor | float, *, scaled: bool) -> bool:
        """Whether a gradient of this norm may be applied.

        Raises:
            UserError: too many in a row were not finite.
        """
        self.last_accepted = bool(torch.isfinite(torch.as_tensor(norm)).all())
        if self.last_accepted:
            self._row = 0
            return True
        self._row += 1
        self.skipped += 1
        if self._row >= self._limits[scaled]:
            raise UserError(
                f"{self._row} optimizer steps in a row had a loss or gradient that was not finite; expected finite "
                f"ones: the adapter before them is kept in the newest checkpoint; lower train.learning_rate, or run "
                f"on a card with bfloat16"
            )
        return False


def split_batch(batch: dict[str, Tensor], pieces: int) -> Iterator[dict[str, Tensor]]:
    """A micro-batch in `pieces` parts of about equal size; fewer where it has fewer packs."""
    size = -(-len(next(iter(batch.values()))) // pieces)
    for start in range(0, len(next(iter(batch.values()))), size):
        yield {name: tensor[start : start + size] for name, tensor in batch.items()}
