"""Asks the Hugging Face hub for one file, once. The libraries ask five times, and a machine without network waits."""

from pathlib import Path

from fintune_kit.errors import first_line

SECONDS = 5
"""The time that the hub has to answer."""


def find_hub_fault(source: str | Path, *, file: str) -> str | None:
    """A sentence about a hub id whose file cannot be had; None for a folder, and where the file can be had.

    Args:
        source: hub id or folder.
        file: a file that each such repository holds, as `config.json`.
    """
    if Path(source).expanduser().exists():
        return None
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(str(source), file), str):
            return None
        get_hf_file_metadata(hf_hub_url(str(source), file), timeout=SECONDS)
    except Exception as error:  # the client raises many unrelated classes; the libraries would raise the same later
        return first_line(error)
    return None
