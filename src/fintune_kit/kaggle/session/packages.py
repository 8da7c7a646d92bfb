"""The packages of a session: the versions that our tests ran with, beside the image's own torch.

pip keeps an installed version that satisfies a requirement. So packages of the image that the rest of the image was
built against are required as ranges, and torch is held by a constraint as well.

A TPU session installs the pins of requirements-tpu.txt after these, without their dependencies: the file lists all of
them, and the declared dependencies of one exclude versions that the rest of the session needs.
"""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from fintune_kit.errors import UserError

Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def install_packages(
    requirements: Sequence[str],
    *,
    torch: str | None,
    internet: bool,
    wheels: Sequence[Path],
    alone: bool = False,
    constraints: Sequence[str] = (),
    run: Runner | None = None,
) -> list[str]:
    """Installs what is missing, and returns it.

    Args:
        requirements: pins and ranges.
        torch: the torch that replaces the image's own; None keeps the image's.
        internet: look at PyPI; else only at `wheels`.
        wheels: folders of wheels among the inputs.
        alone: install without dependencies.
        constraints: pins for the ranges of `requirements`, used where the image's version is missing or too old.
        run: starts pip; for tests.

    Raises:
        UserError: pip failed; its last lines are quoted.
    """
    kept = {"torch"} if torch or _image_torch() else set()  # even a newer one than our tests ran with
    missing = [r for r in requirements if Requirement(r).name not in kept and not is_installed(r)]
    if torch:
        missing = [torch, *missing]
    if not missing:
        return []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("\n".join([*([] if torch else _image_torch()), *constraints]) + "\n", encoding="utf-8")
        done = (run or _run)(pip_command(missing, constraints=file, internet=internet, wheels=wheels, alone=alone))
    if done.returncode:
        where = "from PyPI" if internet else "from the attached wheels (internet is off)"
        raise UserError(f"the packages {', '.join(missing)} could not be installed {where}; pip says: {_end_of(done)}")
    return missing


def uninstall_package(name: str, *, because: str, run: Runner | None = None) -> str | None:
    """Uninstalls a package and returns its version; None where it was not installed.

    Args:
        because: why it must go, for the error.
        run: starts pip; for tests.

    Raises:
        UserError: it is still installed.
    """
    version = _version(name)
    if version is None:
        return None
    command = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--disable-pip-version-check", "--yes", name]
    done = (run or _run)(command)
    if done.returncode or _version(name):  # pip skips a package outside its environment, and calls that a success
        raise UserError(
            f"{name} {version} could not be uninstalled; expected a session without it, because {because}: restart the "
            f"session and run this cell again; pip says: {_end_of(done) or 'nothing'}"
        )
    return version


def pip_command(
    missing: Sequence[str], *, constraints: Path, internet: bool, wheels: Sequence[Path], alone: bool = False
) -> list[str]:
    """The command that installs the missing packages."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--constraint", str(constraints)]
    if alone:  # forced: pip takes a snapshot of a repository for the release that has the same version
        command += ["--no-deps", "--force-reinstall"]
    if not internet:
        command += ["--no-index"]
    for folder in wheels:
        command += ["--find-links", str(folder)]
    return [*command, *missing]


def is_installed(requirement: str) -> bool:
    """Whether an installed version satisfies a requirement. A snapshot of a repository is not a release."""
    wanted = Requirement(requirement)
    found = _version(wanted.name)
    if found is None or not wanted.specifier.contains(found, prereleases=True):
        return False
    origin = importlib.metadata.distribution(wanted.name).read_text("direct_url.json")
    return "vcs_info" not in (origin or "")


def _image_torch() -> list[str]:
    version = _version("torch")
    return [f"torch=={version}"] if version else []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _end_of(done: "subprocess.CompletedProcess[str]") -> str:
    return " / ".join(line.strip() for line in done.stderr.strip().splitlines()[-3:])


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(list(command), capture_output=True, text=True, check=False)  # noqa: S603 - pip
