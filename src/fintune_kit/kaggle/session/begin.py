"""The start and the end of a session on Kaggle; the two generated cells of a built notebook call them.

begin   prepares caches, the Hub's token, inputs, settings, packages and the model, checks the card, writes session.json
end     keeps the output below the size that Kaggle saves
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from fintune_kit.errors import UserError
from fintune_kit.hardware import find_machine
from fintune_kit.kaggle.accelerators import check_card
from fintune_kit.kaggle.documents import RECORD
from fintune_kit.kaggle.session import variables
from fintune_kit.kaggle.session.install import install, remove_conflicts
from fintune_kit.kaggle.session.mounts import Kind, find_mount
from fintune_kit.kaggle.session.output import keep_output_small
from fintune_kit.kaggle.session.packages import Pip
from fintune_kit.workspace import kaggle_root, versions, write_json

_SOURCES: Mapping[Kind, str] = {
    "notebook": "kernel_sources",
    "dataset": "dataset_sources",
    "model": "model_sources",
}


def begin(session: Mapping[str, Any], *, library: str, sha256: str) -> dict[str, Any]:
    """Prepares a session and writes `session.json`, its description, into the output.

    Args:
        session: the settings that `kaggle.kernels.session_of` wrote into the cell.
        library: the wheel's name, or the commit's address.
        sha256: the hash of the library.

    Raises:
        UserError: an input is not attached, a package cannot be installed, or the card is not the requested one.
    """
    variables.note_begin()
    variables.set_caches()
    variables.set_token() if session["internet"] else variables.set_offline()
    inputs = {source: find_mount(source, kind=kind) for kind in get_args(Kind) for source in session[_SOURCES[kind]]}
    variables.set_defaults({name: _with_inputs(value, inputs) for name, value in session["environment"].items()})
    _install(session, wheels=_wheel_folders(inputs))
    _set_model([inputs[source] for source in session["model_sources"]], session["model_sources"])
    record = _describe(session, inputs=inputs, library=library, sha256=sha256)
    write_json(kaggle_root() / "working" / RECORD, record)
    check_card(session["accelerator"], record["cards"])
    print(f"{record['kernel']}: {record['machine']}; {', '.join(record['inputs'].values()) or 'no input'}; {library}")
    return record


def end() -> None:
    """Keeps the output below the size that Kaggle saves, and prints its size."""
    print(keep_output_small(kaggle_root() / "working"))


def _install(session: Mapping[str, Any], *, wheels: Sequence[Path]) -> None:
    pip = Pip(internet=session["internet"], wheels=wheels)
    remove_conflicts(pip)
    install(
        session["requirements"],
        pip=pip,
        accelerator=session["accelerator"],
        tpu_packages=session.get("tpu_packages"),
    )


def _describe(session: Mapping[str, Any], *, inputs: Mapping[str, Path], library: str, sha256: str) -> dict[str, Any]:
    """The content of `session.json`."""
    machine = find_machine()
    return {
        "kernel": session["kernel"],
        "library": library,
        "sha256": sha256,
        "installed_in": str(Path(__file__).parents[3]),
        "accelerator": session["accelerator"],
        "cards": [card.name for card in machine.cards],
        "machine": machine.name,
        "precision": f"{machine.dtype}: {machine.dtype_reason}",
        "inputs": {source: path.relative_to(kaggle_root()).as_posix() for source, path in inputs.items()},
        "settings": variables.our_settings(),
        "versions": versions(),
    }


def _with_inputs(setting: str, inputs: Mapping[str, Path]) -> str:
    """A setting of the manifest, with `{input:owner/slug}` replaced by the folder of that source."""
    return re.sub(r"\{input:([^}]+)\}", lambda match: _mounted(match.group(1), inputs), setting)


def _mounted(source: str, inputs: Mapping[str, Path]) -> str:
    for attached, path in inputs.items():
        if attached == source or attached.rpartition("/")[0] == source:
            return str(_link("inputs", source, path))
    raise UserError(f"a setting names {{input:{source}}}, which is not attached; expected one of {', '.join(inputs)}")


def _set_model(folders: Sequence[Path], sources: Sequence[str]) -> None:
    """Makes an attached Kaggle model the base. Its folder is a version number, so a link gives it the model's name."""
    if not folders or variables.is_set("FINTUNE_MODEL"):
        return
    if len(folders) > 1:
        raise UserError(f"{len(folders)} models are attached ({', '.join(sources)}); choose one with FINTUNE_MODEL")
    _, model, _, variation, _ = sources[0].split("/")
    variables.set_defaults({"FINTUNE_MODEL": str(_link("models", f"{model}-{variation}", folders[0]))})


def _link(kind: str, name: str, mount: Path) -> Path:
    """A link to an input, with a path that is the same in every session: a run is identified by it."""
    link = kaggle_root() / "temp" / kind / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(mount, target_is_directory=True)
    return link


def _wheel_folders(inputs: Mapping[str, Path]) -> list[Path]:
    """The attached folders that hold wheels, for a session without internet."""
    return sorted({wheel.parent for path in inputs.values() for wheel in (*path.glob("*.whl"), *path.glob("*/*.whl"))})
