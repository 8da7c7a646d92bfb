"""The cells that bring the library into a session.

    first cell    of a built notebook: unpacks the wheel, compares it with its SHA-256, and calls `session.begin`
    last cell     of a built notebook: checks the size of the output
    alone cell    of each notebook in the repository: installs the release if the library is missing

The first and the alone cell need only Python.
"""

import pprint
from collections.abc import Mapping
from typing import Any

from fintune_kit.kaggle.delivery import Delivery

_HEAD = '''\
# Written by `fintune-kit kaggle build` from notebooks/{name}.ipynb and kaggle-metadata.json. Edit those, not this cell.
# It installs fintune-kit, compares it with the SHA-256 of what was built, and prepares the session.
import base64
import hashlib
import importlib
import io
import lzma
import os
import subprocess
import sys
import zipfile
from pathlib import Path

SESSION = {session}
LIBRARY = "{library}"
SHA256 = "{sha256}"

kaggle = Path(os.environ.get("FINTUNE_KAGGLE_ROOT", "/kaggle"))
target = kaggle / "temp" / f"fintune-kit-{{SHA256[:12]}}"  # outside working/, which is saved as the output


def install(wheel: bytes, found_in: str) -> None:
    """Checks the wheel and unpacks it into a folder of its own. Pure Python needs no more than that."""
    found = hashlib.sha256(wheel).hexdigest()
    if found != SHA256:
        raise ValueError(f"the wheel in {{found_in}} has SHA-256 {{found}}, expected {{SHA256}}: build and push again")
    zipfile.ZipFile(io.BytesIO(wheel)).extractall(target)

'''

_EMBED = """
install(lzma.decompress(base64.b64decode("{payload}")), found_in="this cell")
"""

_DATASET = """
folders = (kaggle / "input/datasets/{dataset}", kaggle / "input/{slug}")  # Kaggle's new layout, and the old one
wheels = [folder / LIBRARY for folder in folders if (folder / LIBRARY).is_file()]
if not wheels:
    raise FileNotFoundError(f"{{LIBRARY}} is not in the dataset {dataset}: push again with --deliver dataset")
install(wheels[0].read_bytes(), found_in=wheels[0])
"""

_GIT = """
pip_install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
subprocess.run([*pip_install, "--upgrade", "--target", str(target), LIBRARY], check=True)
"""

_TAIL = """\
sys.path.insert(0, str(target))
os.environ["PYTHONPATH"] = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
importlib.invalidate_caches()

from fintune_kit.kaggle.session.begin import begin

session = begin(SESSION, library=LIBRARY, sha256=SHA256)
"""

_LAST = """\
# Written by `fintune-kit kaggle build`. It keeps the output below what Kaggle saves.
from fintune_kit.kaggle.session.begin import end

end()
"""


_ALONE = """\
# Finds fintune-kit, or installs its release: so this notebook also works alone, on Kaggle, on Colab or in any Jupyter.
import importlib.util
import subprocess
import sys

RELEASE = "{release}"  # an address for pip; empty until there is a public release
if importlib.util.find_spec("fintune_kit") is None:
    if not RELEASE:
        raise ModuleNotFoundError("no fintune-kit here and no public release yet: pip install -e . in a checkout of it")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", RELEASE], check=True)
    from fintune_kit.kaggle.session.alone import prepare

    prepare({arguments})"""


def alone_cell(repository: str | None, *, version: str, accelerator: str | None) -> str:
    """The source of the first code cell of a notebook in the repository.

    Args:
        repository: the public https:// address of the project; None while there is none.
        version: the version of the release, which is tagged as `v<version>`.
        accelerator: the machine shape of the notebook's kernel.
    """
    release = f"git+{repository}@v{version}" if repository else ""
    return _ALONE.format(release=release, arguments=f'accelerator="{accelerator}"' if accelerator else "")


def first_cell(session: Mapping[str, Any], delivery: Delivery) -> str:
    """The source of the cell that installs the library and prepares the session."""
    head = _HEAD.format(
        name=session["kernel"],
        session=pprint.pformat(dict(session), width=110, sort_dicts=False),
        library=delivery.name,
        sha256=delivery.sha256,
    )
    body = {
        "embed": _EMBED.format(payload=delivery.payload),
        "dataset": _DATASET.format(dataset=delivery.dataset, slug=(delivery.dataset or "").rpartition("/")[2]),
        "git": _GIT,
    }[delivery.method]
    return head + body + _TAIL


def last_cell() -> str:
    """The source of the cell that checks the size of the output."""
    return _LAST
