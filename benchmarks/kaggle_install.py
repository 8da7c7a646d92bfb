"""How long the first cell of a notebook installs: the packages of ours that an image lacks, into an empty folder.

    python benchmarks/kaggle_install.py

pip downloads and unpacks them, without a cache and without their dependencies, most of which an image has. The packages
that stay the image's own (`IMAGES_OWN`) are left out. So the time is that of pip, of the machine and of its network.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from fintune_kit.kaggle.requirements import IMAGES_OWN, requirements_of
from fintune_kit.kaggle.session.output import folder_bytes

if __name__ == "__main__":
    checkout = Path(__file__).parents[1]
    wanted = [line for line in requirements_of(checkout) if Requirement(line).name not in IMAGES_OWN]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-cache-dir", "--no-deps", "--target"]
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([*pip, *options, folder, *wanted], check=True)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = folder_bytes(Path(folder)) / 1e6
    print(f"{len(wanted)} packages, {size:.0f} MB on disk")
    print(f"{seconds:.0f} s, of which {used.ru_utime + used.ru_stime:.0f} s are processor time of pip")
    print(" ".join(wanted))
