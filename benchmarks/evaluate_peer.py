"""lm-evaluation-harness on the questions that `evaluate.py` wrote for it; runs in an environment of its own.

    PEER_PYTHON evaluate_peer.py MODEL FOLDER THREADS

Reads `TASK BATCH_SIZE` lines from standard input and answers each with one JSON line: seconds of work and scores. So
both sides can take turns on one machine.
"""

import importlib.metadata
import json
import sys
import time

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def main() -> None:
    """Answers until the input ends."""
    model, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    manager = TaskManager(include_path=folder, include_defaults=False)
    lm = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=1)
    say({"version": importlib.metadata.version("lm-eval")})
    for line in sys.stdin:
        task, size = line.split()
        lm.batch_size_per_gpu = int(size)
        started = time.process_time()
        found = simple_evaluate(model=lm, tasks=[task], task_manager=manager, bootstrap_iters=0, log_samples=True)
        samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
        seconds = time.process_time() - started
        say({"seconds": seconds, "scores": [[float(r[0]) for r in s["filtered_resps"]] for s in samples]})


def say(value: dict) -> None:
    """One line on the real standard output; the harness prints on it too."""
    print(f"\n@@{json.dumps(value)}", flush=True)


if __name__ == "__main__":
    main()
