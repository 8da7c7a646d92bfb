"""The versions of a kernel and the contents of their outputs: finished stages, a checkpoint, or nothing.

    version 4    failed in its first cell         nothing
    version 3    stopped by its time budget       run/checkpoints/checkpoint-80/
    version 2    finished                         run/manifest.json, adapter/manifest.json

A version is finished if each stage that its kernel writes has a manifest. Kaggle's state of its session does not
matter. On Kaggle's pages, a newer version that failed hides an older good one. Here the older one is found.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fintune_kit.kaggle.calls.client import Kaggle, OutputFile
from fintune_kit.kaggle.documents import read_document
from fintune_kit.kaggle.manifest import Kernel
from fintune_kit.workspace import MANIFEST

MAX_VERSIONS = 5
"""The number of versions to look at. If none of them is finished, the kernel is not done."""
PLAN = "run/plan.json"
_CHECKPOINT = re.compile(r"run/checkpoints/checkpoint-(\d+)/manifest\.json")
_IDENTITY = ("recipe", "packed", "base")
"""The keys of `plan.json` that identify a run."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a kernel and its output."""

    kernel: Kernel
    number: int
    files: Sequence[OutputFile]
    log: str = ""

    @property
    def source(self) -> str:
        """The address under which a kernel attaches this version."""
        return f"{self.kernel.ref}/{self.number}"

    @property
    def missing(self) -> list[str]:
        """The stages of the kernel that are missing or unfinished in this output."""
        return [stage for stage in self.kernel.writes if self.file(f"{stage}/{MANIFEST}") is None]

    @property
    def is_finished(self) -> bool:
        """Whether all stages are finished."""
        return not self.missing

    @property
    def steps(self) -> int:
        """Optimizer steps of the newest sealed checkpoint; 0 if there is none."""
        return max((int(match[1]) for file in self.files if (match := _CHECKPOINT.fullmatch(file.name))), default=0)

    def file(self, name: str) -> OutputFile | None:
        """The file of this name, or None."""
        return next((file for file in self.files if file.name == name), None)


class History:
    """The versions of a kernel, the newest first. Kaggle is asked for an output only when it is needed."""

    def __init__(self, kaggle: Kaggle, kernel: Kernel) -> None:
        """Asks Kaggle for the newest version.

        Raises:
            UserError: Kaggle does not answer.
        """
        info = kaggle.info(kernel.ref)
        self.kernel = kernel
        self.newest = info.version if info else 0
        """0 where the kernel was never pushed."""
        self._kaggle = kaggle
        self._versions: dict[int, Version] = {}

    def __iter__(self) -> Iterator[Version]:
        for number in range(self.newest, max(0, self.newest - MAX_VERSIONS), -1):
            yield self.version(number)

    def version(self, number: int) -> Version:
        """One version."""
        if number not in self._versions:
            files, log = self._kaggle.outputs(self.kernel.ref, version=number)
            self._versions[number] = Version(kernel=self.kernel, number=number, files=files, log=log)
        return self._versions[number]

    def finished(self) -> Version | None:
        """The newest finished version."""
        return next((version for version in self if version.is_finished), None)

    def useful(self) -> Version | None:
        """The newest version that is finished or holds a checkpoint."""
        return next((version for version in self if version.is_finished or version.steps), None)


def run_identity(kaggle: Kaggle, version: Version) -> Mapping[str, Any]:
    """The run of a checkpoint: its recipe, its packs and its base. Empty if the output has no plan."""
    file = version.file(PLAN)
    if file is None:
        return {}
    plan = read_document(kaggle.read(file), name=f"{PLAN} of {version.source}")
    return {key: plan[key] for key in _IDENTITY if key in plan}


def made_from_another(kaggle: Kaggle, version: Version, inputs: Sequence[Version]) -> str | None:
    """The stage among `inputs` that has changed since a version was made from it, or None.

    A manifest names its inputs by SHA-256: a stage by its manifest (`packed`), or its files (`packed/a.arrow`).
    """
    made_from = dict(run_identity(kaggle, version))
    for stage in version.kernel.writes:
        if manifest := _read_manifest(kaggle, version, stage):
            made_from |= read_document(manifest, name=f"{stage}/{MANIFEST} of {version.source}").get("inputs", {})
    for source in inputs:
        for stage in source.kernel.writes:
            if content := _read_manifest(kaggle, source, stage):
                files = read_document(content, name=f"{stage}/{MANIFEST} of {source.source}").get("files", {})
                today = {stage: hashlib.sha256(content).hexdigest()}
                today |= {f"{stage}/{name}": digest for name, digest in files.items()}
                if any(made_from.get(name, digest) != digest for name, digest in today.items()):
                    return stage
    return None


def _read_manifest(kaggle: Kaggle, version: Version, stage: str) -> bytes | None:
    file = version.file(f"{stage}/{MANIFEST}")
    return kaggle.read(file) if file else None
