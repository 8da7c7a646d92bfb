"""`fintune-kit pack`: conversations into packs."""

import json
from pathlib import Path

from fintune_kit.cli.flags import Count
from fintune_kit.cli.opening import RecipeName, folder_of, open_recipe


def pack(
    *,
    conversations: Path | None = None,
    tokenizer: str | None = None,
    out: Path | None = None,
    max_length: Count | None = None,
    no_share_prefixes: bool = False,
    recipe: RecipeName = None,
) -> None:
    """Pack conversations/ into packed/.

    Args:
        conversations: The folder that `fintune-kit data` wrote. Default: the workspace's.
        tokenizer: Hub id or folder. Default: the recipe's.
        out: The folder to write. Default: packed/ in the workspace.
        max_length: Positions in a pack. Default: the recipe's.
        no_share_prefixes: Pack ordinary sequences, without prefix trees.
    """
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.pack.stage import pack_conversations
    from fintune_kit.tiny import tokenizer_of

    chosen, workspace = open_recipe(recipe)
    folder = out or workspace.folder("packed")
    manifest = pack_conversations(
        folder_of(conversations, workspace, "conversations"),
        encoder=ChatEncoder.load(tokenizer or tokenizer_of(chosen, workspace)),
        out=folder,
        max_length=max_length or chosen.pack.max_length,
        share_prefixes=chosen.pack.share_prefixes and not no_share_prefixes,
        seed=chosen.seed,
    )
    print(f"{folder}: {json.dumps(manifest['counts'])}")
