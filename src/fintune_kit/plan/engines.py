"""The kinds of devices that the planner knows. Another room adds its own kind with `register`."""

from fintune_kit.errors import UserError
from fintune_kit.plan.cards import CPU_ENGINE, CUDA_ENGINE
from fintune_kit.plan.devices import Device
from fintune_kit.plan.layouts import Engine

_ENGINES: dict[str, Engine] = {engine.kind: engine for engine in (CUDA_ENGINE, CPU_ENGINE)}


def register(engine: Engine) -> None:
    """Adds an engine for its kind of device."""
    _ENGINES[engine.kind] = engine


def engine_of(device: Device) -> Engine:
    """The engine that plans for a device."""
    return _ENGINES[device.kind]


def known_devices() -> dict[str, Device]:
    """All known devices by name."""
    return {device.name: device for engine in _ENGINES.values() for device in engine.devices}


def find_device(name: str) -> Device:
    """A device by its name.

    Raises:
        UserError: no device has this name.
    """
    devices = known_devices()
    if name not in devices:
        raise UserError(f"there is no device {name!r}; expected one of {', '.join(devices)}: check --device")
    return devices[name]
