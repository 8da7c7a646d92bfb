"""The packages of a session: pins that the tests ran with, installed without touching the image's own torch.

pip keeps an installed version that satisfies what is asked, so the image's numpy, pyarrow and torch stay as they are:
they are asked for as ranges. torch is held by a constraint too, as some package might want another.
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
    run: Runner | None = None,
) -> list[str]:
    """Installs what is missing, and returns it.

    Args:
        requirements: pins and ranges.
        torch: a torch to install in place of the image's own; None keeps that.
        internet: ask PyPI; else only `wheels`.
        wheels: folders of wheels among the inputs.
        run: starts pip; for tests.

    Raises:
        UserError: pip failed; the end of what it said is quoted.
    """
    kept = {"torch"} if torch or _image_torch() else set()  # kept even where it is newer than what the tests ran with
    missing = [r for r in requirements if Requirement(r).name not in kept and not is_installed(r)]
    if torch:
        missing = [torch, *missing]
    if not missing:
        return []
    with TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join([] if torch else _image_torch()) + "\n", encoding="utf-8")
        done = (run or _run)(pip_command(missing, constraints=constraints, internet=internet, wheels=wheels))
    if done.returncode:
        said = " / ".join(line.strip() for line in done.stderr.strip().splitlines()[-3:])
        where = "from PyPI" if internet else "from the attached wheels (internet is off)"
        raise UserError(f"the packages {', '.join(missing)} could not be installed {where}; pip says: {said}")
    return missing


def pip_command(missing: Sequence[str], *, constraints: Path, internet: bool, wheels: Sequence[Path]) -> list[str]:
    """The command that installs what is missing."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--constraint", str(constraints)]
    if not internet:
        command += ["--no-index"]
    for folder in wheels:
        command += ["--find-links", str(folder)]
    return [*command, *missing]


def is_installed(requirement: str) -> bool:
    """Whether an installed version satisfies a requirement."""
    wanted = Requirement(requirement)
    try:
        found = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return wanted.specifier.contains(found, prereleases=True)


def _image_torch() -> list[str]:
    try:
        return [f"torch=={importlib.metadata.version('torch')}"]
    except importlib.metadata.PackageNotFoundError:
        return []


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(list(command), capture_output=True, text=True, check=False)  # noqa: S603 - pip
