"""The inputs and outputs of one call of stage 3: recipe, base, packs, and the folders that it writes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.errors import UserError
from fintune_kit.pack.store import Packed, open_packed
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import base_of
from fintune_kit.train.run_folder import identity_of
from fintune_kit.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, on any machine."""

    recipe: Recipe
    base: str | Path
    """Hub id or folder of the base model."""
    encoder: ChatEncoder
    """It holds the tokenizer that made the packs."""
    packed: Path
    """Stage 2's folder."""
    packs: Packed
    """The packs in it."""
    run: Path
    """The folder of log, plan and checkpoints."""
    adapter: Path
    """The folder of the adapter, written after the last step."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Says which training this is; see `run_folder.identity_of`."""
        return identity_of(self.recipe, packed=self.packed, base=self.base)


def open_job(recipe: Recipe, workspace: Workspace, *, packed: Path | None, base: str | Path | None) -> Job:
    """Opens the tokenizer and the packs, and checks every byte of the packs.

    Args:
        workspace: where `run/` and `adapter/` are written.
        packed: stage 2's folder; None takes that of the workspace or of an attached input.
        base: hub id or folder of the base model; None takes the recipe's.

    Raises:
        MissingInputError: the packs are missing or unfinished.
        UserError: the packs have another tokenizer or another length than the recipe.
    """
    packed = packed or workspace.existing("packed")
    base = base or base_of(recipe, workspace)
    encoder = ChatEncoder.load(recipe.tokenizer or base)
    packs = open_packed(packed, fingerprint=encoder.fingerprint, verify=True)
    length = packs.manifest["max_length"]
    if length != recipe.pack.max_length:
        raise UserError(
            f"{packed} holds packs of {length} positions, the recipe {recipe.name!r} expects {recipe.pack.max_length}: "
            f"run notebook 02 again with this recipe"
        )
    run, adapter = workspace.folder("run"), workspace.folder("adapter")
    return Job(recipe=recipe, base=base, encoder=encoder, packed=packed, packs=packs, run=run, adapter=adapter)
