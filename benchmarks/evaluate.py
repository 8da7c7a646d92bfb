"""Tree scoring beside lm-evaluation-harness: the same real model, prompts, options and questions, taking turns.

    python benchmarks/evaluate.py --model DIR --data DIR --peer PEER_PYTHON [--questions 16] [--out results/...json]
    python benchmarks/evaluate.py ... --sets fpb --questions 8 --shots 0 3 5 --out results/evaluate-shots-cpu.json

`--model` is a folder with a real Qwen and its tokenizer; `--data` holds fpb.jsonl, tfns.jsonl, fiqa_sa_fingpt.jsonl and
tfns_topic.jsonl; `--peer` is the interpreter of an environment with `lm-eval[hf]`. Both compute in float32 on the same
number of threads. Times are seconds of work of the process, so other work on the machine does not count. Neither
contains loading the model; both contain tokenizing.

Two comparisons:

    whole answers   every option with its closing token, as this kit scores
    first tokens    options that are one token each: the case where the harness computes a prompt only once

With `--shots`, the same questions are asked after so many solved examples each. Both sides read the same examples.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.evaluate.scoring import Compute, encode_questions, score_choices
from fintune_kit.evaluate.sets.named import load_task
from fintune_kit.evaluate.sets.shots import with_shots
from fintune_kit.evaluate.tasks import Question, Task, evenly_chosen
from fintune_kit.evaluate.trees import build_packs
from fintune_kit.train.model import load_base
from fintune_kit.workspace import versions, write_json

SETS = {"fpb": "fpb", "tfns": "tfns", "fiqa_sa": "fiqa_sa_fingpt", "tfns_topic": "tfns_topic"}
MANY_OPTIONS = "tfns_topic"
"""Twenty options: the harness computes each prompt twenty times, so it gets an eighth of the questions."""
FIRST_TOKENS = "fpb"
BATCH_SIZES = (1, 8)
TRIAL = "trial_0"
"""Two questions that find the harness's best batch size."""
SHOTS = 5
PEER = Path(__file__).with_name("evaluate_peer.py")


