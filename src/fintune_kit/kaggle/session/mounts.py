"""Finds the folders of a kernel's inputs. Kaggle has two layouts, so no other module writes such a path.

since 2026                                                       before
input/datasets/<owner>/<slug>/                                   input/<slug>/
input/notebooks/<owner>/<slug>/                                  input/<slug>/
input/models/<owner>/<model>/<framework>/<variation>/<version>   input/<model>/<framework>/<variation>/<version>
"""

from pathlib import Path
from typing import Literal

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import kaggle_root

Kind = Literal["dataset", "notebook", "model"]


def find_mount(source: str, *, kind: Kind) -> Path:
    """The folder of an attached source, `owner/slug[/version]` or `owner/model/framework/variation/version`.

    Raises:
        MissingInputError: it is not mounted.
        UserError: it is mounted in two different places.
    """
    inputs = kaggle_root() / "input"
    found = {path.resolve(): path for path in _candidates(inputs, source, kind) if path.is_dir()}
    if not found:
        raise MissingInputError(
            f"the {kind} {source} is not attached to this session (it is not below {inputs}); wait until it is "
            f"finished and push this kernel again, or attach it in the editor (Add Input)"
        )
    if len(found) > 1:
        raise UserError(f"the {kind} {source} is attached twice ({' and '.join(map(str, found.values()))}); keep one")
    return next(iter(found.values()))


def _candidates(inputs: Path, source: str, kind: Kind) -> list[Path]:
    parts = source.split("/")
    if kind != "model":
        owner, slug = parts[:2]
        return [inputs / f"{kind}s" / owner / slug, inputs / slug]
    owner, model, framework, variation, version = parts
    spellings = {framework, framework.lower()}
    return [
        folder / spelling / variation / version
        for spelling in sorted(spellings)
        for folder in (inputs / "models" / owner / model, inputs / model)
    ]
