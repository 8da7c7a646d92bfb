"""The library as a wheel, a dataset or a commit."""

import base64
import hashlib
import io
import json
import lzma
import subprocess
import zipfile
from dataclasses import replace

import pytest
from hatchling.builders.wheel import WheelBuilder

from fintune_kit.errors import UserError
from fintune_kit.kaggle.delivery import build_wheel, dataset_metadata, deliver
from fintune_kit.kaggle.manifest import read_chain


def test_the_wheel_is_the_same_bytes_each_time(chain):
    name, wheel = build_wheel(chain.root)
    assert name == "fintune_kit-9.9-py3-none-any.whl"
    assert build_wheel(chain.root) == (name, wheel)
    assert "fintune_kit/__init__.py" in zipfile.ZipFile(io.BytesIO(wheel)).namelist()


def test_our_own_wheel_holds_the_sample_and_fits_into_a_notebook(repository):
    delivery = deliver(read_chain(repository, owner="alice"), method="embed")
    names = zipfile.ZipFile(io.BytesIO(delivery.wheel)).namelist()
    assert {
        "fintune_kit/sample/sujet_sample.csv",
        "fintune_kit/pins/requirements.txt",
        "fintune_kit/pins/requirements-tpu.txt",
        "fintune_kit/kaggle/session/begin.py",
    } <= set(names)
    assert len(delivery.payload) < 700_000, "it would not leave room for the notebook"


def test_what_is_embedded_is_the_wheel(chain):
    delivery = deliver(chain, method="embed")
    assert lzma.decompress(base64.b64decode(delivery.payload)) == delivery.wheel


def test_the_wheel_is_stored_uncompressed_and_as_the_build_backend_made_it(chain, tmp_path):
    _, wheel = build_wheel(chain.root)
    ours = zipfile.ZipFile(io.BytesIO(wheel))
    (made,) = WheelBuilder(str(chain.root)).build(directory=str(tmp_path), versions=["standard"])
    theirs = zipfile.ZipFile(made)
    assert [(e.filename, e.CRC, e.date_time, e.external_attr) for e in ours.infolist()] == [
        (e.filename, e.CRC, e.date_time, e.external_attr) for e in theirs.infolist()
    ]
    assert {entry.compress_type for entry in ours.infolist()} == {zipfile.ZIP_STORED}
    assert {entry.compress_type for entry in theirs.infolist()} == {zipfile.ZIP_DEFLATED}


def test_embedded_is_the_default_and_checked_by_its_hash(chain):
    delivery = deliver(chain, method="embed")
    assert delivery.sha256 == hashlib.sha256(delivery.wheel).hexdigest()
    assert delivery.dataset is None


def test_a_dataset_within_kaggles_limits(chain):
    metadata = dataset_metadata(chain)
    assert metadata == {
        "title": "fintune kit wheel",
        "id": "alice/fintune-kit-wheel",
        "licenses": [{"name": "apache-2.0"}],
    }
    assert deliver(chain, method="dataset").dataset == metadata["id"]
    other = replace(chain, wheel_dataset="kit-of-alice")
    assert dataset_metadata(other)["id"] == deliver(other, method="dataset").dataset == "alice/kit-of-alice"


def git(checkout, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(checkout), *identity, *arguments], check=True, capture_output=True)


def test_git_names_the_commit_and_refuses_what_would_not_travel(checkout, manifest):
    manifest["repository"] = "https://github.com/alice/fintune-kit"
    (checkout / "kaggle-metadata.json").write_text(json.dumps(manifest))
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "all")
    chain = read_chain(checkout)
    delivery = deliver(chain, method="git")
    assert delivery.name == f"git+https://github.com/alice/fintune-kit@{delivery.sha256}"
    assert len(delivery.sha256) == 40
    (checkout / "src" / "fintune_kit" / "new.py").write_text("")
    with pytest.raises(UserError, match="1 changed files would not travel"):
        deliver(chain, method="git")


@pytest.mark.parametrize("repository", [None, "git@github.com:alice/kit.git", "https://x y/z"])
def test_git_needs_a_public_address(chain, repository):
    with pytest.raises(UserError, match="expected the public https:// address"):
        deliver(replace(chain, repository=repository), method="git")


def test_git_outside_a_checkout_is_a_sentence(chain):
    with pytest.raises(UserError, match="is not a git checkout"):
        deliver(replace(chain, repository="https://github.com/alice/kit"), method="git")


def test_a_folder_that_is_no_checkout_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"built from a checkout"):
        build_wheel(tmp_path)
