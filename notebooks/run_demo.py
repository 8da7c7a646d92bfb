"""`make demo`: the four notebooks in order, on this machine, with the smoke recipe.

Executes copies, so that the notebooks themselves stay as committed, and ends with the before/after table and where
everything lies.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from fintune_kit.evaluate.tables import format_table
from fintune_kit.workspace import Workspace, read_json

HERE = Path(__file__).parent
STORY = ("01_data", "02_pack", "03_train_p100", "04_evaluate")


def main() -> int:
    """Runs the story and prints what came of it."""
    workspace = Workspace(HERE.parent / "runs" / "demo")
    shutil.rmtree(workspace.root, ignore_errors=True)
    os.environ |= {"FINTUNE_RECIPE": "smoke", "FINTUNE_WORKSPACE": str(workspace.root)}
    # Two threads gain little on models this small, and lose much on a machine that does something else besides.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    for number, name in enumerate(STORY, start=1):
        print(f"[{number}/{len(STORY)}] {name} ...", end=" ", flush=True)
        began = time.monotonic()
        try:
            execute(HERE / f"{name}.ipynb", workspace.root / "notebooks" / f"{name}.ipynb")
        except CellExecutionError as error:
            print(f"failed\n\n{error}", file=sys.stderr)
            return 1
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    print(f"\n{format_table(read_json(workspace.folder('evaluation') / 'scores.json'))}\n")
    for what, where in (
        ("executed notebooks", workspace.root / "notebooks"),
        ("figures", workspace.figures),
        ("adapter", workspace.folder("adapter")),
    ):
        print(f"{what:<20} {where}")
    print(f"{'whole demo':<20} {time.monotonic() - started:.0f} s")
    return 0


def execute(source: Path, target: Path) -> None:
    """Runs one notebook in its own kernel and writes it, with its outputs, to `target`, even where a cell fails."""
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": HERE}},
        extra_arguments=["--log-level=ERROR"],  # the kernel's own warnings would stand between the lines of progress
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        client.execute()
    finally:
        nbformat.write(notebook, target)


if __name__ == "__main__":
    sys.exit(main())
