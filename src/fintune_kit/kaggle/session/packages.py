"""Installs the packages of a session: the versions of our tests, but the image's own versions where these fit.

pip keeps an installed version that satisfies a requirement. The rest of the image was built with some packages, and
these are required as ranges. So most of them stay: numpy does, but pyarrow is replaced, because datasets needs a newer
one. torch is also held by a constraint.

A package whose compiled code is loaded cannot be replaced in its process: the old and the new files would mix. The
kernel of a notebook loads numpy before the first cell. So a dry run of pip says first which packages would change. A
loaded one among them ends the cell with a sentence.

A TPU session then installs the pins of requirements-tpu.txt without their dependencies. The file lists all of them,
and the declared dependencies of one package exclude versions that the rest of the session needs. If such a pin would
replace a loaded package, it is installed into a folder that only the processes of the training see.
"""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from fintune_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Pip:
    """pip, and the places where it looks for packages."""

    internet: bool
    """Look for packages on PyPI; else only in `wheels`."""
    wheels: Sequence[Path] = ()
    """Folders of wheels among the inputs."""

    def run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Starts a command and waits for it."""
        return subprocess.run(list(command), capture_output=True, text=True, check=False)  # noqa: S603 - pip

    def install(self, requirements: Sequence[str], *options: str, constraints: Sequence[str] = ()) -> None:
        """Installs packages.

        Raises:
            UserError: pip failed; its last lines are quoted.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder) / "constraints.txt"
            file.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            command += ["--constraint", str(file), *options, *([] if self.internet else ["--no-index"])]
            for wheels in self.wheels:
                command += ["--find-links", str(wheels)]
            done = self.run([*command, *requirements])
        if done.returncode:
            where = "from PyPI" if self.internet else "from the attached wheels (internet is off)"
            raise UserError(
                f"the packages {', '.join(requirements)} could not be installed {where}; pip says: {_end_of(done)}"
            )

    def changes(self, requirements: Sequence[str], *, constraints: Sequence[str] = ()) -> dict[str, str]:
        """The packages that an installation would change, with their new versions.

        Raises:
            UserError: pip finds no solution; its last lines are quoted.
        """
        with TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            self.install(requirements, "--dry-run", "--report", str(report), constraints=constraints)
            planned = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
        return {package["name"]: package["version"] for package in planned}


def install_packages(requirements: Sequence[str], *, pip: Pip, torch: str | None = None) -> list[str]:
    """Installs the requirements that are missing, and returns them.

    Args:
        requirements: pins and ranges.
        torch: the torch that replaces the image's own; None keeps the image's, even if it is newer than in our tests.

    Raises:
        UserError: pip failed, or it would replace a package that this process has loaded.
    """
    held = [] if torch else _image_torch()
    kept = {"torch"} if torch or held else set()
    missing = [r for r in requirements if Requirement(r).name not in kept and not is_installed(r)]
    missing = [torch, *missing] if torch else missing
    if not missing:
        return []
    loaded = {name: version for name, version in pip.changes(missing, constraints=held).items() if is_loaded(name)}
    if loaded:
        named = ", ".join(f"{name} {_version(name)} must become {version}" for name, version in loaded.items())
        raise UserError(
            f"this session has loaded packages that must be replaced ({named}); expected a new session: restart the "
            f"session, and run this cell before any other"
        )
    pip.install(missing, constraints=held)
    return missing


def install_alone(requirements: Sequence[str], *, pip: Pip, constraints: Sequence[str], beside: Path) -> list[str]:
    """Installs the requirements that are missing, without their dependencies.

    Args:
        constraints: pins for the ranges of `requirements`, used where the image's version is missing or too old.
        beside: the folder for packages that this process has loaded in another version.

    Returns:
        The requirements that were installed into `beside`. Other processes see them if it comes first on their path.

    Raises:
        UserError: pip failed.
    """
    missing = [requirement for requirement in requirements if not is_installed(requirement)]
    loaded = [requirement for requirement in missing if is_loaded(Requirement(requirement).name)]
    here = [requirement for requirement in missing if requirement not in loaded]
    if here:  # forced, because pip takes a snapshot of a repository for the release that has the same version
        pip.install(here, "--no-deps", "--force-reinstall", constraints=constraints)
    if loaded:
        pip.install(loaded, "--no-deps", "--upgrade", "--target", str(beside), constraints=constraints)
    return loaded


def uninstall_package(name: str, *, because: str, pip: Pip) -> str | None:
    """Uninstalls a package and returns its version; None if it was not installed.

    Args:
        because: the reason, for the error.

    Raises:
        UserError: it is still installed.
    """
    version = _version(name)
    if version is None:
        return None
    done = pip.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--disable-pip-version-check", "--yes", name])
    if done.returncode or _version(name):  # pip skips a package outside its environment, and calls that a success
        raise UserError(
            f"{name} {version} could not be uninstalled; expected a session without it, because {because}: restart the "
            f"session and run this cell again; pip says: {_end_of(done) or 'nothing'}"
        )
    return version


def is_installed(requirement: str) -> bool:
    """Whether an installed version satisfies a requirement. A snapshot of a repository is not a release."""
    wanted = Requirement(requirement)
    found = _version(wanted.name)
    if found is None or not wanted.specifier.contains(found, prereleases=True):
        return False
    origin = importlib.metadata.distribution(wanted.name).read_text("direct_url.json")
    return "vcs_info" not in (origin or "")


def is_loaded(name: str) -> bool:
    """Whether this process has loaded compiled code of an installed package."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return False
    loaded = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return any(Path(str(file.locate())) in loaded for file in files if file.suffix in (".so", ".pyd"))


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
