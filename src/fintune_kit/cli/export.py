"""`fintune-kit export`: the adapter merged into its base."""

from pathlib import Path
from typing import Literal

from fintune_kit.cli.opening import RecipeName, folder_of, open_recipe


def export(
    *,
    out: Path,
    adapter: Path | None = None,
    form: Literal["safetensors", "f16", "q8_0"] = "safetensors",
    recipe: RecipeName = None,
) -> None:
    """Merge the adapter into its base, for transformers, llama.cpp and Ollama.

    Args:
        out: The folder to write.
        adapter: The folder that `fintune-kit train` wrote. Default: the workspace's.
        form: safetensors, or GGUF in f16 or q8_0.
    """
    from fintune_kit.publish.export import export as merge
    from fintune_kit.tiny import base_of

    chosen, workspace = open_recipe(recipe)
    source = folder_of(adapter, workspace, "adapter")
    written = merge(chosen, base=base_of(chosen, workspace), adapter=source, out=out, form=form)
    print(f"{out}: {', '.join(written['files'])}")
