"""Downloads one file from Kaggle under a temporary name, and continues a download that was interrupted.

    weights.v3-1000.partial    the first bytes of `weights` in version 3, which has 1,000 bytes

The version and the length in the name keep bytes of two versions apart.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fintune_kit.kaggle.calls.door import TIMEOUT, sentences

_CHUNK = 1 << 20
_SUFFIX = ".partial"
_EXPIRED = (400, 401, 403, 404, 410)
"""Answers to a signed address that has expired."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The first bytes of a file."""

    path: Path
    size: int
    total: int

    def is_continued_by(self, reply: Any) -> bool:
        """Whether an answer continues exactly at the end of the part, in a file of the same length."""
        wanted = f"bytes {self.size}-{self.total - 1}/{self.total}"
        return reply.status_code == 206 and reply.headers.get("Content-Range") == wanted


def download(url: str, target: Path, *, version: int | None) -> bool:
    """Downloads a file. Returns False if its address has expired.

    Args:
        version: the version of the kernel to which the file belongs.

    Raises:
        UnreachableError: the answer broke off. The next call continues the download.
    """
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    part = _find_part(target, version)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={part.size}-"} if part else {})
    with sentences(target.name), requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if reply.status_code in _EXPIRED:
            return False
        if part and not part.is_continued_by(reply):
            part.path.unlink()
            if reply.status_code != 200:  # the answer is about the part, and does not hold the whole file
                return download(url, target, version=version)
            part = None
        reply.raise_for_status()
        path = part.path if part else _path_of_part(target, version, reply.headers.get("Content-Length", "0"))
        with path.open("ab" if part else "wb") as stream:
            for block in reply.iter_content(_CHUNK):
                stream.write(block)
    path.replace(target)
    return True


def _path_of_part(target: Path, version: int | None, total: str) -> Path:
    return target.with_name(f"{target.name}.v{version or 0}-{total}{_SUFFIX}")


def _find_part(target: Path, version: int | None) -> _Part | None:
    """The part of this version. Parts of other versions are deleted."""
    found = None
    for path in target.parent.iterdir():
        match = re.fullmatch(rf"{re.escape(target.name)}\.v(\d+)-(\d+){re.escape(_SUFFIX)}", path.name)
        if match and int(match[1]) == (version or 0) and int(match[2]) > path.stat().st_size > 0:
            found = _Part(path=path, size=path.stat().st_size, total=int(match[2]))
        elif match:
            path.unlink()
    return found
