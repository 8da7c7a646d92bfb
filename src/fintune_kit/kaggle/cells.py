"""The two cells that a built notebook has beside its own: one before them, one after.

The first needs nothing but Python: it gets the library, checks it, and hands over to `kaggle.session`, where all else
is (packages, caches, secrets, inputs, the card). The last one weighs the output.
"""

import pprint
from collections.abc import Mapping
from typing import Any

from fintune_kit.kaggle.delivery import Delivery

_HEAD = '''\
# Written by `fintune-kit kaggle build` from notebooks/{name}.ipynb and kaggle-metadata.json: change those, not this.
# It installs fintune-kit, compares it with the SHA-256 of what was built, and prepares the session.
import base64
import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

SESSION = {session}
LIBRARY = "{library}"
SHA256 = "{sha256}"

kaggle = Path(os.environ.get("FINTUNE_KAGGLE_ROOT", "/kaggle"))
target = kaggle / "temp" / f"fintune-kit-{{SHA256[:12]}}"  # outside working/, which is saved as the output


def pip_install(what: str) -> None:
    """Into a folder of its own: nothing of the image is replaced, and the processes that train find it too."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--target", str(target), what], check=True)


def check(wheel: bytes, found_in: str) -> None:
    """Whether these are the bytes that were built."""
    found = hashlib.sha256(wheel).hexdigest()
    if found != SHA256:
        raise ValueError(f"the wheel in {{found_in}} has SHA-256 {{found}}, expected {{SHA256}}: build and push again")

'''

_EMBED = '''
def install(payload: str) -> None:
    """The wheel lies in this cell, as base64."""
    wheel = base64.b64decode(payload)
    check(wheel, "this cell")
    file = target.with_name(LIBRARY)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(wheel)
    pip_install(str(file))


if not target.is_dir():
    install("{payload}")
'''

_DATASET = '''
def install(dataset: str) -> None:
    """The wheel lies in an attached dataset, in Kaggle's new layout or in the old one."""
    folders = (kaggle / "input" / "datasets" / dataset, kaggle / "input" / dataset.split("/")[1])
    found = [folder / LIBRARY for folder in folders if (folder / LIBRARY).is_file()]
    if not found:
        raise FileNotFoundError(f"{{LIBRARY}} is not in the dataset {{dataset}}: push again with --deliver dataset")
    check(found[0].read_bytes(), str(found[0]))
    pip_install(str(found[0]))


if not target.is_dir():
    install("{dataset}")
'''

_GIT = """
if not target.is_dir():
    pip_install(LIBRARY)
"""

_TAIL = """\
sys.path.insert(0, str(target))
os.environ["PYTHONPATH"] = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
importlib.invalidate_caches()

from fintune_kit.kaggle.session import begin

session = begin(SESSION, library=LIBRARY, sha256=SHA256)
"""

_LAST = """\
# Written by `fintune-kit kaggle build`: keeps the output below what Kaggle saves.
from fintune_kit.kaggle.session import end

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
        "dataset": _DATASET.format(dataset=delivery.dataset),
        "git": _GIT,
    }[delivery.way]
    return head + body + _TAIL


def last_cell() -> str:
    """The source of the cell that weighs the output."""
    return _LAST
