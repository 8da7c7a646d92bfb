"""Does it make a real model better? One training run at a fixed number of pack positions, and its scores.

    python benchmarks/quality.py run mixed-1 --base QWEN --conversations DIR --sets DIR --out results/quality
    python benchmarks/quality.py report results/quality

`run` takes conversations of at most `--max-tokens` tokens, as many as fill `--positions` positions in the layout:
`mixed` (prefix trees, each pack a mix), `dense` (prefix trees, as few packs as possible) or `ordinary` (no shared
prefixes, each pack a mix). It trains with the library's own stage 3 and asks the questions of the sets. `--layout none`
asks the base alone. `report` prints all runs as a table.

Both arms of a comparison get the same positions, so the same time; trees hold more examples in them.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fintune_kit.workspace import versions, write_text

SETS = ("fpb", "tfns", "fiqa_sa_fingpt", "tfns_topic")
LAYOUTS = {
    "mixed": {"share_prefixes": True, "mix": True},
    "dense": {"share_prefixes": True, "mix": False},
    "ordinary": {"share_prefixes": False, "mix": True},
}
VALIDATION_ROWS = 160
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    run = verbs.add_parser("run", help="one training run and its scores")
    run.add_argument("name")
    run.add_argument("--layout", choices=[*LAYOUTS, "none"], default="mixed")
    run.add_argument("--base", required=True, help="folder of a real Qwen")
    run.add_argument("--conversations", type=Path, required=True, help="of stage 1, with the sets kept out")
    run.add_argument("--sets", type=Path, required=True, help="folder of the evaluation sets")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--positions", type=int, default=100_000)
    run.add_argument("--pack-length", type=int, default=1024)
    run.add_argument("--max-tokens", type=int, default=256)
    run.add_argument("--examples-per-step", type=int, default=16)
    run.add_argument("--learning-rate", type=float, default=5e-4)
    run.add_argument("--rank", type=int, default=64)
    run.add_argument("--dropout", type=float, default=0.0)
    run.add_argument("--quantization", choices=("none", "nf4"), default="none")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--questions", type=int, default=300, help="of each set, at most")
    run.add_argument("--keep", type=Path, help="a new folder for the packs and the adapter (default: they are deleted)")
    report = verbs.add_parser("report", help="all runs as a table")
    report.add_argument("runs", type=Path)
    given = parser.parse_args()
    if given.verb == "run":
        given.out.mkdir(parents=True, exist_ok=True)
        print(line_of(measure(given)))
    else:
        print_report(given.runs)


def measure(given: argparse.Namespace) -> Result:
    """Trains and asks; the record, which holds all that the report needs, is written anew after each set."""
    unsaid = ("out", "verb", "keep")
    values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items() if k not in unsaid}
    values |= {name: Path(values[name]).name for name in ("base", "conversations", "sets")}  # no path of this machine
    record: Result = {**values, "versions": versions(), "threads": os.environ.get("OMP_NUM_THREADS"), "scores": {}}
    with tempfile.TemporaryDirectory() as temporary:
        work = given.keep or Path(temporary)
        adapter: Path | None = None
        train_rows: list[Any] = []
        if given.layout != "none":
            adapter, trained, train_rows = train(given, work)
            record |= trained
        for name, scores in ask(given, adapter=adapter, train=train_rows):
            record["scores"][name] = scores
            write_text(given.out / f"{given.name}.json", json.dumps(record, indent=1) + "\n")
    return record


def train(given: argparse.Namespace, work: Path) -> tuple[Path, Result, list[Any]]:
    """Packs as many conversations as fill the positions, and trains on them with stage 3."""
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.pack.stage import pack_conversations
    from fintune_kit.recipes import load_recipe
    from fintune_kit.train.stage import train as stage_3
    from fintune_kit.workspace import Workspace, write_manifest

    encoder = ChatEncoder.load(given.base)
    rows = chosen_rows(given, encoder)
    folder = work / "conversations"
    folder.mkdir(parents=True)
    write_splits(folder, rows, validation_rows(given, encoder))
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    manifest = pack_conversations(
        folder,
        encoder=encoder,
        out=work / "packed",
        max_length=given.pack_length,
        seed=given.seed,
        **LAYOUTS[given.layout],
    )
    recipe = load_recipe("p100").with_values(
        base=given.base,
        seed=given.seed,
        pack={"max_length": given.pack_length, **LAYOUTS[given.layout]},
        lora={"rank": given.rank, "alpha": 2 * given.rank, "dropout": given.dropout},
        train={
            "learning_rate": given.learning_rate,
            "examples_per_step": given.examples_per_step,
            "quantization": given.quantization,
            "optimizer": "adamw_torch",
            "keep": "last",
        },
    )
    started = time.monotonic()
    outcome = stage_3(recipe, Workspace(work), packed=work / "packed", base=given.base, minutes_between_checkpoints=1e9)
    log = [{k: v for k, v in record.items() if "second" not in k} for record in outcome.log]
    counts = manifest["counts"]["train"]
    record = {
        "counts": counts,
        "positions_computed": counts["packs"] * given.pack_length,
        "optimizer_steps": outcome.steps_done,
        "validation_loss": outcome.validation_loss,
        "log": log,
        "train_seconds": round(time.monotonic() - started, 1),
    }
    return work / "adapter", record, rows


def chosen_rows(given: argparse.Namespace, encoder: Any) -> list[Any]:
    """The first rows of a stratified order that fill the wanted number of packs in this layout, found by halving."""
    from fintune_kit.chat.examples import Examples
    from fintune_kit.conversations import closed_instructions, read_conversations
    from fintune_kit.pack.mix import spread
    from fintune_kit.pack.tree import arrange

    rows = read_conversations(given.conversations, "train")
    closed = closed_instructions(rows)
    lengths = encoder.lengths([row.messages for row in rows])
    rows = [row for row, length in zip(rows, lengths, strict=True) if length <= given.max_tokens]
    strata = [(r.task_type, r.answer.lower() if (r.task_type, r.system) in closed else "") for r in rows]
    order = spread(strata, seed=given.seed)
    wanted = round(given.positions / given.pack_length)
    layout = LAYOUTS[given.layout]

    def packs(count: int) -> int:
        some = order[:count]
        examples = Examples.of(encoder.encode([rows[index].messages for index in some]))
        arrangement = arrange(
            examples, max_length=given.pack_length, strata=[strata[index] for index in some], seed=given.seed, **layout
        )
        return len(arrangement)

    low, high = 1, min(len(order), 40 * wanted)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if packs(middle) <= wanted else (low, middle)
    return [rows[index] for index in order[:low]]


def validation_rows(given: argparse.Namespace, encoder: Any) -> list[Any]:
    """The same short validation rows for every run."""
    from fintune_kit.conversations import read_conversations

    rows = read_conversations(given.conversations, "validation")
    lengths = encoder.lengths([row.messages for row in rows])
    short = [row for row, length in zip(rows, lengths, strict=True) if length <= given.max_tokens]
    return [short[index] for index in sorted(np.random.default_rng(3).permutation(len(short))[:VALIDATION_ROWS])]


def write_splits(folder: Path, train_rows: list[Any], held_out: list[Any]) -> None:
    from fintune_kit.conversations import write_conversations

    write_conversations(folder / "train.parquet", train_rows)
    write_conversations(folder / "validation.parquet", held_out)


def ask(given: argparse.Namespace, *, adapter: Path | None, train: list[Any]) -> Iterator[tuple[str, Result]]:
    """Name and scores of every set and of the general questions, by likelihood.

    The floors beside them are learned from the same training rows.
    """
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.evaluate.floors import floors
    from fintune_kit.evaluate.metrics import classification
    from fintune_kit.evaluate.scoring import Compute, score_choices
    from fintune_kit.evaluate.sets.general import general_tasks
    from fintune_kit.evaluate.sets.named import load_task
    from fintune_kit.train.model import load_adapter, load_base

    encoder = ChatEncoder.load(given.base)
    model: Any = load_base(given.base, dtype="float32", quantization=given.quantization, device="cpu", head_chunk=128)
    if adapter is not None:
        model = load_adapter(model, adapter)
    compute = Compute(device="cpu", length=512, head_chunk=128)
    tasks = [load_task(str(given.sets / f"{name}.jsonl"), train=train) for name in SETS]
    for task in [*(some_of(task, given.questions) for task in tasks), *general_tasks()]:
        found = score_choices(model, task.questions, encoder=encoder, compute=compute, label=task.title)
        answers = [q.options[int(np.argmax(s.log_probability))] for q, s in zip(task.questions, found, strict=True)]
        targets = [question.target for question in task.questions]
        summary = classification(targets, answers, seed=0)
        yield (
            task.name,
            {
                "n": len(answers),
                **{name: summary[name] for name in ("accuracy", "accuracy_interval", "macro_f1") if name in summary},
                "right": "".join("1" if a == t else "0" for a, t in zip(answers, targets, strict=True)),
                "floors": {k: v["accuracy"] if isinstance(v, dict) else v for k, v in floors(task, seed=0).items()},
            },
        )


def some_of(task: Any, count: int) -> Any:
    """At most `count` questions, drawn with a fixed seed: the same ones for every run."""
    chosen = sorted(np.random.default_rng(7).permutation(len(task.questions))[:count].tolist())
    return replace(task, questions=tuple(task.questions[index] for index in chosen))


def line_of(result: Result) -> str:
    scores = {name: round(100 * task["accuracy"], 1) for name, task in result["scores"].items()}
    return f"{result['name']}: {scores}, validation loss {result.get('validation_loss')}"


def print_report(folder: Path) -> None:
    """A table of all runs."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    print("\n".join(table_of(runs)))


def table_of(runs: list[Result]) -> list[str]:
    sizes = {name: score["n"] for run in runs for name, score in run["scores"].items()}
    lines = [
        "| run | layout | examples a step | learning rate | steps | examples | positions | validation loss | "
        + " | ".join(f"{name} ({n})" for name, n in sizes.items())
        + " |",
        "|---" * (8 + len(sizes)) + "|",
    ]
    for run in runs:
        scores = [run["scores"].get(name) for name in sizes]
        shown = [f"{100 * score['accuracy']:.1f}" if score else "not asked" for score in scores]
        counts = run.get("counts", {})
        lines.append(
            f"| {run['name']} | {run['layout']} | {run['examples_per_step']} | {run['learning_rate']:g} "
            f"| {run.get('optimizer_steps', 0)} | {counts.get('examples', 0):,} | {run.get('positions_computed', 0):,} "
            f"| {run.get('validation_loss') or float('nan'):.3f} | {' | '.join(shown)} |"
        )
    return lines


if __name__ == "__main__":
    main()
