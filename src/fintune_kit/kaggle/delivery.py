"""Brings the library into a kernel. A push can hold only one notebook and no other file, so there are three methods.

    embed      the default: the wheel as text in the first cell. One upload; each version carries its own library.
    dataset    the wheel in a private dataset that the kernel attaches
    git        `pip install` of one commit of a public repository; needs internet

The project's own build backend makes the wheel in this process, without network. The same files give the same bytes.
Kaggle takes notebooks of up to a megabyte. An ordinary wheel compresses each file alone. If it is stored without
compression and then compressed as a whole, it takes two thirds of that space.
"""

import base64
import hashlib
import io
import lzma
import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.manifest import FILE, Chain

Method = Literal["embed", "dataset", "git"]
_IN_THE_WHEEL = ("src", "data", "pyproject.toml", "requirements.txt", "requirements-tpu.txt")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The library, in the form in which the first cell installs it."""

    method: Method
    name: str
    """The wheel's file name, or `git+URL@COMMIT`."""
    sha256: str
    """The wheel's SHA-256; with git, the commit."""
    wheel: bytes = b""
    dataset: str | None = None
    """`owner/slug` of the dataset that holds the wheel."""

    @property
    def payload(self) -> str:
        """The wheel as text: compressed by LZMA, in base64."""
        return base64.b64encode(lzma.compress(self.wheel, preset=9 | lzma.PRESET_EXTREME)).decode("ascii")


def deliver(chain: Chain, *, method: Method) -> Delivery:
    """Prepares the library for the kernels of a chain.

    Raises:
        UserError: this checkout cannot be delivered by this method.
    """
    if method == "git":
        return _by_commit(chain)
    name, wheel = build_wheel(chain.root)
    return Delivery(
        method=method,
        name=name,
        sha256=hashlib.sha256(wheel).hexdigest(),
        wheel=wheel,
        dataset=f"{chain.owner}/{chain.wheel_dataset}" if method == "dataset" else None,
    )


def build_wheel(root: Path) -> tuple[str, bytes]:
    """The file name and the bytes of this checkout's `py3-none-any` wheel, whose files are stored uncompressed.

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
        return Path(made).name, _uncompressed(Path(made))


def _uncompressed(wheel: Path) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(wheel) as given, zipfile.ZipFile(stored, "w") as written:
        for entry in given.infolist():
            written.writestr(entry, given.read(entry), compress_type=zipfile.ZIP_STORED)
    return stored.getvalue()


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
    changed = _git(chain.root, "status", "--porcelain", "--", *_IN_THE_WHEEL)
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
