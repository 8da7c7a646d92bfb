"""Moves amounts and dates a little, so that nobody can find the statement by them. Their order stays.

    amounts   -120.00  -45.00  -45.00  +2,600.00      dates   3 Mar   3 Mar   9 Mar
              -117.82  -46.31  -46.31  +2,655.40              5 Mar   5 Mar   10 Mar

Equal stays equal (a subscription stays one), smaller stays smaller, earlier stays earlier, money in stays money in.
"""

import datetime
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

_CENT = Decimal("0.01")


def jitter_amounts(amounts: Sequence[Decimal], *, share: float, rng: np.random.Generator) -> list[Decimal]:
    """Amounts moved by up to `share` of themselves, in the same order by value; zero stays zero.

    Args:
        amounts: signed, in one currency.
        share: 0.05 moves by up to five percent (a crowd of near-equal amounts may be moved by a few cents more, so that
            none trades places).
        rng: of this run.
    """
    moved: dict[Decimal, Decimal] = {Decimal(0): Decimal(0)}
    for sign in (1, -1):
        sizes = sorted({abs(amount) for amount in amounts if amount * sign > 0})
        previous = Decimal(0)
        for size, draw in zip(sizes, rng.uniform(-share, share, size=len(sizes)).tolist(), strict=True):
            new = max((size * Decimal(1 + draw)).quantize(_CENT), previous + _CENT)
            moved[size * sign] = new * sign
            previous = new
    return [moved[amount] for amount in amounts]


def jitter_dates(dates: Sequence[str], *, days: int, rng: np.random.Generator) -> list[str]:
    """ISO dates moved by up to `days` in either direction, in the same order; the same day stays the same day."""
    ordinals = sorted({datetime.date.fromisoformat(date).toordinal() for date in dates})
    moved: dict[str, str] = {}
    previous = 0
    for ordinal, draw in zip(ordinals, rng.integers(-days, days + 1, size=len(ordinals)).tolist(), strict=True):
        # never past `days`: the day before was moved by at most that, and lies at least one day earlier
        new = max(ordinal + draw, previous + 1)
        moved[datetime.date.fromordinal(ordinal).isoformat()] = datetime.date.fromordinal(new).isoformat()
        previous = new
    return [moved[date] for date in dates]
