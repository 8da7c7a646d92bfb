"""Installs the packages of a session for its accelerator. pip must run before the first import of any of them.

every session    removes packages that do not work with ours, then installs those of ours that are missing
GPU              installs another torch if that of the image has no kernels for the card (a P100)
TPU              removes torch_xla, and installs JAX with its packages
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from packaging.requirements import Requirement

from fintune_kit.errors import UserError
from fintune_kit.hardware import TORCHAO, TORCHAO_REASON, Card, has_kernels_for, missing_kernels
from fintune_kit.kaggle.accelerators import kind_of
from fintune_kit.kaggle.session.packages import Pip, install_alone, install_packages, is_installed, uninstall_package
from fintune_kit.kaggle.session.variables import put_first_on_path
from fintune_kit.workspace import kaggle_root

P100_TORCH = "torch==2.7.1"
"""The last PyPI release with kernels for sm_60."""
_CONFLICTS = {TORCHAO: TORCHAO_REASON}
"""Packages of the image that are removed if they are older than this, with the reason."""
_ONE_TPU = "it takes the TPU for itself, and JAX needs it"
_PROBE = (
    "import json, torch; n = range(torch.cuda.device_count()); print(json.dumps([torch.__version__, "
    "torch.cuda.get_arch_list(), [[torch.cuda.get_device_name(i), *torch.cuda.get_device_capability(i)] for i in n]]))"
)


def install(
    requirements: Sequence[str], *, pip: Pip, accelerator: str | None, tpu_packages: Mapping[str, Sequence[str]] | None
) -> None:
    """Installs the missing packages of a session.

    Args:
        requirements: pins and ranges that every session needs.
        accelerator: Kaggle's machine shape.
        tpu_packages: `requirements` and `constraints` of a TPU session; None in others.

    Raises:
        UserError: pip failed, or a loaded package would have to be replaced, or no torch has kernels for the card.
    """
    kind = kind_of(accelerator)
    if kind == "tpu" and (version := uninstall_package("torch_xla", because=_ONE_TPU, pip=pip)):
        print(f"torch_xla {version} was uninstalled, because {_ONE_TPU}")
    install_packages(requirements, pip=pip, torch=_torch_for_this_card() if kind == "gpu" else None)
    if tpu_packages is not None:
        beside = kaggle_root() / "temp" / "newer-packages"
        if newer := install_alone(**tpu_packages, pip=pip, beside=beside):
            put_first_on_path(beside)
            print(f"{', '.join(newer)}: used by the training; this notebook keeps the version that it has loaded")


def remove_conflicts(pip: Pip) -> None:
    """Uninstalls packages of the image that do not work with ours."""
    for requirement, because in _CONFLICTS.items():
        name = Requirement(requirement).name
        if not is_installed(requirement) and (version := uninstall_package(name, because=because, pip=pip)):
            print(f"{name} {version} was uninstalled, because {because}")


def _torch_for_this_card() -> str | None:
    """The torch that must replace the image's, or None. Another process looks, because pip must run before imports."""
    asked = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)  # noqa: S603
    if asked.returncode:
        return None  # torch is missing or broken: pip installs one, and the card is checked later
    version, architectures, cards = json.loads(asked.stdout.splitlines()[-1])
    return torch_for([((major, minor), name) for name, major, minor in cards], architectures, version=version)


def torch_for(cards: Sequence[tuple[tuple[int, int], str]], architectures: list[str], *, version: str) -> str | None:
    """The torch to install if the image's torch has no kernels for a card; None keeps the image's torch.

    Raises:
        UserError: no known release has kernels for the card.
    """
    for capability, name in cards:
        if has_kernels_for(capability, architectures):
            continue
        if capability[0] >= 7 or capability < (6, 0):
            card = Card(name=name, capability=capability, memory_bytes=0)
            raise UserError(missing_kernels(card, version, architectures))
        return P100_TORCH
    return None
