"""People with habits: who pays whom, when and how much, over twelve months.

    payday 28th  +2,650.00   rent 1st  -980.00   NETFLIX.COM 14th  -11.99, each month
    BLUE BOTTLE  about twice a week, more at weekends   a trip in May: its meals in foreign currency, a fee, one refund

A person draws favourites per group of the taxonomy and keeps them. Everything is a function of the seed and the
person's number, so that a statement does not change when more people are asked for.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fintune_kit.bank.taxonomy import REGIONS, Group, Merchant, Taxonomy, local_merchant

MONTHS = 12
"""Months of one person's statement."""

CURRENCIES = {"us": "USD", "gb": "GBP", "eu": "EUR", "in": "INR"}
_PRICE_LEVEL = {"us": 1.0, "gb": 0.8, "eu": 0.92, "in": 24.0}
_REGION_SHARES = (0.4, 0.18, 0.24, 0.18)
_FIRST_DAY = datetime.date(2022, 1, 1).toordinal()
_TEN_TO_NINETY = 2 * 1.2816  # standard deviations between the 10th and the 90th percentile
_WEEKDAY = np.array([0.9, 0.85, 0.9, 1.0, 1.25, 1.4, 1.1])  # payments by weekday, Monday first
_ABROAD = ("Food & Dining", "Groceries", "Transport", "Entertainment", "Shopping")  # bought abroad on a trip
_REFUNDED = ("Shopping", "Travel")
_REFUND_SHARE = 0.035
_WORDS_SHARE = 0.1  # of the payments: a word of the trade stands where the merchant's name would
_UNSEEN_WEIGHT = 3.0  # about a fifth of the rows are then of merchants kept for evaluation

_LANDLORD = Merchant(name="PRIVATE LANDLORD", category="Housing & Utilities", regions=REGIONS, split="train")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment before it has a text."""

    day: int
    """Proleptic ordinal (`datetime.date.fromordinal`)."""
    merchant: Merchant
    cents: int
    """Signed: money out is negative."""
    kind: str
    """Which templates write it: a group's kind, `rent` for a private landlord, `plain` for a word of the trade."""
    region: str
    """Which bank writes it; `foreign` abroad."""
    contact: int
    """Which of the person's contacts a transfer names; 0 is the person."""
    place: int
    """Where the merchant stands (any number)."""
    refund: bool = False


def person_payments(number: int, *, seed: int, taxonomy: Taxonomy) -> tuple[str, list[Payment]]:
    """One person's region and payments, in the order of the days."""
    rng = np.random.default_rng([seed, number])
    region = REGIONS[int(rng.choice(len(REGIONS), p=_REGION_SHARES))]
    first = _FIRST_DAY + int(rng.integers(0, 3 * 365))
    wealth = float(rng.lognormal(0.0, 0.35)) * _PRICE_LEVEL[region]
    payments: list[Payment] = []
    for category in taxonomy.categories:
        for group in category.groups:
            favourites = _favourites(group, region=region, taxonomy=taxonomy, rng=rng)
            if group.recurring:
                payments += _contracts(group, favourites, region=region, first=first, wealth=wealth, rng=rng)
            else:
                payments += _habit(group, favourites, region=region, first=first, wealth=wealth, rng=rng)
    payments = _with_trips(payments, taxonomy=taxonomy, region=region, first=first, rng=rng)
    payments += list(_refunds(payments, last=first + 30 * MONTHS, rng=rng))
    payments = _in_words_of_the_trade(payments, taxonomy=taxonomy, rng=rng)
    return region, sorted(payments, key=lambda payment: payment.day)


def _favourites(group: Group, *, region: str, taxonomy: Taxonomy, rng: np.random.Generator) -> list[Merchant]:
    """The merchants that this person goes to: brands of the region, and small businesses nearby."""
    brands = [merchant for merchant in group.merchants if region in merchant.regions]
    count = min(len(brands), int(rng.integers(3, 9)))
    weight = np.array([_UNSEEN_WEIGHT if merchant.split == "unseen" else 1.0 for merchant in brands])
    chosen = [brands[i] for i in rng.choice(len(brands), size=count, replace=False, p=weight / weight.sum())]
    if group.local:
        words = [*taxonomy.local_words["train"], *taxonomy.local_words["unseen"]]
        for _ in range(int(rng.integers(1, 5))):
            word, noun = words[int(rng.integers(len(words)))], group.local[int(rng.integers(len(group.local)))]
            chosen.append(local_merchant(word=word, noun=noun, category=group.category, taxonomy=taxonomy))
    rng.shuffle(chosen)
    return chosen


def _habit(
    group: Group,
    favourites: list[Merchant],
    *,
    region: str,
    first: int,
    wealth: float,
    rng: np.random.Generator,
) -> list[Payment]:
    """Payments at irregular days; a favourite's share falls with its rank."""
    count = int(rng.poisson(group.monthly * MONTHS * rng.gamma(3.0, 1 / 3.0)))
    if count == 0:
        return []
    share = 1.0 / np.arange(1, len(favourites) + 1)
    which = rng.choice(len(favourites), size=count, p=share / share.sum())
    days = first + np.arange(30 * MONTHS)
    weight = _WEEKDAY[(days - 1) % 7]  # ordinal 1 was a Monday
    when = rng.choice(days, size=count, p=weight / weight.sum())
    cents = _cents(_amounts(group, count, wealth=wealth, rng=rng), kind=group.kind, rng=rng)
    money_in = np.full(count, group.money_in) | ((group.kind == "transfer") & (rng.random(count) < 0.35))
    contacts = rng.integers(1, 13, size=count)
    home = int(rng.integers(0, 1 << 16))
    return [
        Payment(day, favourites[i], amount if income else -amount, group.kind, region, contact, home + 7 * i)
        for day, i, amount, income, contact in zip(
            when.tolist(), which.tolist(), cents.tolist(), money_in.tolist(), contacts.tolist(), strict=True
        )
    ]


