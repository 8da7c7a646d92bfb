"""The counts of packs that the planner needs: read from `packed/manifest.json`, or assumed before the packs exist."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fintune_kit.recipes import Recipe

TOKENS_PER_EXAMPLE = (160, 225, 290)
"""Low, middle and high estimate. A stand-in for Sujet without rows over 2,048 tokens has 158; Sujet's own size suggests
230 to 290."""
SHARED = 0.6
"""The share of the tokens that remains with shared prefixes, on a stand-in for Sujet. An assumption for other data."""
HEAD_POSITIONS = 0.13
"""Positions that the head scores for each token of the examples, on a stand-in for Sujet. Its answers are shared too
rarely to change this."""


@dataclass(frozen=True, kw_only=True)
class PackCounts:
    """Counts of the packs of the training split."""

    packs: int
    head_positions: int
    """Positions that the head scores. An answer that examples share is scored once."""
    examples_per_pack: float
    plain_sequences_per_pack: float
    """The number of ordinary packed sequences that hold the examples of one pack; 1.0 without shared prefixes."""
    known_to: tuple[float, float] = (1.0, 1.0)
    """The uncertainty of the counts: a low and a high factor. Both are 1.0 if the packs were counted."""

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> "PackCounts":
        """The counts of the training split in `packed/manifest.json`."""
        counts = manifest["counts"]["train"]
        plain_sequences = counts["plain_tokens"] / manifest["max_length"]
        return cls(
            packs=counts["packs"],
            # Packs of earlier versions shared no answers, so there each supervised token has a position of its own.
            head_positions=counts.get("head_positions", counts["supervised_tokens"]),
            examples_per_pack=counts["examples"] / max(1, counts["packs"]),
            # Ordinary packing fills its packs to 99 % or more, so a value below 1 is a rounding.
            plain_sequences_per_pack=max(1.0, plain_sequences / max(1, counts["packs"])),
        )


def typical_counts(recipe: Recipe) -> PackCounts:
    """The assumed counts for a recipe, for a plan before the packs exist."""
    fewest, tokens, most = TOKENS_PER_EXAMPLE
    plain = recipe.data.examples * tokens / recipe.pack.max_length
    packs = math.ceil(plain * (SHARED if recipe.pack.share_prefixes else 1.0))
    head_positions = round(plain * recipe.pack.max_length * HEAD_POSITIONS)
    return PackCounts(
        packs=packs,
        head_positions=head_positions,
        examples_per_pack=recipe.data.examples / packs,
        plain_sequences_per_pack=max(1.0, plain / packs),
        known_to=(fewest / tokens, most / tokens),
    )
