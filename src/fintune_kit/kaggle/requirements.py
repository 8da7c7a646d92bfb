"""The packages that a session needs: our pins, and ranges for those that the image may keep.

    pyproject.toml         which packages, as ranges
    requirements.txt       the versions that our tests ran with
    requirements-tpu.txt   what only a TPU session needs

A wheel carries the two lists of pins, so that a notebook that was opened alone installs the same versions.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

from fintune_kit.errors import MissingInputError

PINS = "requirements.txt"
TPU_PINS = "requirements-tpu.txt"
EXTRAS = ("train", "evaluate", "bank")
"""The extras of this package that the notebooks need."""
IMAGES_OWN = frozenset(("jinja2", "matplotlib", "numpy", "pyarrow", "scikit-learn", "scipy", "torch", "tqdm"))
"""Asked for as ranges, so that Kaggle's image may keep its own: the rest of the image was built against them."""


def requirements_of(checkout: Path) -> list[str]:
    """The packages that a session needs, by the files of a checkout."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    declared = [*project["dependencies"], *(spec for extra in EXTRAS for spec in extras.get(extra, ()))]
    return _choose(declared, folder=checkout)


def requirements_of_this_release() -> list[str]:
    """The packages that a session needs, by the release that is installed here."""
    declared = importlib.metadata.requires("fintune-kit") or []
    return _choose([spec.partition(";")[0].strip() for spec in declared if _is_ours(spec)], folder=find_pins())


def tpu_packages_of(folder: Path) -> dict[str, list[str]]:
    """The packages that only a TPU session needs. They are installed without their dependencies.

    Args:
        folder: a checkout, or `find_pins()`.

    Returns:
        `requirements`: the lines of requirements-tpu.txt. A range among them lets the image keep its own version.
        `constraints`: our pins for these ranges, used where the image's own version is too old.

    Raises:
        MissingInputError: requirements-tpu.txt is missing.
    """
    if not (folder / TPU_PINS).is_file():
        raise MissingInputError(
            f"{folder / TPU_PINS} is missing; it holds the packages of a TPU session: take it from the repository"
        )
    requirements, pins = _lines(folder / TPU_PINS), _pins(folder)
    ranges = [_name(line) for line in requirements if "==" not in line]
    return {"requirements": requirements, "constraints": [pins[name] for name in ranges if name in pins]}


def find_pins() -> Path:
    """The folder of the lists of pins: in the package of a wheel, else at the top of the checkout.

    Raises:
        MissingInputError: they are in neither place.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "pins", package.parents[1]):
        if (folder / PINS).is_file():
            return folder
    raise MissingInputError(f"{PINS} was not found beside {package}; install the package again")


def _is_ours(spec: str) -> bool:
    """Whether a requirement in our metadata is one that every installation or the notebooks need."""
    marker = Requirement(spec).marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in EXTRAS)


def _choose(declared: Iterable[str], *, folder: Path) -> list[str]:
    """One requirement for each package, by name. Our own name stands for an extra that holds another one."""
    pins = _pins(folder)
    specs = {_name(spec): spec for spec in declared if _name(spec) != "fintune-kit"}
    return [spec if name in IMAGES_OWN else pins.get(name, spec) for name, spec in sorted(specs.items())]


def _pins(folder: Path) -> dict[str, str]:
    return {_name(line): line for line in _lines(folder / PINS) if "==" in line}


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""
