"""Writes a public dataset of packs, so that others can skip the first two notebooks.

    owner publishes        fintune-kit kaggle publish-packs runs/kaggle
    dataset                recipe.toml  conversations/  packed/        and a description with the licences
    others train on it     fintune-kit kaggle push 03_train_p100 --packs owner/fintune-kit-packs

Only packs that were made from public datasets may be published. Rows from files of this machine never leave it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.manifest import PACK_STAGES
from fintune_kit.workspace import MANIFEST, RECIPE, check_files, read_manifest, sha256_of, write_json

SAMPLE = "sample"
"""The name of the rows of our own writing."""


def write_packs_dataset(workspace: Path, folder: Path, *, ref: str, licence: str, description: str) -> None:
    """Writes the folder that is uploaded as a dataset.

    Args:
        workspace: holds `recipe.toml` and the finished stages.
        folder: is replaced.
        ref: the address of the dataset, `owner/slug`.
        licence: one of Kaggle's names, as `CC-BY-4.0` or `other`.
        description: names the sources and their licences.

    Raises:
        MissingInputError: a stage is missing or unfinished.
        UserError: a stage was changed, or packed/ was made from other conversations.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifests = {stage: read_manifest(workspace / stage, stage=stage) for stage in PACK_STAGES}
    _check_belong_together(manifests)
    for stage, manifest in manifests.items():
        check_files(workspace / stage, manifest, stage=stage)
        shutil.copytree(workspace / stage, folder / stage)
    shutil.copyfile(workspace / RECIPE, folder / RECIPE)
    slug = ref.partition("/")[2]
    metadata = {"title": slug.replace("-", " "), "id": ref, "licenses": [{"name": licence}], "description": description}
    write_json(folder / "dataset-metadata.json", metadata)


def public_sources(workspace: Path) -> list[str]:
    """The names of the sources that the conversations were made from, if none of them is a file of this machine.

    `conversations/manifest.json` names each source with the SHA-256 of its file. A dataset of the Hub has no file.

    Raises:
        MissingInputError: the conversations are missing or unfinished.
        UserError: a source is a file of this machine.
    """
    inputs = read_manifest(workspace / "conversations", stage="conversations")["inputs"]
    invented = _invented_transactions(workspace)
    sources = [name for name, digest in inputs.items() if digest not in invented]
    private = [name for name in sources if inputs[name] and name != SAMPLE]
    if private or not inputs:
        raise UserError(
            f"the packs hold rows of {', '.join(private) or 'unknown sources'}; expected only datasets of the Hugging "
            f"Face Hub: rows from this machine are not published"
        )
    return sources


def _invented_transactions(workspace: Path) -> set[str]:
    """The SHA-256 of the files that `01_data` made from generated bank statements.

    An imported statement has no manifest, so it can never count as generated.
    """
    for root in (workspace, workspace / "kaggle" / "01_data"):  # made here, or fetched
        if all((root / stage / MANIFEST).is_file() for stage in ("statements", "transactions")):
            made = read_manifest(root / "transactions", stage="transactions")
            if made["inputs"] == {"statement": sha256_of(root / "statements")}:
                return set(made["files"].values())
    return set()


def _check_belong_together(manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that the packs were made from these conversations: others train on the packs and evaluate on these."""
    files = manifests["conversations"]["files"]
    for name, digest in manifests["packed"]["inputs"].items():
        stage, _, file = name.partition("/")
        if stage == "conversations" and files.get(file) != digest:
            raise UserError("packed/ was made from other conversations; run notebooks/02_pack.ipynb again")
