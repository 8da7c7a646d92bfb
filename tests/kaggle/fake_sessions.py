"""Kaggle's machines without Kaggle: a built notebook run by papermill below a fake `/kaggle`.

Each session has an empty `working/`, an environment of its own, and what the kernel's `kernel-metadata.json` attaches
mounted read-only, by turns in the new layout and in the old one. Outputs are kept beside it, a folder a version, as are
the datasets and models that may be attached.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill

from fintune_kit.tiny import build_model, build_tokenizer, sample_texts
from fintune_kit.workspace import sha256_of


@dataclass
class Session:
    """The results of one run."""

    output: Path
    """The files of `working/` that Kaggle saves."""
    notebook: Any
    """As executed."""
    inputs_before: dict[str, str]
    inputs_after: dict[str, str]
    """By mount, the SHA-256 of what is in it."""

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.output / "session.json").read_text())

    def printed(self) -> str:
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        return "".join(out.get("text", "") for cell in cells for out in cell.outputs)


@dataclass
class FakeKaggle:
    """One machine after the other below the same `/kaggle`; outputs and attached sources are kept beside it."""

    folder: Path
    build: Path

    def run(self, name: str, **environment: str) -> Session:
        """Runs a built notebook in a fresh session."""
        root = self.folder / "kaggle"
        make_writable(root)
        shutil.rmtree(root, ignore_errors=True)
        (root / "working").mkdir(parents=True)
        metadata = json.loads((self.build / name / "kernel-metadata.json").read_text())
        self.mount(root / "input", metadata)
        mounts = sorted(path.parent for path in (root / "input").rglob(".mount"))
        before = {str(path.relative_to(root)): sha256_of(path) for path in mounts}
        fresh = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "FINTUNE_KAGGLE_ROOT": str(root),
            "OMP_NUM_THREADS": "1",
        }
        executed = self.folder / "executed" / metadata["code_file"]
        executed.parent.mkdir(exist_ok=True)
        with _environment(fresh | environment):
            notebook = papermill.execute_notebook(
                str(self.build / name / metadata["code_file"]),
                str(executed),
                cwd=str(root / "working"),
                progress_bar=False,
            )
        after = {str(path.relative_to(root)): sha256_of(path) for path in mounts}
        versions = self.folder / "outputs" / metadata["id"].split("/")[1]
        output = versions / str(len(list(versions.glob("*"))) + 1)
        output.parent.mkdir(parents=True, exist_ok=True)
        (root / "working").rename(output)
        return Session(output=output, notebook=nbformat.from_dict(notebook), inputs_before=before, inputs_after=after)

    def mount(self, inputs: Path, metadata: dict[str, Any]) -> None:
        """Mounts every source, by turns in the new layout and in the old one."""
        places = []
        for source in metadata["kernel_sources"]:
            owner, slug, *version = source.split("/")
            outputs = self.folder / "outputs" / slug
            newest = version[0] if version else str(len(list(outputs.iterdir())))
            places.append((outputs / newest, f"notebooks/{owner}/{slug}", slug))
        for kind in ("dataset", "model"):
            sources = metadata[f"{kind}_sources"]
            places += [(self.folder / "attached" / s, f"{kind}s/{s}", s.partition("/")[2]) for s in sources]
        for number, (source, new, old) in enumerate(places):
            target = inputs / (old if number % 2 else new)
            shutil.copytree(source, target)
            (target / ".mount").touch()
            for path in (target, *target.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Nothing but these variables, for the kernel that is started within."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def make_writable(folder: Path) -> None:
    """Lets what was mounted read-only be deleted."""
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def make_model(folder: Path, sample: Path) -> None:
    """The tiny Qwen2 with one layer, as somebody would publish it as a Kaggle model."""
    tokenizer = build_tokenizer(sample_texts(sample), vocab_size=1024)
    model = build_model(tokenizer, seed=1)
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    model.config.layer_types = model.config.layer_types[:1]
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
