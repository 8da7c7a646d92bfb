"""The categories of bank transactions and the merchants of each, read from `taxonomy.toml`.

    Category  Food & Dining
      Group     kind card, 9 payments a month of 5 to 42 dollars
        Merchant  BLUE BOTTLE     us   train
        Merchant  TIM HORTONS     any  unseen      never in a training row: the evaluation's unseen merchants

A small business is composed (`HARBOR DINER`) from a first word and a noun; it is unseen when its first word is. So
the split is by merchant throughout, and no row decides it.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

REGIONS = ("us", "gb", "eu", "in")
"""Where a generated person lives, which decides currency, names, places and how the bank writes."""

Split = Literal["train", "unseen"]


@dataclass(frozen=True, kw_only=True)
class Merchant:
    """Who is paid (or pays), as a bank writes the name."""

    name: str
    category: str
    regions: tuple[str, ...]
    split: Split


@dataclass(frozen=True, kw_only=True)
class Group:
    """Merchants of one category that are paid in one way, and how often a person pays one."""

    category: str
    kind: str
    """card, online, debit, payroll, transfer, cash or fee: which templates write the line."""
    amount: tuple[float, float]
    """10th and 90th percentile, in US dollars."""
    monthly: float
    """Mean number of payments a month; 0 where `recurring` says it."""
    recurring: float
    """Mean number of contracts a person holds, each paid once a month; 0 where `monthly` says it."""
    vary: float
    """Share by which a contract's amount moves from month to month."""
    money_in: bool
    merchants: tuple[Merchant, ...]
    local: tuple[str, ...]
    """Nouns of small businesses, to be composed with a local word."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """One label, with its definition."""

    name: str
    definition: str
    hard_cases: tuple[str, ...]
    aliases: tuple[str, ...]
    groups: tuple[Group, ...]
    words: tuple[str, ...]
    """Words of the trade, for lines that name no merchant: `ELECTRICITY BILL`, `FRISEUR`."""


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """All categories, in the order of the file."""

    categories: tuple[Category, ...]
    local_words: dict[Split, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, in the order of the file."""
        return tuple(category.name for category in self.categories)

    def category_of(self, label: str) -> str | None:
        """The category that another tool's label means, without regard to case; None where none does.

        A label with its group (`Everyday: Groceries`, `Food > Restaurants`) means what its last part means, else what
        its first part means.
        """
        parts = [label, *reversed(re.split(r"\s*[:>/|]\s*", label))]
        return next((found for part in parts if (found := self._labels.get(part.strip().casefold()))), None)

    @property
    def _labels(self) -> dict[str, str]:
        return _labels_of(self.categories)


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy that the package carries."""
    raw, more = (_load(f"{name}.toml") for name in ("taxonomy", "merchants"))
    words = raw["local_words"]
    further = {(entry["category"], entry["group"]): entry for entry in more["merchants"]}
    return Taxonomy(
        categories=tuple(_category(entry, further=further, words=more["words"]) for entry in raw["category"]),
        local_words={"train": tuple(words["train"]), "unseen": tuple(words["unseen"])},
    )


def local_merchant(*, word: str, noun: str, category: str, taxonomy: Taxonomy) -> Merchant:
    """A small business; unseen exactly when its first word is."""
    split: Split = "unseen" if word in taxonomy.local_words["unseen"] else "train"
    return Merchant(name=f"{word} {noun}", category=category, regions=REGIONS, split=split)


@cache
def _labels_of(categories: tuple[Category, ...]) -> dict[str, str]:
    labels = {alias: category.name for category in categories for alias in category.aliases}
    return labels | {category.name.casefold(): category.name for category in categories}


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _category(
    entry: dict[str, Any], *, further: dict[tuple[str, int], dict[str, Any]], words: dict[str, str]
) -> Category:
    return Category(
        name=entry["name"],
        definition=entry["definition"],
        hard_cases=tuple(entry["hard_cases"]),
        aliases=tuple(entry["aliases"]),
        groups=tuple(
            _group(group, category=entry["name"], more=further.get((entry["name"], number), {}))
            for number, group in enumerate(entry["group"], start=1)
        ),
        words=tuple(words[entry["name"]].split("; ")),
    )


def _group(entry: dict[str, Any], *, category: str, more: dict[str, Any]) -> Group:
    regions: dict[str, tuple[tuple[str, ...], Split]] = {}
    sides: tuple[tuple[Split, dict[str, Any]], ...] = (("train", entry), ("unseen", entry.get("unseen", {})))
    for split, lists in sides:
        for region in (*REGIONS, "any"):
            for name in lists.get(region, ()):
                assert name not in regions, f"{name} is listed twice in {category}"
                regions[name] = (REGIONS if region == "any" else (region,), split)
    for region in (*REGIONS, "any"):
        for name in filter(None, more.get(region, "").split("; ")):
            regions.setdefault(name, (REGIONS if region == "any" else (region,), "train"))
    low, high = entry["amount"]
    return Group(
        category=category,
        kind=entry["kind"],
        amount=(float(low), float(high)),
        monthly=float(entry.get("monthly", 0)),
        recurring=float(entry.get("recurring", 0)),
        vary=float(entry.get("vary", 0)),
        money_in=entry.get("direction") == "in",
        merchants=tuple(
            Merchant(name=name, category=category, regions=where, split=split)
            for name, (where, split) in regions.items()
        ),
        local=tuple(entry.get("local", ())),
    )
