"""The start and the end of a session on Kaggle; the two generated cells of a built notebook call them.

    begin   caches, the Hub's token, inputs, settings, packages, the model, the card; leaves session.json
    end     keeps the output below what Kaggle saves

A session tells the notebook that follows everything by environment variables, because the processes that train inherit
them.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from packaging.requirements import Requirement

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, find_machine, has_kernels_for, missing_kernels
from fintune_kit.kaggle.accelerators import check_card, kind_of
from fintune_kit.kaggle.session.mounts import Kind, find_mount
from fintune_kit.kaggle.session.output import keep_output_small
from fintune_kit.kaggle.session.packages import (
    Pip,
    install_alone,
    install_packages,
    is_installed,
    uninstall_package,
)
from fintune_kit.workspace import kaggle_root, versions, write_json, write_text

RECORD = "session.json"
P100_TORCH = "torch==2.7.1"
"""The last PyPI release with kernels for sm_60."""

_CACHES = {
    "HF_HOME": "huggingface",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
_SOURCES: Mapping[Kind, str] = {
    "notebook": "kernel_sources",
    "dataset": "dataset_sources",
    "model": "model_sources",
}
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_CONFLICTS = {"torchao>=0.16": "peft stops beside an older one"}
"""Packages of the image that must go where they are older than this, and why. Colab's image has torchao 0.10."""
_ONE_TPU = "it takes the TPU for itself, and JAX needs it"
_PROBE = (
    "import json, torch; n = range(torch.cuda.device_count()); print(json.dumps([torch.__version__, "
    "torch.cuda.get_arch_list(), [[torch.cuda.get_device_name(i), *torch.cuda.get_device_capability(i)] for i in n]]))"
)


def begin(session: Mapping[str, Any], *, library: str, sha256: str) -> dict[str, Any]:
    """Prepares a session and writes `session.json`, its description, into the output.

    Args:
        session: the settings that `kaggle.kernels.session_of` wrote into the cell.
        library: the wheel's name, or the commit's address.
        sha256: the hash that the library was compared with.

    Raises:
        UserError: an input is not attached, a package cannot be installed, or another card was asked for.
    """
    set_began()
    set_caches(os.environ)
    _set_network(internet=session["internet"])
    inputs = {source: find_mount(source, kind=kind) for kind in get_args(Kind) for source in session[_SOURCES[kind]]}
    _set_environment(session["environment"], inputs=inputs)
    _install(session, wheels=_wheel_folders(inputs))
    _set_model([inputs[source] for source in session["model_sources"]], session["model_sources"])
    machine = find_machine()
    record = {
        "kernel": session["kernel"],
        "library": library,
        "sha256": sha256,
        "installed_in": str(Path(__file__).parents[2]),
        "accelerator": session["accelerator"],
        "cards": [card.name for card in machine.cards],
        "machine": machine.name,
        "precision": f"{machine.dtype}: {machine.dtype_reason}",
        "inputs": {source: path.relative_to(kaggle_root()).as_posix() for source, path in inputs.items()},
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("FINTUNE_")},
        "versions": versions(),
    }
    write_json(kaggle_root() / "working" / RECORD, record)
    check_card(session["accelerator"], record["cards"])
    print(f"{session['kernel']}: {machine.name}; {', '.join(record['inputs'].values()) or 'no input'}; {library}")
    return record


def end() -> None:
    """Keeps the output below what Kaggle saves, and prints its size."""
    print(keep_output_small(kaggle_root() / "working"))


def set_began() -> None:
    """Notes when the session began, because its time budget counts from there. A restarted kernel keeps the note."""
    note = kaggle_root() / "temp" / "session-began"
    if not note.is_file():
        write_text(note, str(time.time()))
    os.environ["FINTUNE_SESSION_BEGAN"] = note.read_text(encoding="utf-8")


def set_caches(environment: Any) -> None:
    """Puts downloads and compiled kernels outside the output folder, because Kaggle saves that folder."""
    for name, folder in _CACHES.items():
        environment[name] = str(kaggle_root() / "temp" / "cache" / folder)


def find_token(client: Callable[[], Any] | None = None) -> str | None:
    """The secret `HF_TOKEN` of the kernel, or None. It is never printed.

    Args:
        client: makes Kaggle's secrets client; None imports the one of Kaggle's image.
    """
    try:
        token: str = (client or importlib.import_module("kaggle_secrets").UserSecretsClient)().get_secret("HF_TOKEN")
    except Exception:  # Kaggle's client has exceptions of its own; all mean that there is no such secret
        return None
    return token or None


