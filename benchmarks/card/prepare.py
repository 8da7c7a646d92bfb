"""Makes the bundle that travels to a card: wheels, packs, examples, sizes of models, questions. Under 64 MiB.

    python -m benchmarks.card.prepare --data ../shared/data --bundle build/card

Of bitsandbytes only the library for the card's CUDA is kept, 4 of 129 MB. The wheels are for Python 3.12 on x86-64.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from shutil import copyfile, copytree

from benchmarks.card.world import BENCHMARKS

WHEELS = (
    "bitsandbytes==0.50.2",
    "trl==1.16.0",
    "datasets==5.2.0",
    "dill==0.4.1",
    "multiprocess==0.70.19",
    "transformers==5.23.0",
    "cyclopts==5.5.2",
    "docstring-parser==0.18.0",
    "tomlkit==0.15.2",
)
"""The packages that a machine with torch, transformers 5.17, peft, accelerate and pyarrow lacks; 5.17 is too old."""
LIMIT_MIB = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card.prepare", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the stand-in data, tokenizer and configs")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cuda", default="130", help="of the card's PyTorch, as 128 for 12.8")
    given = parser.parse_args()
    given.bundle.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(BENCHMARKS)]
    fetch_wheels(given.bundle / "wheels", cuda=given.cuda)
    write_packs(given.data, given.bundle)
    for name, kept in (("qwen-configs", "configs"), ("qwen2.5-tokenizer", "tokenizer"), ("eval", "eval")):
        copytree(given.data / name, given.bundle / kept, dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in given.bundle.rglob("*") if path.is_file()) / 2**20
    print(f"{given.bundle}: {size:.1f} MiB")
    if size > LIMIT_MIB:
        sys.exit(f"the bundle has {size:.1f} MiB, expected {LIMIT_MIB} at most: leave a wheel out")


def fetch_wheels(folder: Path, *, cuda: str) -> None:
    """Downloads what is missing there, and leaves out the libraries for other CUDA versions."""
    folder.mkdir(exist_ok=True)
    tags = ["manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014"]
    platforms = [flag for tag in tags for flag in ("--platform", f"{tag}_x86_64")]
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    fetch += ["--python-version", "3.12", "--implementation", "cp", *platforms, "--dest", str(folder)]
    subprocess.run([*fetch, *WHEELS], check=True)
    for wheel in folder.glob("bitsandbytes-*.whl"):
        keep_library(wheel, cuda=cuda)


def keep_library(wheel: Path, *, cuda: str) -> None:
    """The wheel with its CPU library and the one for a CUDA version."""
    wanted = ("_cpu.so", f"_cuda{cuda}.so")
    smaller = wheel.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as kept:
        names = [name for name in whole.namelist() if not name.endswith((".so", ".dll")) or name.endswith(wanted)]
        assert any(name.endswith(wanted[1]) for name in names), f"{wheel.name} has no library for CUDA {cuda}"
        for name in names:
            kept.writestr(name, whole.read(name))
    smaller.rename(wheel)


def write_packs(data: Path, bundle: Path) -> None:
    """Packs of the real length by the real tokenizer, and the same examples for the peer."""
    import train_world

    setup = train_world.card_setup("Qwen2.5-3B-Instruct", "t4")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        train_world.prepare(setup, data, work)
        copyfile(work / "examples.parquet", bundle / "examples.parquet")
        with tarfile.open(bundle / "packed.tar.xz", "w:xz") as archive:
            archive.add(work / "packed", arcname=".")


if __name__ == "__main__":
    main()
