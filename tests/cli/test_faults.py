"""Faults of the machine around a command: signals, a full disk, no permission, no network, a closed pipe."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import httpx
import pytest

from fintune_kit.cli.faults import FULL_BYTES, catching_sigterm, describe_fault
from fintune_kit.cli.main import main
from fintune_kit.errors import UserError
from fintune_kit.workspace import replacing_folder

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture
def failing(monkeypatch):
    """Makes `fintune-kit doctor` raise an error."""

    def go(error):
        def find_machine():
            raise error

        monkeypatch.setattr("fintune_kit.hardware.find_machine", find_machine)
        return main(["doctor"])

    return go


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk of the output is full: free some space"),
        (OSError(errno.EROFS, "Read-only file system", "/mnt/a"), "/mnt/a cannot be read or written here (Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/a"), "/etc/a cannot be read or written here"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), f"the name {'x' * 60}... is too long"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a.txt/b"), "/a.txt/b cannot be used (Not a directory)"),
        (OSError("We couldn't connect to the Hub.\nCheck it."), "We couldn't connect to the Hub: correct that"),
        (httpx.ConnectError("name resolution"), "the network cannot be reached (name resolution): check it"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset"), "the network cannot be reached ("),
        (UserError("a was found, expected b: do c"), "a was found, expected b: do c"),
    ],
)
def test_a_fault_of_the_machine_is_one_sentence_and_exit_code_2(failing, error, sentence, capsys):
    assert failing(error) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"error: {sentence}")


def test_a_fault_of_ours_keeps_its_traceback(failing):
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_a_full_disk_is_seen_by_its_free_bytes_where_the_error_does_not_say_it(monkeypatch, tmp_path):
    error = RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
    arguments = ["train", "--out", str(tmp_path / "new" / "run")]
    disk = SimpleNamespace(free=FULL_BYTES, total=10 * FULL_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: disk)
    assert describe_fault(error, arguments=arguments) is None
    disk.free -= 1
    assert "is full: free some space" in describe_fault(error, arguments=arguments)
    disk.total = disk.free = 0
    assert describe_fault(error, arguments=arguments) is None, "a file system without a size, as /proc, is not full"


@pytest.fixture
def heard():
    """Ctrl-C is heard, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C; finished"), (signal.SIGTERM, 143, "stopped by SIGTERM; finished")],
)
def test_a_signal_is_one_sentence_and_leaves_nothing_half_written(
    monkeypatch, workspace, number, code, sentence, capsys
):
    def find_machine():
        with replacing_folder(workspace / "packed"):
            signal.raise_signal(number)

    monkeypatch.setattr("fintune_kit.hardware.find_machine", find_machine)
    assert main(["doctor"]) == code
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(sentence)
    assert list(workspace.iterdir()) == []


def test_the_handler_of_sigterm_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with catching_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_goes_away_is_no_traceback():
    code = "import sys; from fintune_kit.cli.main import main; sys.exit(main())"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code, "recipe", "show"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
