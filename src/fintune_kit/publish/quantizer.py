"""Calls llama.cpp's own quantizer, for GGUF types that no Python package makes (`q4_k_m`, `q5_k_m`).

The quantizer must be installed: the program `llama-quantize`, or a Python package that contains llama.cpp.
"""

import ctypes
import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from fintune_kit.errors import UserError

FILE_TYPES = {"q4_k_m": 15, "q5_k_m": 17}
"""llama.cpp's numbers of these types (`LLAMA_FTYPE_MOSTLY_...`)."""
Quantize = Callable[[Path, Path, str], None]
"""A function of (source, target, type) that reads a GGUF file and writes another one of this type."""


def find_quantizer() -> Quantize:
    """The installed quantizer.

    Raises:
        UserError: no quantizer is installed.
    """
    if shutil.which("llama-quantize"):
        return _by_program
    for package, quantize in (("llama_cpp", _by_llama_cpp), ("cyllama", _by_cyllama)):
        if importlib.util.find_spec(package) is not None:
            return quantize
    raise UserError(
        f"{' and '.join(FILE_TYPES)} are made by llama.cpp's quantizer, and none was found; expected `llama-quantize` "
        f"on the PATH, or the package llama-cpp-python or cyllama: install one, or choose q8_0"
    )


def _by_program(source: Path, target: Path, form: str) -> None:
    command = ["llama-quantize", str(source), str(target), form.upper()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    _check(target, failed=done.returncode != 0, said=(done.stderr or done.stdout).strip())


def _by_llama_cpp(source: Path, target: Path, form: str) -> None:
    llama = importlib.import_module("llama_cpp")
    settings = llama.llama_model_quantize_default_params()
    settings.ftype = FILE_TYPES[form]
    code = llama.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings))
    _check(target, failed=code != 0, said=f"code {code}")


def _by_cyllama(source: Path, target: Path, form: str) -> None:
    llama = importlib.import_module("cyllama.llama.llama_cpp")
    settings = llama.LlamaModelQuantizeParams()
    settings.ftype = FILE_TYPES[form]
    llama.model_quantize(str(source), str(target), settings)
    _check(target, failed=False, said="")


def _check(target: Path, *, failed: bool, said: str) -> None:
    if failed or not target.is_file() or target.stat().st_size == 0:
        last = said.splitlines()[-1] if said else "it wrote nothing"
        raise UserError(f"llama.cpp's quantizer failed ({last}); expected {target.name}: choose q8_0, or update it")
