"""Runs the steps one after the other, each in a process of its own with a limit; what one leaves behind stays.

python -m benchmarks.card --bundle build/card --out OUT [--only kernels exactness]
"""

import argparse
import subprocess
import sys

from benchmarks.card.world import add_arguments, write

STEPS = (
    "environment",
    "kernels",
    "exactness",
    "ours_as_t4",
    "kill_and_resume",
    "ours_bfloat16",
    "stock",
    "unsloth",
    "curves",
    "chain",
)
LIMIT_SECONDS = 480


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="these steps")
    given = parser.parse_args()
    flags = ["--out", str(given.out), "--work", str(given.work), "--config", given.config]
    flags += ["--bundle", str(given.bundle)] if given.bundle else []
    flags += ["--base", str(given.base)] if given.base else []
    flags += ["--rehearse"] if given.rehearse else []
    failed = 0
    for step in given.only:
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.card.{step}", *flags], timeout=LIMIT_SECONDS, check=False
            )
            failed += done.returncode != 0
        except subprocess.TimeoutExpired:
            failed += 1
            write(
                given.out, step, {"step": step, "seconds": LIMIT_SECONDS}, line="stopped: it took longer than its limit"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
