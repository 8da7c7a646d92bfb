"""lm-evaluation-harness on the rows that `evaluate.py` wrote for it; runs in an environment of its own.

PEER_PYTHON evaluate_peer.py MODEL FOLDER OUT BATCH_SIZES THREADS SET [SET ...]
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def main() -> None:
    """The best batch size on the first set, then each set by itself."""
    model, folder, out, sizes, threads, *names = sys.argv[1:]
    torch.set_num_threads(int(threads))
    manager = TaskManager(include_path=folder, include_defaults=False)
    models = {size: HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=size) for size in sizes.split(",")}
    tried = {size: seconds_of(lm, "kit_fpb", manager, limit=16)[0] for size, lm in models.items()}
    best = min(tried, key=lambda size: tried[size])
    sets = {}
    for name in names:
        seconds, samples = seconds_of(models[best], f"kit_{name}", manager)
        samples.sort(key=lambda sample: sample["doc_id"])
        sets[name] = {"seconds": seconds, "scores": [[r[0] for r in s["filtered_resps"]] for s in samples]}
    record = {"batch_size": int(best), "tried": tried, "sets": sets, "version": importlib.metadata.version("lm-eval")}
    Path(out).write_text(json.dumps(record), encoding="utf-8")


def seconds_of(lm: HFLM, task: str, manager: TaskManager, *, limit: int | None = None) -> tuple[float, list]:
    """Seconds of one evaluation, and its rows."""
    started = time.perf_counter()
    found = simple_evaluate(
        model=lm, tasks=[task], task_manager=manager, bootstrap_iters=0, log_samples=True, limit=limit
    )
    return time.perf_counter() - started, found["samples"][task]


if __name__ == "__main__":
    main()
