"""Sealed checkpoints: only files that training wrote are read."""

import pytest

from fintune_kit.errors import UserError
from fintune_kit.train.checkpoints import partial_folder, refuse_unlisted_files, seal


@pytest.fixture
def checkpoint(tmp_path):
    written = partial_folder(tmp_path) / "checkpoint-8"
    (written / "inner").mkdir(parents=True)
    (written / "adapter_model.safetensors").write_bytes(b"w")
    (written / "inner" / "file").write_bytes(b"w")
    return seal(written, tmp_path, step=8, identity={})


def test_a_checkpoint_of_ours_is_taken(checkpoint):
    refuse_unlisted_files(checkpoint)


@pytest.mark.parametrize("name", ["scaler.pt", "inner/pytorch_model.bin", "inner/manifest.json"])
def test_a_file_that_the_manifest_does_not_list_is_refused(checkpoint, name):
    (checkpoint / name).write_bytes(b"from elsewhere")
    with pytest.raises(UserError, match=rf"{name} is not listed .* move it away and run the same command again$"):
        refuse_unlisted_files(checkpoint)


def test_a_link_to_nowhere_is_refused_too(checkpoint):
    (checkpoint / "optimizer.bin").symlink_to("/nowhere")
    with pytest.raises(UserError, match=r"optimizer\.bin is not listed"):
        refuse_unlisted_files(checkpoint)
