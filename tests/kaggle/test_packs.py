"""A public dataset of packs: the sources that may be published, and the files that are uploaded."""

import io
import json
import re
import zipfile

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.calls.client import Kaggle
from fintune_kit.kaggle.packs import public_sources, write_packs_dataset
from fintune_kit.workspace import sha256_of, write_manifest

REF = "alice/fintune-kit-packs"
HUB = "sujet-ai/Sujet-Finance-Instruct-177k"


def seal(workspace, stage, **inputs):
    write_manifest(workspace / stage, stage=stage, inputs=inputs.pop("inputs", {}), counts={})


@pytest.fixture
def workspace(tmp_path):
    """Conversations of two public sources, and the packs of them."""
    root = tmp_path / "workspace"
    for stage, file in (("conversations", "train.parquet"), ("packed", "train/data.arrow")):
        (root / stage / file).parent.mkdir(parents=True)
        (root / stage / file).write_text(stage)
    (root / "recipe.toml").write_text("[data]\n")
    seal(root, "conversations", inputs={HUB: "", "sample": "5a"})
    seal(root, "packed", inputs={"conversations/train.parquet": sha256_of(root / "conversations" / "train.parquet")})
    return root


def add_transactions(workspace, at):
    """Transactions of generated statements, as 01_data leaves them, among the sources of the conversations."""
    for stage, file in (("statements", "statements.csv"), ("transactions", "train.jsonl")):
        (at / stage).mkdir(parents=True)
        (at / stage / file).write_text(stage)
    seal(at, "statements")
    seal(at, "transactions", inputs={"statement": sha256_of(at / "statements")})
    train = sha256_of(at / "transactions" / "train.jsonl")
    seal(workspace, "conversations", inputs={HUB: "", "train.jsonl": train})


@pytest.fixture
def write(workspace, tmp_path):
    """Writes the folder to be uploaded."""

    def go():
        folder = tmp_path / "dataset"
        write_packs_dataset(workspace, folder, ref=REF, licence="other", description="Sujet: ask its authors")
        return folder

    return go


def test_sources_of_the_hub_and_our_own_sample_are_public(workspace):
    assert public_sources(workspace) == [HUB, "sample"]


@pytest.mark.parametrize("at", [".", "kaggle/01_data"])
def test_transactions_of_invented_people_are_public(workspace, at):
    add_transactions(workspace, workspace / at)
    assert public_sources(workspace) == [HUB]


@pytest.mark.parametrize("file", ["bank.csv", "rows/train.jsonl", "owner/name", "sample/rows.csv"])
def test_rows_from_this_machine_are_not_published(workspace, file):
    seal(workspace, "conversations", inputs={HUB: "", file: "0b"})
    with pytest.raises(UserError, match=f"hold rows of {re.escape(file)}; .* rows from this machine are not published"):
        public_sources(workspace)


def test_transactions_of_another_statement_are_not_published(workspace):
    add_transactions(workspace, workspace)
    (workspace / "statements" / "statements.csv").write_text("my own bank")
    with pytest.raises(UserError, match="hold rows of train"):
        public_sources(workspace)


def test_unknown_sources_are_not_published(workspace):
    seal(workspace, "conversations")
    with pytest.raises(UserError, match="unknown sources"):
        public_sources(workspace)
    (workspace / "conversations" / "manifest.json").unlink()
    with pytest.raises(MissingInputError, match="01_data"):
        public_sources(workspace)


def test_the_dataset_holds_the_stages_the_recipe_and_the_licence(write):
    folder = write()
    assert sorted(path.name for path in folder.iterdir()) == [
        "conversations",
        "dataset-metadata.json",
        "packed",
        "recipe.toml",
    ]
    assert (folder / "packed" / "train" / "data.arrow").read_text() == "packed"
    assert json.loads((folder / "dataset-metadata.json").read_text()) == {
        "title": "fintune kit packs",
        "id": REF,
        "licenses": [{"name": "other"}],
        "description": "Sujet: ask its authors",
    }


def test_an_unfinished_stage_is_not_published(workspace, write):
    (workspace / "packed" / "manifest.json").unlink()
    with pytest.raises(MissingInputError, match="02_pack"):
        write()


def test_a_changed_stage_is_not_published(workspace, write):
    (workspace / "packed" / "train" / "data.arrow").write_text("changed")
    with pytest.raises(UserError, match="has changed since it was written"):
        write()


def test_packs_of_other_conversations_are_not_published(workspace, write):
    (workspace / "conversations" / "train.parquet").write_text("other")
    seal(workspace, "conversations")
    with pytest.raises(UserError, match="packed/ was made from other conversations"):
        write()


@pytest.mark.parametrize("public", [True, False])
def test_the_upload_is_public_where_that_was_asked_for(loopback, write, public):
    Kaggle().publish_dataset(write(), REF, public=public)
    (sent,) = loopback.bodies("CreateDataset")
    assert sent.get("isPrivate", False) is not public  # the client leaves a false value out
    assert (sent["licenseName"], len(sent["files"])) == ("other", 3)


def test_the_upload_takes_the_folders_along(loopback, write):
    Kaggle().publish_dataset(write(), REF, public=True)
    archives = [zipfile.ZipFile(io.BytesIO(content)).namelist() for content in loopback.uploads if content[:2] == b"PK"]
    assert sorted(sorted(name for name in names if not name.endswith("/")) for names in archives) == [
        ["manifest.json", "train.parquet"],
        ["manifest.json", "train/data.arrow"],
    ]


def test_a_new_version_of_the_dataset_takes_them_along_too(loopback, write):
    loopback.datasets[REF] = ["READY"]
    Kaggle().publish_dataset(write(), REF, public=True)
    (sent,) = loopback.bodies("CreateDatasetVersion")
    assert len(sent["body"]["files"]) == 3
