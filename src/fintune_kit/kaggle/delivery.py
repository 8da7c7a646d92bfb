"""How the library gets into a kernel. A push carries one notebook and no other file, so there are three methods.

    embed      the wheel as base64 in the first cell: one upload, and each version carries its own library   (default)
    dataset    the wheel in a private dataset that the kernel attaches
    git        `pip install` of one commit of a public repository; needs internet

The project's own build backend makes the wheel in this process, without network. The same files give the same bytes.
"""

import base64
import hashlib
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.manifest import FILE, Chain

METHODS: tuple[Literal["embed", "dataset", "git"], ...] = ("embed", "dataset", "git")

TPU_REQUIREMENTS = "requirements-tpu.txt"
IMAGES_OWN = frozenset(("jinja2", "matplotlib", "numpy", "pyarrow", "scikit-learn", "scipy", "torch", "tqdm"))
"""Asked for as ranges, so that Kaggle's image may keep its own: the rest of the image was built against them."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """From what the first cell installs the library."""

    method: Literal["embed", "dataset", "git"]
    name: str
    """The wheel's file name, or `git+URL@COMMIT`."""
    sha256: str
    """Of the wheel; with git, the commit."""
    wheel: bytes = b""
    dataset: str | None = None
    """`owner/slug` of the dataset that holds the wheel."""

    @property
    def payload(self) -> str:
        """The wheel as base64 text."""
        return base64.b64encode(self.wheel).decode("ascii")


def deliver(chain: Chain, *, method: str) -> Delivery:
    """Prepares the library for the kernels of a chain.

    Raises:
        UserError: this checkout cannot be delivered by this method.
    """
    if method == "git":
        return _by_commit(chain)
    name, wheel = build_wheel(chain.root)
    return Delivery(
        method="dataset" if method == "dataset" else "embed",
        name=name,
        sha256=hashlib.sha256(wheel).hexdigest(),
        wheel=wheel,
        dataset=f"{chain.owner}/{chain.wheel_dataset}" if method == "dataset" else None,
    )


def build_wheel(root: Path) -> tuple[str, bytes]:
    """The file name and the bytes of this checkout's `py3-none-any` wheel.

    Raises:
        MissingInputError: `root` is not a checkout, or the build backend is not installed.
    """
    if not (root / "pyproject.toml").is_file():
        raise MissingInputError(
            f"{root / 'pyproject.toml'} is missing; kernels are built from a checkout of fintune-kit: run this in one"
        )
    try:
        from hatchling.builders.wheel import WheelBuilder
    except ImportError as error:
        raise MissingInputError(
            "hatchling, which builds the wheel, is not installed: pip install 'fintune-kit[kaggle]'"
        ) from error
    with TemporaryDirectory() as folder:
        (made,) = WheelBuilder(str(root)).build(directory=folder, versions=["standard"])
        return Path(made).name, Path(made).read_bytes()


def requirements_of(root: Path) -> list[str]:
    """The packages that a session needs: our pins, and ranges for what Kaggle's image may keep."""
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pins = _pins(root)
    return [spec if (name := _name(spec)) in IMAGES_OWN else pins.get(name, spec) for spec in declared]


def tpu_packages_of(root: Path) -> dict[str, list[str]]:
    """The packages that only a TPU session needs. They are installed without their dependencies.

    Returns:
        `requirements`: the lines of requirements-tpu.txt. A range among them lets the image keep its own version.
        `constraints`: our pins for these ranges, used where the image's own version is too old.

    Raises:
        MissingInputError: requirements-tpu.txt is missing.
    """
    if not (root / TPU_REQUIREMENTS).is_file():
        raise MissingInputError(
            f"{root / TPU_REQUIREMENTS} is missing; it holds the packages of a TPU session: take it from the repository"
        )
    requirements, pins = _lines(root / TPU_REQUIREMENTS), _pins(root)
    ranges = [_name(line) for line in requirements if "==" not in line]
    return {"requirements": requirements, "constraints": [pins[name] for name in ranges if name in pins]}


def dataset_metadata(chain: Chain) -> dict[str, object]:
    """Kaggle's `dataset-metadata.json` for the dataset that holds the wheel."""
    return {
        "title": chain.wheel_dataset.replace("-", " "),
        "id": f"{chain.owner}/{chain.wheel_dataset}",
        "licenses": [{"name": "apache-2.0"}],
    }


def _by_commit(chain: Chain) -> Delivery:
    if not chain.repository or not re.fullmatch(r"https://[\w.-]+/[\w./-]+", chain.repository):
        raise UserError(
            f"{FILE} has repository {chain.repository!r}; expected the public https:// address that --deliver git "
            f"installs from, as in https://github.com/NAME/fintune-kit"
        )
    changed = _git(chain.root, "status", "--porcelain", "--", "src", "data", "pyproject.toml")
    if changed:
        raise UserError(
            f"{len(changed.splitlines())} changed files would not travel with --deliver git; commit and push them, or "
            f"use --deliver embed"
        )
    commit = _git(chain.root, "rev-parse", "HEAD")
    return Delivery(method="git", name=f"git+{chain.repository}@{commit}", sha256=commit)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, with our own arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"{root} is not a git checkout, or git is not installed; use --deliver embed") from error
    return done.stdout.strip()


def _pins(root: Path) -> dict[str, str]:
    return {_name(line): line for line in _lines(root / "requirements.txt") if "==" in line}


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""
