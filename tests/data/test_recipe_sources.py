"""A recipe's transactions: written once as finished stages of the workspace, beside the recipe's own sources."""

from dataclasses import replace
from pathlib import Path

from fintune_kit.data.recipe_sources import sources_of
from fintune_kit.recipes import p100, smoke
from fintune_kit.workspace import Workspace, check_files, read_manifest


def test_a_recipe_without_transactions_writes_nothing(tmp_path: Path) -> None:
    assert sources_of(p100(), Workspace(tmp_path)) == ("sujet-ai/Sujet-Finance-Instruct-177k",)
    assert not list(tmp_path.iterdir())


def test_transactions_are_finished_stages_that_say_what_wrote_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    sources = sources_of(smoke(), workspace)
    assert sources == ("sample", str(tmp_path / "transactions" / "train.jsonl"))
    for stage in ("statements", "transactions"):
        folder = workspace.existing(stage)
        manifest = read_manifest(folder, stage=stage)
        check_files(folder, manifest, stage=stage)
        assert "notebooks/01_data.ipynb" in manifest["written_by"]
        assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert read_manifest(tmp_path / "statements", stage="statements")["counts"]["transactions"] == 100


def test_the_same_recipe_writes_the_same_bytes_over_what_is_there(tmp_path: Path) -> None:
    recipe = replace(smoke(), data=replace(smoke().data, transactions=40))
    for root in ("a", "b", "b"):
        sources_of(recipe, Workspace(tmp_path / root))
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
