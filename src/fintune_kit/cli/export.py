"""`fintune-kit export`: merges the adapter into its base."""

from pathlib import Path
from typing import Literal

from fintune_kit.cli.flags import Folder
from fintune_kit.cli.opening import DEFAULT_CHOICE, RecipeChoice


def export(
    *,
    out: Folder,
    adapter: Path | None = None,
    form: Literal["safetensors", "f16", "q8_0", "q4_k_m", "q5_k_m"] = "safetensors",
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    merge_base: Literal["nf4", "16bit"] = "nf4",
    recipe: RecipeChoice = DEFAULT_CHOICE,
) -> None:
    """Merge the adapter into its base, for transformers, llama.cpp and Ollama.

    Args:
        out: The folder to write.
        adapter: The folder that `fintune-kit train` wrote, or any LoRA adapter. Default: the workspace's.
        form: safetensors, or GGUF; q4_k_m and q5_k_m need llama.cpp's quantizer.
        dtype: The dtype of the weights in safetensors files.
        merge_base: The weights to merge into: nf4 as in training, or the original ones in 16 bits.
    """
    from fintune_kit.publish.export import export as merge

    chosen, workspace = recipe.open()
    written = merge(chosen, workspace, out=out, adapter=adapter, form=form, dtype=dtype, merge_base=merge_base)
    print(f"{out}: {', '.join(written['files'])}\n{written['verdict']}")
