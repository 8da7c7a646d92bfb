"""Finds and counts the devices of a TPU session. If they are not a v5e-8, it refuses them in one sentence.

Such sessions have known traps. An account without a verified identity gets a session without a TPU. Kaggle's image
holds torch_xla, which cannot share the TPU with JAX. `TPU_WORKER_HOSTNAMES` may hold the text of a warning. A process
that counts the devices holds the TPU until it ends, so a notebook counts in a process of its own.

`JAX_PLATFORMS=cpu` asks for a rehearsal: the same code on CPU devices, in any number.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError, first_line
from fintune_kit.hardware import Finding

DEVICES_OF_A_V5E8 = 8
LIBTPU = "0.0.42"
"""The oldest version that was tried. The version in Kaggle's image (0.0.17) is too old for this JAX."""
_GOOGLE = "0x1ae0"
_TPUS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
"""PCI ids of Google and of its TPUs (v3 to 7x), from `jax._src.hardware_utils`. Google's network cards have others."""
_COUNT = (
    "import json; from fintune_kit.tpu.devices import find_devices; found = find_devices();"
    "print(json.dumps([found[0].device_kind, len(found)]))"
)


def find_devices() -> list[Any]:
    """The devices to train on. From this call on, they belong to this process.

    Raises:
        UserError: JAX is missing, torch_xla is installed, there is no TPU, or it has fewer than eight devices.
    """
    for module in ("jax", "tunix"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"{module} is not installed; expected the TPU's requirements: pip install --no-deps -r "
                f"requirements-tpu.txt, or train on a GPU with another recipe"
            )
    if importlib.util.find_spec("torch_xla") is not None:
        raise UserError(
            "torch_xla is installed beside JAX; expected JAX alone, because each takes the TPU for itself: "
            "pip uninstall -y torch_xla, and restart"
        )
    check_libtpu()
    _drop_spoilt_hostnames()
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise UserError(f"{no_tpu('none')} ({first_line(error)})") from error
    check_devices([device.platform for device in devices], rehearsal=os.environ.get("JAX_PLATFORMS") == "cpu")
    return list(devices)


def is_tpu_machine(*, pci: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether this machine has a TPU, and Tunix is installed. It only reads the PCI bus, and takes no device."""
    if importlib.util.find_spec("tunix") is None:
        return False
    vendors = pci.glob("*/vendor")
    google = [path.parent for path in vendors if path.read_text(encoding="utf-8").strip() == _GOOGLE]
    return any((folder / "device").read_text(encoding="utf-8").strip() in _TPUS for folder in google)


def check_devices(platforms: Sequence[str], *, rehearsal: bool) -> None:
    """Checks that these are the eight devices of a v5e-8, or that this is a rehearsal.

    Args:
        platforms: of each device, `tpu` or `cpu`.
        rehearsal: accept any devices.

    Raises:
        UserError: they are other devices.
    """
    if rehearsal:
        return
    if platforms[0] != "tpu":
        raise UserError(no_tpu(platforms[0]))
    if len(platforms) < DEVICES_OF_A_V5E8:
        raise UserError(
            f"this session has {len(platforms)} TPU device(s); expected the {DEVICES_OF_A_V5E8} of a v5e-8: restart "
            f"the session, and let no other process hold the TPU"
        )


def check_libtpu() -> None:
    """Checks that the TPU's own library is new enough, if it is installed.

    Raises:
        UserError: it is too old.
    """
    try:
        found = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        return
    from packaging.version import Version

    if Version(found) < Version(LIBTPU):
        raise UserError(
            f"libtpu {found} is installed; expected {LIBTPU} or newer, which JAX needs: pip install --no-deps -r "
            f"requirements-tpu.txt, and restart"
        )


def no_tpu(found: str) -> str:
    """The sentence for a session without a TPU."""
    return (
        f"this session has no TPU (JAX found: {found}); expected the {DEVICES_OF_A_V5E8} devices of a v5e-8: choose "
        f"the accelerator 'TPU v5e-8', with your identity verified in Kaggle's settings, or train on a GPU with "
        f"another recipe"
    )


def count_devices(*, timeout_seconds: float = 300.0) -> tuple[str, int]:
    """Counts the devices in a process of its own, which gives them back when it ends.

    Returns:
        (kind of device, such as `TPU v5 lite` or `cpu`; their number).

    Raises:
        UserError: for the same reasons as `find_devices`, or the process did not answer in time.
    """
    try:
        counted = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", _COUNT], capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"the TPU did not answer in {timeout_seconds:.0f} s; expected its devices: restart the session"
        ) from error
    if counted.returncode:
        last = counted.stderr.strip().splitlines()[-1]
        raise UserError(last.partition("UserError: ")[2] or f"the devices could not be counted: {last}")
    kind, count = json.loads(counted.stdout.splitlines()[-1])
    return kind, count


def doctor() -> list[Finding]:
    """The findings of `fintune-kit doctor` about a TPU; none if its requirements are not installed."""
    if importlib.util.find_spec("tunix") is None:
        return []
    try:
        kind, count = count_devices()
    except UserError as error:
        return [Finding(what="JAX devices", fine=False, detail="cannot be used", remedy=str(error))]
    return [Finding(what="JAX devices", fine=True, detail=f"{count} x {kind}")]


def _drop_spoilt_hostnames() -> None:
    """Deletes `TPU_WORKER_HOSTNAMES` if it is not a list of hosts. libtpu would try to reach its words as hosts."""
    names = os.environ.get("TPU_WORKER_HOSTNAMES")
    if names is not None and not re.fullmatch(r"[\w.-]+(,[\w.-]+)*", names):
        del os.environ["TPU_WORKER_HOSTNAMES"]