def _contracts(
    group: Group, favourites: list[Merchant], *, region: str, first: int, wealth: float, rng: np.random.Generator
) -> list[Payment]:
    """Payments on the same day of each month, of the same amount up to the group's `vary`."""
    count = 1 if group.kind == "payroll" else min(len(favourites), int(rng.poisson(group.recurring)))
    payments: list[Payment] = []
    for merchant in favourites[:count]:
        base = float(_amounts(group, 1, wealth=wealth, rng=rng)[0])
        start, step = first + int(rng.integers(0, 28)), 30
        if group.kind == "payroll" and rng.random() < 0.4:
            base, step = base / 2, 14
        amounts = base * (1 + group.vary * rng.standard_normal(30 * MONTHS // step + 1))
        cents = np.round(np.maximum(amounts, 1.0) * 100).astype(int)
        # a private landlord is paid by a transfer that says so; the contact is always the same
        private = group.amount[0] >= 900 and group.kind == "debit" and rng.random() < 0.45
        payee, kind = (_LANDLORD, "rent") if private else (merchant, group.kind)
        for number, day in enumerate(range(start, first + 30 * MONTHS, step)):
            slip = int(rng.integers(0, 3)) if kind != "payroll" else 0
            sign = 1 if group.money_in else -1
            payments.append(Payment(day + slip, payee, sign * int(cents[number]), kind, region, 0, start))
    return payments


def _with_trips(
    payments: list[Payment], *, taxonomy: Taxonomy, region: str, first: int, rng: np.random.Generator
) -> list[Payment]:
    """Moves the purchases of up to two journeys abroad, to merchants that are there, and adds the bank's fee."""
    abroad = {category.name: category.groups[0] for category in taxonomy.categories if category.name in _ABROAD}
    fee_group = next(c for c in taxonomy.categories if c.name == "Fees & Cash").groups[0]
    fee = next(merchant for merchant in fee_group.merchants if merchant.name == "FOREIGN TRANSACTION FEE")
    starts = first + rng.integers(20, 30 * MONTHS - 20, size=int(rng.integers(0, 3)))
    moved: list[Payment] = []
    for payment in payments:
        group = abroad.get(payment.merchant.category)
        away = any(start <= payment.day < start + 9 for start in starts.tolist())
        if not (away and group and payment.kind in ("card", "online")):
            moved.append(payment)
            continue
        there = [merchant for merchant in group.merchants if merchant.regions != (region,)]
        merchant = there[int(rng.integers(len(there)))]
        moved.append(replace(payment, merchant=merchant, kind="card", region="foreign"))
        if rng.random() < 0.3:
            cents = min(-30, round(payment.cents * 0.03))
            moved.append(Payment(payment.day, fee, cents, "fee", payment.region, 0, 0))
    return moved


def _refunds(payments: list[Payment], *, last: int, rng: np.random.Generator) -> Iterator[Payment]:
    """Money back from a shop or a hotel: the same merchant and category, a plus sign, some days later."""
    for payment, chance in zip(payments, rng.random(len(payments)).tolist(), strict=True):
        if payment.merchant.category not in _REFUNDED or chance > _REFUND_SHARE or payment.region == "foreign":
            continue
        share = 1.0 if chance < _REFUND_SHARE * 0.7 else 0.5
        day = min(last, payment.day + int(rng.integers(2, 20)))
        yield replace(payment, day=day, cents=max(1, round(-payment.cents * share)), refund=True)


def _in_words_of_the_trade(payments: list[Payment], *, taxonomy: Taxonomy, rng: np.random.Generator) -> list[Payment]:
    """Some payments without a merchant's name: `HARDWARE STORE`, `loyer`, or the name that another tool gives."""
    words = {category.name: [*category.aliases, *category.words] for category in taxonomy.categories}
    names = {merchant.name for category in taxonomy.categories for g in category.groups for merchant in g.merchants}
    merchants = {
        category: [
            Merchant(name=word.upper(), category=category, regions=REGIONS, split="train")
            for word in found
            if word.upper() not in names
        ]
        for category, found in words.items()
    }
    draws = rng.random((len(payments), 2)).tolist()
    return [
        replace(payment, merchant=known[int(which * len(known))], kind="plain")
        if draw < _WORDS_SHARE and payment.region != "foreign" and (known := merchants[payment.merchant.category])
        else payment
        for payment, (draw, which) in zip(payments, draws, strict=True)
    ]


def _amounts(group: Group, count: int, *, wealth: float, rng: np.random.Generator) -> Floats:
    """Log-normal amounts between the group's percentiles, at the person's wealth and price level."""
    low, high = np.log(group.amount)
    return np.exp(rng.normal((low + high) / 2, (high - low) / _TEN_TO_NINETY, size=count)) * wealth


def _cents(amounts: Floats, *, kind: str, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Amounts as people meet them: cash in tens, transfers often round, prices often ending in 99."""
    cents = np.maximum(np.round(amounts * 100), 50.0)
    if kind == "cash":
        cents = np.maximum(np.round(cents / 1000) * 1000, 1000.0)
    elif kind == "transfer":
        cents = np.where(rng.random(len(cents)) < 0.7, np.maximum(np.round(cents / 500) * 500, 500.0), cents)
    elif kind in ("card", "online"):
        cents = np.where(rng.random(len(cents)) < 0.35, np.round(cents / 100) * 100 + 99, cents)
    return cents.astype(np.int64)
