"""Shared by all steps on a card: the places of files, the packs, a model of random weights, and the form of a result.

    bundle/   wheels/  packed.tar.xz  examples.parquet  configs/  tokenizer/  eval/     from `prepare`
    work/     site/ (unpacked wheels)  packed/  base/                                   made by the first step
    out/      STEP.json, lines.md

Packs are read with pyarrow, so a step that needs no trainer needs neither `datasets` nor TRL.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).parents[1]
Result = dict[str, Any]
Columns = dict[str, np.ndarray]


class Skipped(Exception):  # noqa: N818 - not an error
    """A step cannot run here; its text says the reason."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a step runs, and with what."""

    out: Path
    bundle: Path | None
    """None in a rehearsal."""
    work: Path
    config: str
    """Name of the model whose sizes the steps take."""
    base: Path | None
    """Folder of a real model, for the chain."""
    rehearse: bool

    @property
    def device(self) -> str:
        """`cuda:0`, or `cpu` in a rehearsal."""
        return "cpu" if self.rehearse else "cuda:0"

    @property
    def packed(self) -> Path:
        """Packs as stage 2 writes them."""
        return self.work / "packed"

    @property
    def random_base(self) -> Path:
        """A model of random weights with its tokenizer."""
        return self.work / "base"


def run_step(name: str, measure: Callable[[Setting], Result], line: Callable[[Result], str]) -> None:
    """Runs one step from the command line and writes what it found, also where it fails."""
    given = read_arguments(name)
    began = time.monotonic()
    result: Result = {"step": name, "rehearsal": given.rehearse}
    try:
        open_bundle(given)
        result |= measure(given)
        text = line(result)
    except Skipped as reason:
        result["skipped"] = text = f"skipped: {reason}"
    except Exception as error:
        result["failed"] = traceback.format_exc()
        text = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    result["seconds"] = round(time.monotonic() - began, 1)
    write(given.out, name, result, line=text)
    sys.exit(1 if "failed" in result else 0)


def write(out: Path, name: str, result: Result, *, line: str) -> None:
    """`STEP.json`, and a line for people."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    says = f"{name:16} {result.get('seconds', 0):6.1f} s  {line}"
    with (out / "lines.md").open("a", encoding="utf-8") as stream:
        stream.write(says + "\n")
    print(says, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that all steps share."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--bundle", type=Path, help="what `prepare` wrote")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fintune-card")
    parser.add_argument("--config", default="Qwen2.5-3B-Instruct", help="the model whose sizes are taken")
    parser.add_argument("--base", type=Path, help="folder of a real model, for the chain")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with a tiny model")


def read_arguments(name: str) -> Setting:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.card.{name}")
    add_arguments(parser)
    given = vars(parser.parse_args())
    if not (given["rehearse"] or given["bundle"]):
        parser.error("--bundle is missing; expected the folder that benchmarks.card.prepare wrote, or --rehearse")
    return Setting(**given)


def open_bundle(setting: Setting) -> None:
    """Unpacks wheels and packs, once for all steps. The wheels come before what the machine has."""
    setting.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["PYTHONPATH"] = f"{BENCHMARKS.parent / 'src'}{os.pathsep}{BENCHMARKS}"
    sys.path[:0] = [str(BENCHMARKS.parent / "src"), str(BENCHMARKS)]
    if setting.bundle is not None:
        site = setting.work / "site"
        once(site, lambda folder: unpack_wheels(setting.bundle / "wheels", folder))
        os.environ["PYTHONPATH"] = f"{site}{os.pathsep}{os.environ['PYTHONPATH']}"
        sys.path.insert(0, str(site))
        once(setting.packed, lambda folder: unpack_packs(setting.bundle / "packed.tar.xz", folder))
    elif not setting.packed.is_dir():
        import train_world

        train_world.prepare(train_world.rehearsal_setup(), None, setting.work)
    from fintune_kit.hardware import use_expandable_segments

    use_expandable_segments()  # as a training does; the peers inherit it


def once(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes a folder that is whole or not there."""
    if folder.is_dir():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    make(partial)
    partial.rename(folder)


def unpack_wheels(wheels: Path, folder: Path) -> None:
    """A wheel is a zip archive of what is imported."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)  # noqa: S202 - wheels that `prepare` has chosen


def unpack_packs(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packs:
        packs.extractall(folder, filter="data")


def read_packs(setting: Setting, *, count: int, split: str = "train") -> Columns:
    """The first packs of a split, the columns `[count, length]` each."""
    import pyarrow as pa

    from fintune_kit.pack.tree import COLUMNS

    (file,) = sorted((setting.packed / split).glob("data-*.arrow"))
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all().slice(0, count)
    columns = {}
    for name in COLUMNS:
        flat = table[name].combine_chunks().flatten().to_numpy()
        columns[name] = flat.reshape(len(table), -1)
    return columns


def make_random_base(setting: Setting, *, dtype: str) -> Path:
    """Random weights of the named sizes, made once a dtype."""
    from dataclasses import replace

    import train_world

    setup = train_world.rehearsal_setup() if setting.rehearse else replace(train_world.cpu_setup(), dtype=dtype)
    configs = None if setting.bundle is None else setting.bundle / "configs" / setting.config
    mark = setting.random_base / f"{setting.config}-{dtype}"
    if not mark.is_file():
        setting.random_base.mkdir(exist_ok=True)
        for old in setting.random_base.glob(f"{setting.config}-*"):
            old.unlink()
        if setting.bundle is not None:
            shutil.copytree(setting.bundle / "tokenizer", setting.random_base, dirs_exist_ok=True)
        train_world.make_base(setup, configs, setting.random_base)
        mark.touch()
    return setting.random_base


def quantization() -> str:
    """NF4 where bitsandbytes is there; else the base stays in the compute dtype, and results say so."""
    return "nf4" if importlib.util.find_spec("bitsandbytes") else "none"


def need(*packages: str) -> None:
    """Skips the step where a package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise Skipped(f"{', '.join(missing)} is not installed here; carry its wheel in the bundle")


def peak_gib() -> float | None:
    """Most memory that PyTorch has held on the card."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 3) if torch.cuda.is_available() else None
