"""The environment variables of a session. The notebook and the processes that it starts read the session from them.

Nothing else in this room touches the environment. `recipes` and `workspace` read it on the other side.
"""

import importlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fintune_kit.workspace import kaggle_root, write_text

_CACHES = {
    "HF_HOME": "huggingface",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def note_begin() -> None:
    """Notes the beginning of the session, from which its time budget counts. A restarted kernel keeps the note."""
    note = kaggle_root() / "temp" / "session-began"
    if not note.is_file():
        write_text(note, str(time.time()))
    os.environ["FINTUNE_SESSION_BEGAN"] = note.read_text(encoding="utf-8")


def set_caches() -> None:
    """Puts downloads and compiled kernels outside the output folder, because Kaggle saves that folder."""
    for name, folder in _CACHES.items():
        os.environ[name] = str(kaggle_root() / "temp" / "cache" / folder)


def set_offline() -> None:
    """Tells the libraries of the Hub that there is no network."""
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))


def set_token() -> None:
    """Sets `HF_TOKEN` to the secret of the kernel, if there is one. It is never printed."""
    if "HF_TOKEN" not in os.environ and (token := find_token()):
        os.environ["HF_TOKEN"] = token
        print("the secret HF_TOKEN is set")


def find_token(client: Callable[[], Any] | None = None) -> str | None:
    """The secret `HF_TOKEN` of the kernel, or None.

    Args:
        client: makes Kaggle's secrets client; None imports the one of Kaggle's image.
    """
    try:
        token: str = (client or importlib.import_module("kaggle_secrets").UserSecretsClient)().get_secret("HF_TOKEN")
    except Exception:  # Kaggle's client has exceptions of its own; all mean that there is no such secret
        return None
    return token or None


def set_defaults(settings: Mapping[str, str]) -> None:
    """Sets variables that are not set yet."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def is_set(name: str) -> bool:
    """Whether a variable is set."""
    return name in os.environ


def our_settings() -> dict[str, str]:
    """The variables of this project, sorted by name."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("FINTUNE_")}


def put_first_on_path(folder: Path) -> None:
    """Puts a folder first on the import path of the processes that this one starts."""
    before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *before])