class Peer:
    """The harness in a process of its own, asked line by line."""

    def __init__(self, python: Path, model: Path, folder: Path, threads: int) -> None:
        command = [python, PEER, model, folder, threads]
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.version = self._read()["version"]

    def ask(self, task: str, *, batch_size: int) -> dict:
        """Seconds and scores of a task."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{task} {batch_size}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@@"):
                return json.loads(line[2:])
        raise RuntimeError("the peer ended without an answer")


def main() -> None:
    """Runs both in turn and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS), help="of fpb, tfns, fiqa_sa, tfns_topic")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shots", type=int, nargs="+", default=[0], help="solved examples before each question")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/evaluate-cpu.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = questions_of(arguments)
    encoder = ChatEncoder.load(arguments.model)
    model = load_base(arguments.model, dtype="float32", quantization="none", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        write_tasks(Path(name), rounds, AutoTokenizer.from_pretrained(arguments.model))
        peer = Peer(arguments.peer, arguments.model, Path(name), arguments.threads)
        size = min(BATCH_SIZES, key=lambda size: peer.ask(TRIAL, batch_size=size)["seconds"])
        score_choices(model, rounds.pop(TRIAL), encoder=encoder, compute=Compute(device="cpu"))  # allocates
        turns = {}
        for task, questions in rounds.items():
            turns[task] = take_turn(model, encoder, peer, task, questions, size)
            print(task, json.dumps(turns[task]), flush=True)
        peer.close()
    by_set: dict[str, list[dict]] = {}
    for task, turn in turns.items():
        by_set.setdefault(task.rpartition("_")[0], []).append(turn)
    record = {
        "model": "a real 0.5B, float32",
        "machine": f"{platform.machine()}, {arguments.threads} thread(s)",
        "peer_batch_size": size,
        "sets": {name: summary(found) for name, found in by_set.items()},
        "shots": shots(arguments, encoder),
        "versions": versions() | {"lm-eval": peer.version},
    }
    write_json(arguments.out, record)
    print(json.dumps({name: value for name, value in record.items() if name != "versions"}, indent=2))


def questions_of(arguments: argparse.Namespace) -> dict[str, list[Question]]:
    """Questions by task `<set>_<round>`, evenly spread over each set; with shots `<set>-<shots>-shot_<round>`."""
    tasks = {name: task for name, task in tasks_of(arguments.data).items() if name in arguments.sets.split(",")}
    rounds = {TRIAL: list(next(iter(tasks.values())).questions[:2])}
    for name, task in tasks.items():
        count = max(arguments.rounds, arguments.questions // 8 if name == MANY_OPTIONS else arguments.questions)
        by_shots = same_questions(task, shots=arguments.shots, count=count)
        for index in range(arguments.rounds):
            for shots, chosen in by_shots.items():
                title = f"{name}-{shots}-shot" if shots else name
                rounds[f"{title}_{index}"] = chosen[index :: arguments.rounds]
                if name == FIRST_TOKENS and not shots:
                    rounds[f"{name}first_{index}"] = chosen[index :: arguments.rounds]
    return rounds


def same_questions(task: Task, *, shots: list[int], count: int) -> dict[int, list[Question]]:
    """The same questions for each number of shots. Those that serve as an example are asked nowhere."""
    asked = {number: with_shots(task, shots=number, seed=0).questions for number in shots}
    left = set.intersection(*({question.messages[-1]["content"] for question in some} for some in asked.values()))
    found = {}
    for number, some in asked.items():
        kept = [question for question in some if question.messages[-1]["content"] in left]
        found[number] = [kept[index] for index in evenly_chosen(len(kept), max_chosen=count)]
    return found


def tasks_of(data: Path) -> dict[str, Task]:
    """The four sets."""
    return {name: load_task(f"{name}={data / file}.jsonl", train=[]) for name, file in SETS.items()}


def write_tasks(folder: Path, rounds: dict[str, list[Question]], tokenizer: object) -> None:
    """A task file and its rows for the harness; options close with `<|im_end|>`, but not for first tokens alone."""
    for task, questions in rounds.items():
        end = "" if "first_" in task else "<|im_end|>"
        lines = []
        for question in questions:
            prompt = tokenizer.apply_chat_template(list(question.messages), tokenize=False, add_generation_prompt=True)
            choices = [f"{option}{end}" for option in question.options]
            gold = question.options.index(question.target)
            lines.append(json.dumps({"prompt": prompt, "choices": choices, "gold": gold}))
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = {
            "task": task,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{task}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc"}],
        }
        (folder / f"{task}.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML


def take_turn(
    model: object, encoder: ChatEncoder, peer: Peer, task: str, questions: list[Question], batch_size: int
) -> dict:
    """Ours, then theirs, on the same questions."""
    started = time.process_time()
    scores = score_choices(model, questions, encoder=encoder, compute=Compute(device="cpu"), label=task)
    ours = time.process_time() - started
    theirs = peer.ask(task, batch_size=batch_size)
    gaps, same = [], 0
    for a, b in zip((s.log_probability for s in scores), map(np.array, theirs["scores"]), strict=True):
        same += int(a.argmax() == b.argmax())
        gaps.append(float(np.abs((a - a.max()) - (b - b.max())).max()))  # the harness adds a constant to each question
    return {"n": len(questions), "ours": ours, "theirs": theirs["seconds"], "same": same, "gap": max(gaps)}


def summary(turns: list[dict]) -> dict:
    """Questions a second of both over all rounds, and whether they chose the same options."""
    n, ours, theirs = (sum(turn[key] for turn in turns) for key in ("n", "ours", "theirs"))
    return {
        "questions": n,
        "ours_per_second": round(n / ours, 3),
        "peer_per_second": round(n / theirs, 3),
        "times_faster": round(theirs / ours, 2),
        "same_choice": f"{sum(turn['same'] for turn in turns)} of {n}",
        "largest_score_difference": max(turn["gap"] for turn in turns),
    }


def shots(arguments: argparse.Namespace, encoder: ChatEncoder) -> dict:
    """Positions that a question costs without and with shots, shared in packs and written whole for each option."""
    task = tasks_of(arguments.data)["tfns"]
    plain = replace(task, questions=task.questions[:400])
    found = {}
    for name, asked in (("0-shot", plain), (f"{SHOTS}-shot", with_shots(plain, shots=SHOTS, seed=0))):
        prompts, tries = encode_questions(asked.questions, encoder=encoder)
        shared = sum(len(pack) for pack in build_packs(prompts, tries, length=2048))
        whole = sum(len(p) * len(t.on_path) + len(t.inputs) for p, t in zip(prompts, tries, strict=True))
        n = len(asked.questions)
        found[name] = {"questions": n, "shared": round(shared / n, 1), "written_whole": round(whole / n, 1)}
    return found


if __name__ == "__main__":
    main()
