"""What the planner needs to know of the packs: counted in `packed/manifest.json`, or assumed before there are any."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fintune_kit.recipes import Recipe

TOKENS_PER_EXAMPLE = (160, 225, 290)
"""Low, middle and high: 158 on a stand-in for Sujet without rows over 2,048 tokens, 230 to 290 by Sujet's own size."""
SHARED = 0.6
"""What prefix sharing leaves of the tokens, on a stand-in for Sujet; only assumed until the real packs are there."""
SUPERVISED = 0.13
"""The part of the tokens that is supervised, on a stand-in for Sujet."""


@dataclass(frozen=True, kw_only=True)
class PackCounts:
    """What the planner needs to know of the packs."""

    packs: int
    supervised_tokens: int
    examples_per_pack: float
    plain_sequences_per_pack: float
    """Ordinary packed sequences that one pack stands for: 1.0 without prefix sharing."""
    known_to: tuple[float, float] = (1.0, 1.0)
    """Low and high factor on the counts, where they are assumed rather than counted."""

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> "PackCounts":
        """The counts of the training split in `packed/manifest.json`."""
        counts = manifest["counts"]["train"]
        plain_sequences = counts["plain_tokens"] / manifest["max_length"]
        return cls(
            packs=counts["packs"],
            supervised_tokens=counts["supervised_tokens"],
            examples_per_pack=counts["examples"] / max(1, counts["packs"]),
            # Ordinary packing fills its packs to 99 % and more, so below 1 there is nothing to translate.
            plain_sequences_per_pack=max(1.0, plain_sequences / max(1, counts["packs"])),
        )


def typical_counts(recipe: Recipe) -> PackCounts:
    """Packs that a recipe's data would give, for a plan before there are any."""
    fewest, tokens, most = TOKENS_PER_EXAMPLE
    plain = recipe.data.examples * tokens / recipe.pack.max_length
    packs = math.ceil(plain * (SHARED if recipe.pack.share_prefixes else 1.0))
    supervised = round(plain * recipe.pack.max_length * SUPERVISED)
    return PackCounts(
        packs=packs,
        supervised_tokens=supervised,
        examples_per_pack=recipe.data.examples / packs,
        plain_sequences_per_pack=max(1.0, plain / packs),
        known_to=(fewest / tokens, most / tokens),
    )
