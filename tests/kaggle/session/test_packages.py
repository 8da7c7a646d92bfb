"""Which packages a session installs, and from where. pip itself is not started."""

import importlib.metadata
import subprocess
import sys

import numpy
import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.session.packages import (
    Pip,
    install_alone,
    install_packages,
    is_installed,
    is_loaded,
    uninstall_package,
)
from tests.kaggle.conftest import pretend_installed

HERE = importlib.metadata.version("numpy")
SNAPSHOT = '{"url": "https://github.com/a/kit", "vcs_info": {"vcs": "git", "commit_id": "0123"}}'
WHEEL = '{"url": "file:///wheels/kit.whl", "archive_info": {}}'


@pytest.fixture
def image(tmp_path, monkeypatch):
    """A folder on the path, for packages that an image is to have."""
    folder = tmp_path / "image"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


PYPI = Pip(internet=True)
TORCH = f"torch=={importlib.metadata.version('torch')}\n"


def test_an_installed_package_is_not_installed_again(pip):
    assert install_packages([f"numpy=={HERE}", "pyarrow>=17"], pip=PYPI) == []
    assert (pip.commands, pip.dry_runs) == ([], [])


def test_a_missing_package_comes_from_pypi_and_torch_is_held(pip):
    assert install_packages([f"numpy=={HERE}", "no-such-kit==1"], pip=PYPI) == ["no-such-kit==1"]
    assert pip.command[-1] == "no-such-kit==1"
    assert "--no-index" not in pip.command
    assert pip.constraints == TORCH


def test_a_dry_run_comes_first_with_the_same_constraints(pip):
    pip.code, pip.said = 1, "ERROR: no way"
    with pytest.raises(UserError, match="no-such-kit==1 could not be installed from PyPI; pip says: ERROR: no way"):
        install_packages(["no-such-kit==1"], pip=PYPI)
    assert len(pip.dry_runs) == 1
    assert pip.commands == []
    assert pip.constraints == TORCH


def test_the_images_torch_is_kept_even_beyond_our_range(pip):
    assert install_packages(["torch<2"], pip=PYPI) == []


def test_a_card_that_the_images_torch_does_not_know_gets_another(pip):
    assert install_packages(["torch>=2.7.1"], torch="torch==2.7.1", pip=PYPI) == ["torch==2.7.1"]
    assert pip.constraints == "", "it could not be installed beside a constraint to the image's own"


def test_a_loaded_package_that_would_change_ends_the_cell(pip):
    assert numpy.__file__, "numpy is loaded, as in the kernel of a notebook"
    pip.changes = {"numpy": "9.9.9", "no-such-kit": "1"}
    with pytest.raises(UserError, match=rf"numpy {HERE} must become 9\.9\.9\).*restart the session, and run this cell"):
        install_packages(["no-such-kit==1"], pip=PYPI)
    assert pip.commands == []


def test_a_package_that_is_not_loaded_may_change(pip, image):
    pretend_installed(image, "old-kit", "1.0")
    pip.changes = {"old-kit": "2.0", "no-such-kit": "1"}
    assert install_packages(["no-such-kit==1"], pip=PYPI) == ["no-such-kit==1"]
    assert len(pip.commands) == 1


def test_only_compiled_code_counts_as_loaded():
    assert is_loaded("numpy")
    assert not is_loaded("packaging"), "pure Python: the old files are read already, the new ones are whole"
    assert not is_loaded("no-such-kit")
    code = "from fintune_kit.kaggle.session.packages import is_loaded; print(is_loaded('numpy'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_internet_only_attached_wheels_are_looked_at(pip, tmp_path):
    install_packages(["no-such-kit==1"], pip=Pip(internet=False, wheels=[tmp_path]))
    for command in (*pip.dry_runs, *pip.commands):
        assert "--no-index" in command
        assert command[command.index("--find-links") + 1] == str(tmp_path)


@pytest.mark.parametrize(("internet", "where"), [(True, "from PyPI"), (False, "internet is off")])
def test_a_failure_quotes_the_end_of_what_pip_said(pip, internet, where):
    pip.code, pip.said = 1, "a\nb\nERROR: no matching distribution\n"
    with pytest.raises(UserError, match=f"no-such-kit==1 could not be installed .*{where}.*no matching distribution"):
        install_packages(["no-such-kit==1"], pip=Pip(internet=internet))


def test_a_requirement_is_judged_by_version():
    assert is_installed(f"numpy>={HERE}")
    assert not is_installed(f"numpy>{HERE}")
    assert not is_installed("no-such-kit")


def test_an_old_package_gives_way_to_the_pin_and_a_newer_one_stays(pip, image, tmp_path):
    pretend_installed(image, "old-kit", "1.26.4")
    pretend_installed(image, "new-kit", "2.5.0")
    constraints = ["old-kit==2.4.6", "new-kit==2.4.6"]
    assert install_alone(["old-kit>=2.1", "new-kit>=2.1"], pip=PYPI, constraints=constraints, beside=tmp_path) == []
    assert pip.command[-3:] == ["--no-deps", "--force-reinstall", "old-kit>=2.1"]
    assert pip.constraints.splitlines() == constraints


def test_a_loaded_package_is_put_beside_for_other_processes(pip, tmp_path):
    assert numpy.__file__
    wanted = ["no-such-jax==2", f"numpy>{HERE}"]
    assert install_alone(wanted, pip=PYPI, constraints=["numpy==9.9.9"], beside=tmp_path) == [f"numpy>{HERE}"]
    here, beside = pip.commands
    assert here[-3:] == ["--no-deps", "--force-reinstall", "no-such-jax==2"]
    assert beside[-5:] == ["--no-deps", "--upgrade", "--target", str(tmp_path), f"numpy>{HERE}"]
    assert pip.constraints == "numpy==9.9.9\n"


@pytest.mark.parametrize(
    ("origin", "is_release"), [({}, True), ({"direct_url": WHEEL}, True), ({"direct_url": SNAPSHOT}, False)]
)
def test_a_snapshot_of_a_repository_is_not_the_release_whose_version_it_carries(image, origin, is_release):
    pretend_installed(image, "kit-from-git", "0.1.7", **origin)
    assert is_installed("kit-from-git==0.1.7") == is_release
    assert not is_installed("kit-from-git==0.1.8")


def test_a_package_that_must_go_is_uninstalled_without_a_question(pip, image):
    pip.removes = pretend_installed(image, "old_kit", "2.8.0")
    assert uninstall_package("old_kit", because="it bites", pip=PYPI) == "2.8.0"
    assert pip.command[3:] == ["uninstall", "--quiet", "--disable-pip-version-check", "--yes", "old_kit"]


def test_a_package_that_is_not_there_needs_no_pip(pip):
    assert uninstall_package("no_such_kit", because="it bites", pip=PYPI) is None
    assert pip.commands == []


@pytest.mark.parametrize(("code", "said", "says"), [(1, "ERROR: no RECORD\n", "ERROR: no RECORD"), (0, "", "nothing")])
def test_a_package_that_stays_ends_the_session(pip, image, code, said, says):
    pretend_installed(image, "old_kit", "2.8.0")
    pip.code, pip.said = code, said
    with pytest.raises(
        UserError, match=f"old_kit 2.8.0 could not be uninstalled; .* because it bites: .* says: {says}$"
    ):
        uninstall_package("old_kit", because="it bites", pip=PYPI)
