"""Writes the first code cell of each notebook, by which it works alone. Run it when repository or version change.

The cell installs the release from the `repository` of kaggle-metadata.json, under the tag of the version. A test fails
where a notebook has another cell.
"""

import json
import sys
from pathlib import Path

import fintune_kit
from fintune_kit.kaggle.cells import alone_cell
from fintune_kit.kaggle.manifest import read_chain

IDENTIFIER = "find-fintune-kit"


def main() -> int:
    """Rewrites the notebooks that the manifest names."""
    chain = read_chain(Path(__file__).parents[1], owner="nobody")
    for kernel in chain.kernels:
        source = alone_cell(chain.repository, version=fintune_kit.__version__, accelerator=kernel.accelerator)
        notebook = json.loads(kernel.notebook.read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell.get("id") != IDENTIFIER]
        first = next(index for index, cell in enumerate(cells) if cell["cell_type"] == "code")
        cell = {
            "cell_type": "code",
            "execution_count": None,
            "id": IDENTIFIER,
            "metadata": {},
            "outputs": [],
            "source": source.splitlines(keepends=True),
        }
        notebook["cells"] = [*cells[:first], cell, *cells[first:]]
        text = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
        kernel.notebook.write_text(text, encoding="utf-8")
        print(f"{kernel.notebook.name}: {source.count(chr(10)) + 1} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
