"""The licences of the base and of the data, as far as their authors state them. The model card quotes them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BaseLicence:
    """The licence of a base model."""

    identifier: str
    """The hub's name of the licence; `other` if the hub has no name for it."""
    words: str


@dataclass(frozen=True)
class SourceLicence:
    """The licence of a data source."""

    source: str
    words: str
    allows_commerce: bool


_RESEARCH = ("qwen2.5-3b", "qwen2.5-coder-3b")
_APACHE = ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b", "qwen3-")
_SUJET = (
    "stated as Apache-2.0, but it holds text under non-commercial terms (Stanford Alpaca CC BY-NC 4.0, Financial "
    "PhraseBank CC BY-NC-SA 3.0)"
)


def base_licence(base: str, *, recipe_base: str) -> BaseLicence:
    """The licence of a base model, by its published name.

    Args:
        base: the base in the adapter's manifest.
        recipe_base: the base in the recipe; `tiny` is made in the workspace.
    """
    name = f"{base} {recipe_base}".lower()
    if recipe_base == "tiny":
        return BaseLicence("apache-2.0", "made by fintune-kit (Apache-2.0) with random weights.")
    if any(known in name for known in _RESEARCH):
        return BaseLicence("other", "Qwen Research License: non-commercial use only, also for models that build on it.")
    if any(known in name for known in _APACHE):
        return BaseLicence("apache-2.0", "Apache-2.0.")
    return BaseLicence("other", f"not known to fintune-kit; look where `{base}` is published.")


def source_licences(sources: Sequence[str]) -> list[SourceLicence]:
    """The licences of a recipe's sources. An unknown licence is reported as unknown."""
    found = []
    for source in sources:
        name = source.split("/")[-1] if source.startswith(("/", ".", "~")) else source
        if source == "sample":
            found.append(SourceLicence(name, "Apache-2.0, written for fintune-kit", True))
        elif "sujet" in source.lower():
            found.append(SourceLicence(name, _SUJET, False))
        else:
            found.append(SourceLicence(name, "not known to fintune-kit", False))
    return found
