"""Tree scoring beside lm-evaluation-harness: the same model, prompts, options and rows, one machine, one run.

    python benchmarks/evaluate.py --data DIR --tokenizer DIR --peer PEER_PYTHON [--out results/evaluate-cpu.json]

`--data` holds fpb.jsonl, tfns.jsonl, tfns_topic.jsonl and fiqa_sa_fingpt.jsonl; `--peer` is the interpreter of an
environment with `lm-eval[hf]`. The model is a random Qwen2 with the real vocabulary, float32. We score every row. The
peer, at the best of its batch sizes, scores evenly spread rows of each set: on a CPU all of them would take it hours.
Neither's time includes loading the model; both include tokenizing.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.evaluate.scoring import Compute, score_choices
from fintune_kit.evaluate.sets.named import load_task
from fintune_kit.evaluate.tasks import Task, evenly_chosen
from fintune_kit.train.model import load_base
from fintune_kit.workspace import versions, write_json

SETS = {"fpb": "fpb", "tfns": "tfns", "fiqa_sa": "fiqa_sa_fingpt", "tfns_topic": "tfns_topic"}
PEER_ROWS = {"fpb": 60, "tfns": 60, "fiqa_sa": 60, "tfns_topic": 12}
BATCH_SIZES = (1, 4, 16)
PEER = Path(__file__).with_name("evaluate_peer.py")


def main() -> None:
    """Runs both and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("results/evaluate-cpu.json"))
    arguments = parser.parse_args()
    tasks = {name: load_task(f"{name}={arguments.data / file}.jsonl", train=[]) for name, file in SETS.items()}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        make_model(model, arguments)
        chosen = {
            name: list(evenly_chosen(len(task.questions), max_chosen=PEER_ROWS[name])) for name, task in tasks.items()
        }
        ours = score_all(model, tasks, length=arguments.length)
        peer = run_peer(arguments.peer, model, tasks, chosen, Path(folder))
    record = compare(tasks, chosen, ours, peer)
    record |= {
        "model": f"random Qwen2, hidden {arguments.hidden}, {arguments.layers} layers, vocabulary 151,936, float32",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "pack_length": arguments.length,
        "versions": versions() | {"lm-eval": peer["version"]},
    }
    write_json(arguments.out, record)
    print(json.dumps({name: value for name, value in record.items() if name != "versions"}, indent=2))


def make_model(folder: Path, arguments: argparse.Namespace) -> None:
    """A random model with the real tokenizer, saved as a user's would be."""
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 4,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden // 32,
        num_key_value_heads=max(1, arguments.hidden // 64),
        max_position_embeddings=4096,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(arguments.tokenizer).save_pretrained(folder)


def score_all(folder: Path, tasks: dict[str, Task], *, length: int) -> dict[str, dict]:
    """Our scores of every row, and the seconds that each set took."""
    encoder = ChatEncoder.load(folder)
    model = load_base(folder, dtype="float32", quantization="none", device="cpu")
    compute = Compute(device="cpu", length=length)
    score_choices(model, tasks["fpb"].questions[:20], encoder=encoder, compute=compute)  # the first pass allocates
    found = {}
    for name, task in tasks.items():
        started = time.perf_counter()
        scores = score_choices(model, task.questions, encoder=encoder, compute=compute, label=name)
        found[name] = {"seconds": time.perf_counter() - started, "scores": [s.log_probability for s in scores]}
    return found


def run_peer(python: Path, model: Path, tasks: dict[str, Task], chosen: dict[str, list[int]], folder: Path) -> dict:
    """The peer on the chosen rows, in a process of its own; its task files are written for it."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    for name, rows in chosen.items():
        lines = []
        for row in rows:
            question = tasks[name].questions[row]
            prompt = tokenizer.apply_chat_template(list(question.messages), tokenize=False, add_generation_prompt=True)
            choices = [f"{option}<|im_end|>" for option in question.options]
            gold = question.options.index(question.target)
            lines.append(json.dumps({"prompt": prompt, "choices": choices, "gold": gold}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        task = {
            "task": f"kit_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc"}],
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML
    out = folder / "peer.json"
    command = [python, PEER, model, folder, out, ",".join(map(str, BATCH_SIZES)), str(torch.get_num_threads()), *chosen]
    subprocess.run(list(map(str, command)), check=True)
    return json.loads(out.read_text(encoding="utf-8"))


def compare(tasks: dict[str, Task], chosen: dict[str, list[int]], ours: dict[str, dict], peer: dict) -> dict:
    """Rows a second of both, and whether they chose the same option in each row."""
    record: dict = {"peer_batch_size": peer["batch_size"], "peer_batch_sizes": peer["tried"], "sets": {}}
    for name, task in tasks.items():
        theirs = peer["sets"][name]
        mine = [ours[name]["scores"][row] for row in chosen[name]]
        same = [int(np.argmax(a)) == int(np.argmax(b)) for a, b in zip(mine, theirs["scores"], strict=True)]
        gaps = [  # the harness moves the prompt's last line break into the answer: a constant a row
            np.abs((a - a.max()) - (np.array(b) - np.max(b))).max() for a, b in zip(mine, theirs["scores"], strict=True)
        ]
        rate, peer_rate = len(task.questions) / ours[name]["seconds"], len(same) / theirs["seconds"]
        record["sets"][name] = {
            "rows": len(task.questions),
            "seconds": round(ours[name]["seconds"], 2),
            "rows_per_second": round(rate, 2),
            "peer_rows": len(same),
            "peer_seconds": round(theirs["seconds"], 2),
            "peer_rows_per_second": round(peer_rate, 3),
            "times_faster": round(rate / peer_rate, 1),
            "same_choice": f"{sum(same)} of {len(same)}",
            "largest_score_difference": float(max(gaps)),
        }
    rows = sum(s["rows"] for s in record["sets"].values())
    seconds = sum(s["seconds"] for s in record["sets"].values())
    peer_seconds = sum(s["rows"] / s["peer_rows_per_second"] for s in record["sets"].values())
    record["all_rows"] = {
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds, 2),
        "peer_seconds_at_its_measured_rates": round(peer_seconds, 1),
        "times_faster": round(peer_seconds / seconds, 1),
    }
    return record


if __name__ == "__main__":
    main()