def _set_network(*, internet: bool) -> None:
    if not internet:
        os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    elif "HF_TOKEN" not in os.environ and (token := find_token()):
        os.environ["HF_TOKEN"] = token
        print("the secret HF_TOKEN is set")


def _set_environment(settings: Mapping[str, str], *, inputs: Mapping[str, Path]) -> None:
    """The settings of the manifest. In them, `{input:owner/slug}` becomes the folder of that source."""
    for name, value in settings.items():
        os.environ.setdefault(name, re.sub(r"\{input:([^}]+)\}", lambda match: _mounted(match.group(1), inputs), value))


def _mounted(source: str, inputs: Mapping[str, Path]) -> str:
    for attached, path in inputs.items():
        if attached == source or attached.rpartition("/")[0] == source:
            return str(_link("inputs", source, path))
    raise UserError(f"a setting names {{input:{source}}}, which is not attached; expected one of {', '.join(inputs)}")


def _set_model(folders: Sequence[Path], sources: Sequence[str]) -> None:
    """Makes an attached Kaggle model the base. Its mount is named by its version, so a link gives it a telling name."""
    if not folders or "FINTUNE_MODEL" in os.environ:
        return
    if len(folders) > 1:
        raise UserError(f"{len(folders)} models are attached ({', '.join(sources)}); choose one with FINTUNE_MODEL")
    _, model, _, variation, _ = sources[0].split("/")
    os.environ["FINTUNE_MODEL"] = str(_link("models", f"{model}-{variation}", folders[0]))


def _link(kind: str, name: str, mount: Path) -> Path:
    """A path that is the same in every session: the identity of a run holds it, whatever the layout of the mounts."""
    link = kaggle_root() / "temp" / kind / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(mount, target_is_directory=True)
    return link


def _install(session: Mapping[str, Any], *, wheels: Sequence[Path]) -> None:
    """Installs the missing packages. Nothing that is installed or removed here may be imported before."""
    kind, pip = kind_of(session["accelerator"]), Pip(internet=session["internet"], wheels=wheels)
    remove_conflicts(pip)
    if kind == "tpu" and (version := uninstall_package("torch_xla", because=_ONE_TPU, pip=pip)):
        print(f"torch_xla {version} was uninstalled, because {_ONE_TPU}")
    install_packages(session["requirements"], pip=pip, torch=_torch_for_this_card() if kind == "gpu" else None)
    if kind == "tpu":
        beside = kaggle_root() / "temp" / "newer-packages"
        if newer := install_alone(**session["tpu_packages"], pip=pip, beside=beside):
            put_first_on_path(beside)
            print(f"{', '.join(newer)}: the training gets it; this notebook keeps the version that it has loaded")


def remove_conflicts(pip: Pip) -> None:
    """Uninstalls packages of the image that ours refuse to work beside."""
    for requirement, because in _CONFLICTS.items():
        name = Requirement(requirement).name
        if not is_installed(requirement) and (version := uninstall_package(name, because=because, pip=pip)):
            print(f"{name} {version} was uninstalled, because {because}")


def put_first_on_path(folder: Path) -> None:
    """Lets the processes that this one starts import from a folder first."""
    before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *before])


def _torch_for_this_card() -> str | None:
    """The torch that must replace the image's, or None. Another process finds out: pip must come before any import."""
    asked = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)  # noqa: S603
    if asked.returncode:
        return None  # there is no torch, or a broken one: pip brings one, and the card is checked later
    version, architectures, cards = json.loads(asked.stdout.splitlines()[-1])
    return torch_for([((major, minor), name) for name, major, minor in cards], architectures, version=version)


def torch_for(cards: Sequence[tuple[tuple[int, int], str]], architectures: list[str], *, version: str) -> str | None:
    """The torch for a card that the image's torch has no kernels for; None keeps the image's torch.

    Raises:
        UserError: we know no release that has kernels for the card.
    """
    for capability, name in cards:
        if has_kernels_for(capability, architectures):
            continue
        if capability[0] >= 7 or capability < (6, 0):
            card = Card(name=name, capability=capability, memory_bytes=0)
            raise UserError(missing_kernels(card, version, architectures))
        return P100_TORCH
    return None


def _wheel_folders(inputs: Mapping[str, Path]) -> list[Path]:
    """The attached folders that hold wheels, for a session without internet."""
    return sorted({wheel.parent for path in inputs.values() for wheel in (*path.glob("*.whl"), *path.glob("*/*.whl"))})
