"""Prepares a notebook that was opened alone: on Kaggle by Import or Copy & Edit, on Colab, or in another Jupyter.

Its first cell installs the release and calls `prepare`. If the library is installed already, as in a checkout or in a
built kernel, the cell does nothing.
"""

import importlib.util

from fintune_kit.kaggle.accelerators import kind_of
from fintune_kit.kaggle.requirements import find_pins, requirements_of_this_release, tpu_packages_of
from fintune_kit.kaggle.session import variables
from fintune_kit.kaggle.session.install import install, remove_conflicts
from fintune_kit.kaggle.session.packages import Pip
from fintune_kit.workspace import on_kaggle


def prepare(*, accelerator: str | None = None) -> None:
    """Installs the packages of this release. On Kaggle it also does the rest of a built kernel's first cell.

    Args:
        accelerator: the machine shape for which the notebook is made.

    Raises:
        UserError: pip failed, or a loaded package would have to be replaced.
    """
    print("installing the packages of fintune-kit; this takes one to three minutes, and prints nothing more")
    if on_kaggle():
        variables.note_begin()
        variables.set_caches()
        variables.set_token()
    pip = Pip(internet=True)
    if on_kaggle() or _on_colab():
        remove_conflicts(pip)  # these images are new in every session; elsewhere the packages belong to the user
    tpu_packages = tpu_packages_of(find_pins()) if kind_of(accelerator) == "tpu" else None
    install(requirements_of_this_release(), pip=pip, accelerator=accelerator, tpu_packages=tpu_packages)


def _on_colab() -> bool:
    return importlib.util.find_spec("google") is not None and importlib.util.find_spec("google.colab") is not None
