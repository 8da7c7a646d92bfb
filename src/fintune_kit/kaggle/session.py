"""A session on Kaggle: what the generated cells of a built notebook call before and after its own.

    begin   settings, caches outside the output, the Hub's token, inputs, packages, model, the card; leaves session.json
    end     keeps the output below what Kaggle saves

A session's only interface to the notebook that follows is the environment, which the processes that train inherit.
This room and `recipes`, `workspace` are all that touch it.
"""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, find_machine, has_kernels_for, missing_kernels
from fintune_kit.kaggle.accelerators import SHAPES, kind_of
from fintune_kit.kaggle.mounts import Kind, find_mount
from fintune_kit.kaggle.output import keep_output_small
from fintune_kit.kaggle.packages import install_packages, uninstall_package
from fintune_kit.workspace import kaggle_root, versions, write_json

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
_ONE_TPU = "it and JAX each take the TPU for themselves"
_PROBE = (
    "import json, torch; n = range(torch.cuda.device_count()); print(json.dumps([torch.__version__, "
    "torch.cuda.get_arch_list(), [[torch.cuda.get_device_name(i), *torch.cuda.get_device_capability(i)] for i in n]]))"
)


def begin(session: Mapping[str, Any], *, library: str, sha256: str) -> dict[str, Any]:
    """Prepares a session, and leaves what it found in `session.json` beside the output.

    Args:
        session: what `kaggle.kernels.session_of` wrote into the cell.
        library: the wheel's name, or the commit's address.
        sha256: what it was checked against.

    Raises:
        UserError: an input is not attached, the packages cannot be had, or the card is not the one asked for.
    """
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
    """Keeps the output below what Kaggle saves, and says how large it is."""
    print(keep_output_small(kaggle_root() / "working"))


def check_card(accelerator: str | None, cards: Sequence[str]) -> None:
    """Compares the session's cards with the machine shape that was asked for. Nothing is asked of a CPU kernel.

    Raises:
        UserError: the session runs on something else, and would spend hours on it.
    """
    shape = SHAPES.get(accelerator or "")
    if shape is None or shape.kind == "tpu":  # a TPU is no CUDA device; its notebook counts its chips itself
        return
    if not any(shape.card in card for card in cards):
        raise UserError(
            f"this session runs on {', '.join(cards) or 'a CPU'}, but {accelerator} ({shape.says}) was asked for: "
            f"check the weekly quota and the phone verification (kaggle.com/settings), then push again"
        )


def set_caches(environment: Any) -> None:
    """Downloads and compiled kernels go beside the output folder, which Kaggle saves, not into it."""
    for name, folder in _CACHES.items():
        environment[name] = str(kaggle_root() / "temp" / "cache" / folder)


def find_token(client: Callable[[], Any] | None = None) -> str | None:
    """`HF_TOKEN` among the kernel's secrets, None where there is none. It is never printed.

    Args:
        client: makes Kaggle's secrets client; None imports the one that Kaggle's image has.
    """
    try:
        token: str = (client or importlib.import_module("kaggle_secrets").UserSecretsClient)().get_secret("HF_TOKEN")
    except Exception:  # Kaggle's client raises kinds of its own; all say that there is no secret to be had
        return None
    return token or None


def _set_network(*, internet: bool) -> None:
    if not internet:
        os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    elif "HF_TOKEN" not in os.environ and (token := find_token()):
        os.environ["HF_TOKEN"] = token
        print("the secret HF_TOKEN is set")


def _set_environment(settings: Mapping[str, str], *, inputs: Mapping[str, Path]) -> None:
    """Settings of the manifest; `{input:owner/slug}` in one becomes a folder that holds what that source does."""
    for name, value in settings.items():
        os.environ.setdefault(name, re.sub(r"\{input:([^}]+)\}", lambda match: _mounted(match.group(1), inputs), value))


def _mounted(source: str, inputs: Mapping[str, Path]) -> str:
    for attached, path in inputs.items():
        if attached == source or attached.rpartition("/")[0] == source:
            return str(_link("inputs", source, path))
    raise UserError(f"a setting names {{input:{source}}}, which is not attached; expected one of {', '.join(inputs)}")


def _set_model(folders: Sequence[Path], sources: Sequence[str]) -> None:
    """An attached Kaggle model becomes the base, under a name that says which: its mount is called by its version."""
    if not folders or "FINTUNE_MODEL" in os.environ:
        return
    if len(folders) > 1:
        raise UserError(f"{len(folders)} models are attached ({', '.join(sources)}); say which with FINTUNE_MODEL")
    _, model, _, variation, _ = sources[0].split("/")
    os.environ["FINTUNE_MODEL"] = str(_link("models", f"{model}-{variation}", folders[0]))


def _link(kind: str, name: str, mount: Path) -> Path:
    """A path that is the same in every session: a run's identity holds paths, and must outlive a change of layout."""
    link = kaggle_root() / "temp" / kind / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(mount, target_is_directory=True)
    return link


def _install(session: Mapping[str, Any], *, wheels: Sequence[Path]) -> None:
    """What the session lacks. Nothing that is installed or removed here may have been imported before."""
    kind, internet = kind_of(session["accelerator"]), session["internet"]
    if kind == "tpu" and (version := uninstall_package("torch_xla", because=_ONE_TPU)):
        print(f"torch_xla {version} was uninstalled, as {_ONE_TPU}")
    torch = _torch_for_this_card() if kind == "gpu" else None
    install_packages(session["requirements"], torch=torch, internet=internet, wheels=wheels)
    if kind == "tpu":
        install_packages(**session["tpu_packages"], torch=None, alone=True, internet=internet, wheels=wheels)


def _torch_for_this_card() -> str | None:
    """What must replace the image's torch, or None. Asked in another process: nothing may be imported before pip."""
    asked = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)  # noqa: S603
    if asked.returncode:
        return None  # no torch, or a broken one: the packages bring theirs, and the card is checked after
    version, architectures, cards = json.loads(asked.stdout.splitlines()[-1])
    return torch_for([((major, minor), name) for name, major, minor in cards], architectures, version=version)


def torch_for(cards: Sequence[tuple[tuple[int, int], str]], architectures: list[str], *, version: str) -> str | None:
    """The torch that a card needs in place of one that has no kernels for it; None keeps the image's own.

    Raises:
        UserError: no release that we know of has kernels for it.
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
    """Attached folders that hold wheels, for a session without internet."""
    return sorted({wheel.parent for path in inputs.values() for wheel in (*path.glob("*.whl"), *path.glob("*/*.whl"))})
