"""Which packages a session installs, and from where. pip itself is not started."""

import importlib.metadata
import subprocess

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.packages import install_packages, is_installed

HERE = importlib.metadata.version("numpy")


@pytest.fixture
def pip():
    """Stands in for pip: keeps the command and the constraints, and answers."""

    class Pip:
        command: tuple = ()
        constraints = ""
        code = 0
        said = ""

        def __call__(self, command):
            self.command = command
            with open(command[command.index("--constraint") + 1]) as stream:  # noqa: PTH123
                self.constraints = stream.read()
            return subprocess.CompletedProcess(command, self.code, "", self.said)

    return Pip()


def test_what_is_there_is_not_installed_again(pip):
    there = [f"numpy=={HERE}", "pyarrow>=17"]
    assert install_packages(there, torch=None, internet=True, wheels=[], run=pip) == []
    assert pip.command == ()


def test_what_is_missing_comes_from_pypi_and_torch_is_held(pip):
    missing = install_packages([f"numpy=={HERE}", "no-such-kit==1"], torch=None, internet=True, wheels=[], run=pip)
    assert missing == ["no-such-kit==1"]
    assert pip.command[-1] == "no-such-kit==1"
    assert "--no-index" not in pip.command
    assert pip.constraints == f"torch=={importlib.metadata.version('torch')}\n"


def test_the_images_torch_is_kept_even_beyond_our_range(pip):
    assert install_packages(["torch<2"], torch=None, internet=True, wheels=[], run=pip) == []


def test_a_card_that_the_images_torch_does_not_know_gets_another(pip):
    missing = install_packages(["torch>=2.7.1"], torch="torch==2.7.1", internet=True, wheels=[], run=pip)
    assert missing == ["torch==2.7.1"]
    assert pip.constraints.strip() == "", "it could not be installed beside a constraint to the image's own"


def test_without_internet_only_attached_wheels_are_looked_at(pip, tmp_path):
    install_packages(["no-such-kit==1"], torch=None, internet=False, wheels=[tmp_path], run=pip)
    assert "--no-index" in pip.command
    assert pip.command[pip.command.index("--find-links") + 1] == str(tmp_path)


@pytest.mark.parametrize(("internet", "where"), [(True, "from PyPI"), (False, "internet is off")])
def test_a_failure_quotes_the_end_of_what_pip_said(pip, internet, where):
    pip.code, pip.said = 1, "a\nb\nERROR: no matching distribution\n"
    with pytest.raises(UserError, match=f"no-such-kit==1 could not be installed .*{where}.*no matching distribution"):
        install_packages(["no-such-kit==1"], torch=None, internet=internet, wheels=[], run=pip)


def test_a_requirement_is_judged_by_version():
    assert is_installed(f"numpy>={HERE}")
    assert not is_installed(f"numpy>{HERE}")
    assert not is_installed("no-such-kit")
