"""Step 1: the machine, its packages, what `doctor` finds, and the plans for it and for a T4."""

import importlib.metadata
import platform
import subprocess

from benchmarks.card.world import Result, Setting, quantization, run_step

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "datasets", "pyarrow", "unsloth")


def measure(setting: Setting) -> Result:
    import torch

    from fintune_kit.hardware import doctor, find_machine
    from fintune_kit.plan.counts import typical_counts
    from fintune_kit.plan.devices import device_of
    from fintune_kit.plan.engines import find_device
    from fintune_kit.plan.plan import make_plan
    from fintune_kit.plan.shapes import SHAPES
    from fintune_kit.recipes import p100

    machine, recipe = find_machine(), p100()
    shape = SHAPES[setting.config.removesuffix("-Instruct")]
    devices = {"here": device_of(machine), "t4": find_device("t4")}
    if setting.rehearse:
        del devices["here"]  # a CPU has no room for the real recipe
    plans = {
        name: make_plan(recipe, shape=shape, counts=typical_counts(recipe), device=device).describe()
        for name, device in devices.items()
    }
    return {
        "machine": machine.name,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "kernels_for": torch.cuda.get_arch_list() if torch.cuda.is_available() else [],
        "nvidia_smi": nvidia_smi(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "doctor": [vars(finding) for finding in doctor()],
        "base_in": quantization(),
        "plans": plans,
    }


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def nvidia_smi() -> str | None:
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,clocks.sm", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return None


def line(found: Result) -> str:
    missing = [name for name, version in found["packages"].items() if version is None]
    ill = [finding["what"] for finding in found["doctor"] if not finding["fine"]]
    said = [found["machine"], f"missing: {', '.join(missing) or 'nothing'}", f"unfit: {', '.join(ill) or 'nothing'}"]
    return "; ".join(said)


if __name__ == "__main__":
    run_step("environment", measure, line)
