"""Amounts and dates move a little and keep their order."""

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fintune_kit.bank.privacy.jitter import jitter_amounts, jitter_dates

CENTS = st.lists(st.integers(-500_000, 500_000), min_size=2, max_size=60)
DAYS = st.lists(st.dates(), min_size=2, max_size=60)


@given(CENTS, st.integers(0, 99))
def test_amounts_keep_their_order_sign_and_equality(cents: list[int], seed: int) -> None:
    amounts = [Decimal(value).scaleb(-2) for value in cents]
    moved = jitter_amounts(amounts, share=0.1, rng=np.random.default_rng(seed))
    for (left, new_left), (right, new_right) in zip(
        zip(amounts, moved, strict=True), list(zip(amounts, moved, strict=True))[1:], strict=False
    ):
        assert (left < right) == (new_left < new_right)
        assert (left == right) == (new_left == new_right)
        assert (left > 0) == (new_left > 0)


@given(st.lists(st.dates(min_value=np.datetime64("1990-01-01").item()), min_size=2, max_size=40), st.integers(0, 99))
def test_dates_keep_their_order_and_stay_near(days: list, seed: int) -> None:
    dates = [day.isoformat() for day in days if day.year < 2100]
    moved = jitter_dates(dates, days=4, rng=np.random.default_rng(seed))
    pairs = sorted(zip(dates, moved, strict=True))
    assert [new for _, new in pairs] == sorted(moved)
    assert len(set(moved)) == len(set(dates))
    for old, new in pairs:
        assert abs((np.datetime64(new) - np.datetime64(old)).astype(int)) <= 4


def test_something_moves() -> None:
    amounts = [Decimal("120.00"), Decimal("45.00"), Decimal("45.00")]
    moved = jitter_amounts(amounts, share=0.05, rng=np.random.default_rng(0))
    assert moved != amounts
    assert all(abs(new / old - 1) <= Decimal("0.051") for new, old in zip(moved, amounts, strict=True))
