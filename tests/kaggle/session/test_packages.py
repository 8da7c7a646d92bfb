"""Which packages a session installs, and from where. pip itself is not started."""

import importlib.metadata

import pytest

from fintune_kit.errors import UserError
from fintune_kit.kaggle.session.packages import install_packages, is_installed, uninstall_package
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


def test_what_is_too_old_gives_way_to_the_pin_and_what_is_newer_stays(pip, image):
    pretend_installed(image, "old-kit", "1.26.4")
    pretend_installed(image, "new-kit", "2.5.0")
    how = {"torch": None, "internet": True, "wheels": [], "constraints": ["old-kit==2.4.6", "new-kit==2.4.6"]}
    missing = install_packages(["old-kit>=2.1", "new-kit>=2.1"], **how, alone=True, run=pip)
    assert missing == ["old-kit>=2.1"]
    assert pip.command[-1] == "old-kit>=2.1"
    assert pip.constraints.splitlines()[-2:] == ["old-kit==2.4.6", "new-kit==2.4.6"]


def test_packages_alone_bring_nothing_that_they_ask_for(pip, tmp_path):
    how = {"torch": None, "internet": False, "wheels": [tmp_path], "run": pip}
    install_packages(["no-such-kit==1"], **how, alone=True)
    assert {"--no-deps", "--force-reinstall", "--no-index", str(tmp_path)} <= set(pip.command)
    install_packages(["no-such-kit==1"], **how)
    assert not {"--no-deps", "--force-reinstall"} & set(pip.command)


@pytest.mark.parametrize(
    ("origin", "is_release"), [({}, True), ({"direct_url": WHEEL}, True), ({"direct_url": SNAPSHOT}, False)]
)
def test_a_snapshot_of_a_repository_is_not_the_release_whose_version_it_carries(image, origin, is_release):
    pretend_installed(image, "kit-from-git", "0.1.7", **origin)
    assert is_installed("kit-from-git==0.1.7") == is_release
    assert not is_installed("kit-from-git==0.1.8")


def test_a_package_that_must_go_is_uninstalled_without_a_question(pip, image):
    pip.removes = pretend_installed(image, "old_kit", "2.8.0")
    assert uninstall_package("old_kit", because="it bites", run=pip) == "2.8.0"
    assert pip.command[3:] == ["uninstall", "--quiet", "--disable-pip-version-check", "--yes", "old_kit"]


def test_a_package_that_is_not_there_needs_no_pip(pip):
    assert uninstall_package("no_such_kit", because="it bites", run=pip) is None
    assert pip.commands == []


@pytest.mark.parametrize(("code", "said", "says"), [(1, "ERROR: no RECORD\n", "ERROR: no RECORD"), (0, "", "nothing")])
def test_a_package_that_stays_ends_the_session(pip, image, code, said, says):
    pretend_installed(image, "old_kit", "2.8.0")
    pip.code, pip.said = code, said
    with pytest.raises(
        UserError, match=f"old_kit 2.8.0 could not be uninstalled; .* because it bites: .* says: {says}$"
    ):
        uninstall_package("old_kit", because="it bites", run=pip)
