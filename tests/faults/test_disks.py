"""A disk that is full, and one that cannot be written: one sentence, exit code 2, and nothing that looks finished."""

import shutil
import subprocess

import pytest

from fintune_kit.workspace import MANIFEST
from tests.faults.commands import VERBS, assert_one_sentence, contents, copy, run

SPARE = 8192
"""Bytes that a full disk still has: enough for a manifest, and for nothing else."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of its own in memory, of 64 MiB."""
    folder = tmp_path_factory.mktemp("disk")
    if not shutil.which("mount") or mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)):
        pytest.skip("this user may not mount a file system; tests/train fills a disk by a limit on the size of files")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments):
    """The exit code of `mount`."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode


@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("stage", VERBS)
def test_a_disk_that_cannot_be_written_costs_one_sentence_and_no_file(stage, fault, disk, undisturbed, tmp_path):
    whole = undisturbed[stage]
    on_disk = copy(whole.before, disk / f"{stage}-{fault}")
    workspace = tmp_path / "w"
    workspace.symlink_to(on_disk)  # the command's output goes beside the link, to another disk
    before = contents(workspace)
    if fault == "full":
        with (disk / "filler").open("wb") as filler:
            filler.write(bytes(shutil.disk_usage(disk).free - SPARE))
    else:
        assert mount("-o", "remount,ro", str(disk)) == 0
    try:
        refused = run(workspace, VERBS[stage])
    finally:
        mount("-o", "remount,rw", str(disk))
        (disk / "filler").unlink(missing_ok=True)
    assert refused.code == 2, refused.said[-3000:]
    assert_one_sentence(refused.said, starts="error: ")
    expected = "free some" if fault == "full" else "cannot be read or written here"
    assert expected in refused.said.splitlines()[-1]
    assert not (workspace / stage / MANIFEST).exists()
    after = contents(workspace)
    assert {name: after[name] for name in before} == before, "what was there is as it was"
    shutil.rmtree(on_disk)
