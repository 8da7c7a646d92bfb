"""Inputs in both layouts that Kaggle has."""

import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.session.mounts import find_mount

MODEL = "qwen-lm/qwen2.5/Transformers/3b-instruct/1"


@pytest.mark.parametrize(
    ("source", "kind", "place"),
    [
        ("alice/kit-01-data", "notebook", "notebooks/alice/kit-01-data"),
        ("alice/kit-01-data", "notebook", "kit-01-data"),
        ("alice/kit-03-train/4", "notebook", "notebooks/alice/kit-03-train"),
        ("alice/kit-03-train/4", "notebook", "kit-03-train"),
        ("bob/rows", "dataset", "datasets/bob/rows"),
        ("bob/rows", "dataset", "rows"),
        (MODEL, "model", "models/qwen-lm/qwen2.5/Transformers/3b-instruct/1"),
        (MODEL, "model", "models/qwen-lm/qwen2.5/transformers/3b-instruct/1"),
        (MODEL, "model", "qwen2.5/transformers/3b-instruct/1"),
    ],
)
def test_a_source_is_found_in_either_layout(kaggle_root, source, kind, place):
    folder = kaggle_root / "input" / place
    folder.mkdir(parents=True)
    assert find_mount(source, kind=kind) == folder


def test_a_notebook_is_no_dataset(kaggle_root):
    (kaggle_root / "input" / "datasets" / "alice" / "kit").mkdir(parents=True)
    with pytest.raises(MissingInputError, match="the notebook alice/kit is not attached"):
        find_mount("alice/kit", kind="notebook")


def test_what_is_mounted_twice_is_refused(kaggle_root):
    for place in ("rows", "datasets/bob/rows"):
        (kaggle_root / "input" / place).mkdir(parents=True)
    with pytest.raises(UserError, match="attached twice"):
        find_mount("bob/rows", kind="dataset")


def test_one_folder_by_two_names_is_one_folder(kaggle_root):
    elsewhere = kaggle_root / "mnt"
    elsewhere.mkdir()
    (kaggle_root / "input" / "datasets" / "bob").mkdir(parents=True)
    for place in ("rows", "datasets/bob/rows"):
        (kaggle_root / "input" / place).symlink_to(elsewhere)
    found = find_mount("bob/rows", kind="dataset")
    assert kaggle_root / "input" in found.parents, "as Kaggle shows it, not where it really lies"
