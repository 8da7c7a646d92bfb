"""`fintune-kit pack`: packs conversations."""

import json
from pathlib import Path

from fintune_kit.cli.flags import Count, Folder
from fintune_kit.cli.opening import UNCHANGED, RecipeFlags
from fintune_kit.recipes import Change


def pack(
    *,
    conversations: Path | None = None,
    out: Folder | None = None,
    max_length: Count | None = None,
    no_share_prefixes: bool = False,
    recipe: RecipeFlags = UNCHANGED,
) -> None:
    """Pack conversations/ into packed/.

    Args:
        conversations: The folder that `fintune-kit data` wrote. Default: the workspace's.
        out: The folder to write. Default: packed/ in the workspace.
        max_length: The same as --pack.max-length.
        no_share_prefixes: The same as --pack.no-share-prefixes: ordinary packs, without prefix trees.
    """
    from fintune_kit.pack.stage import pack as pack_workspace

    also = [
        Change(name="pack.max_length", value=max_length, origin="--max-length"),
        Change(name="pack.share_prefixes", value=False if no_share_prefixes else None, origin="--no-share-prefixes"),
    ]
    chosen, workspace = recipe.open(stage="packed", also=also)
    manifest = pack_workspace(chosen, workspace, conversations=conversations, out=out)
    print(f"{out or workspace.folder('packed')}: {json.dumps(manifest['counts'])}")
