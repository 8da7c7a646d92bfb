"""The two generated cells of a built notebook: one before its own cells, one after them.

The first cell needs nothing but Python. It unpacks the library, compares it with its SHA-256, and calls
`session.begin`, which does the rest (packages, caches, secrets, inputs, the card). The last cell checks the size of the
output.
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
install(base64.b64decode("{payload}"), found_in="this cell")
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
