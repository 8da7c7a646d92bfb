"""How dense and how fast packing is, beside TRL's `pack_dataset`, in one run on one machine.

    python benchmarks/pack.py --data ../shared/data --out results/pack-2-cores

Every measurement is a process of its own, so that peak memory is its own; imports and loading the tokenizer are not
timed, for either side. TRL runs its own preparation (`SFTTrainer._prepare_dataset`, with its training template and
assistant mask) on a stand-in for the trainer. `benchmarks/NOTES.md` describes the rows, and the differences.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAX_LENGTH = 2048
COPIES = {"proxy": 33_456, "proxy_full": 83_836, "100k": 100_000, "177k": 177_597}
ROLES = ("system", "user", "assistant")
VOWELS = str.maketrans("aeiouAEIOU", "eiouaEIOUA")
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the stand-in data and the tokenizer")
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each timing; the fastest counts")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(arguments.job, data=arguments.data, work=arguments.work)))
        return
    with tempfile.TemporaryDirectory() as work:
        results = measure(arguments.data, Path(work), repeat=arguments.repeat)
    text = as_table(results)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def measure(data: Path, work: Path, *, repeat: int) -> Result:
    """Every job, the two sides in turn, so that a busy machine is busy for both."""
    jobs = [
        *["trl-packs:proxy", "tree:proxy", "mixed:proxy", "trl-packs:proxy_full", "tree:proxy_full"],
        *["trl-packs:100k", "tree:100k", "mixed:100k"],
        *["trl-1:proxy", "whole:proxy", "trl-2:proxy", "whole:proxy", "whole:100k", "whole:177k"],
    ]
    start(data, work, "prepare")
    found: Result = {"machine": machine()}
    for name in jobs * repeat:
        result = start(data, work, name)
        print(f"{name}: {result}", file=sys.stderr)
        if name not in found or result["seconds"] < found[name]["seconds"]:
            found[name] = result
    return found


def start(data: Path, work: Path, job: str) -> Result:
    command = [sys.executable, __file__, "--data", str(data), "--work", str(work), "--job", job]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(work / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Stopwatch:
    """Seconds on the wall and in processors, its finished children's included, since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])

    def read(self) -> Result:
        """Both, to the hundredth of a second that the system counts in."""
        return {
            "seconds": round(time.perf_counter() - self._wall, 3),
            "cpu_seconds": round(sum(os.times()[:4]) - self._cpu, 2),
        }


def run_job(job: str, *, data: Path, work: Path) -> Result:
    kind, _, name = job.partition(":")
    run: dict[str, Callable[..., Result]] = {
        "prepare": prepare,
        "trl-packs": trl_packs,
        "tree": tree,
        "mixed": tree,
        "whole": whole,
        "trl-1": trl_whole,
        "trl-2": trl_whole,
    }
    options: dict[str, Result] = {"mixed": {"mix": True}, "trl-1": {"processes": None}, "trl-2": {"processes": 2}}
    result = run[kind](name, data=data, work=work, **options.get(kind, {}))
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {**result, "peak_mb": round(own / 1024), "peak_of_a_child_mb": round(children / 1024)}


def prepare(_: str, *, data: Path, work: Path) -> Result:
    """Conversations in place of stage 1's: system_prompt, user_prompt and answer as they stand, empty answers dropped.

    Beyond the rows that there are, copies with every vowel moved on by one: no two texts equal, hardly a word known.
    """
    from fintune_kit.conversations import Conversation, write_conversations
    from fintune_kit.workspace import write_manifest

    rows = {name: read_rows(data / f"sujet_{name}.parquet") for name in ("proxy", "proxy_full")}
    full = rows["proxy_full"]
    altered = [[task, system, user.translate(VOWELS), answer.translate(VOWELS)] for task, system, user, answer in full]
    again = [[task, system, user.translate(VOWELS), answer.translate(VOWELS)] for task, system, user, answer in altered]
    for name, count in COPIES.items():
        chosen = rows["proxy"] if name == "proxy" else [*full, *altered, *again][:count]
        conversations = [
            Conversation(
                row_id=f"{name}#{number}",
                messages=[{"role": r, "content": c} for r, c in zip(ROLES, texts, strict=True)],
                task_type=task,
                source=name,
                conversation_id=f"{name}#{number}",
            )
            for number, (task, *texts) in enumerate(chosen)
        ]
        folder = work / name
        folder.mkdir()
        write_conversations(folder / "train.parquet", conversations)
        write_conversations(folder / "validation.parquet", [])
        write_manifest(folder, stage="conversations", inputs={}, counts={})
    return {"seconds": 0.0, "cpu_seconds": 0.0}


def read_rows(path: Path) -> list[list[str]]:
    """Task type, system prompt, question and answer of each row that has an answer."""
    table = pq.read_table(path, columns=["task_type", "system_prompt", "user_prompt", "answer"])
    return [list(row.values()) for row in table.to_pylist() if (row["answer"] or "").strip()]


def whole(name: str, *, data: Path, work: Path) -> Result:
    """Conversations to packs on disk, with the checks and the manifest."""
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.pack.stage import pack_conversations
    from fintune_kit.pack.store import open_packed

    encoder = ChatEncoder.load(data / "qwen2.5-tokenizer")
    import datasets  # noqa: F401 - imports are timed on neither side

    out = work / f"packed-{name}"
    watch = Stopwatch()
    manifest = pack_conversations(work / name, encoder=encoder, out=out, max_length=MAX_LENGTH, seed=0)
    times = watch.read()
    open_packed(out)
    begin = time.perf_counter()
    open_packed(out, fingerprint=encoder.fingerprint)
    return {**times, "open_ms": 1000 * (time.perf_counter() - begin), **manifest["counts"]["train"]}


def tree(name: str, *, data: Path, work: Path, mix: bool = False) -> Result:
    """From tokens in memory: arranging the tree, writing the columns, saving them."""
    import datasets  # noqa: F401

    from fintune_kit.pack.mix import compose
    from fintune_kit.pack.store import write_split
    from fintune_kit.pack.tree import arrange

    encoder, examples, strata = encode(name, data=data, work=work)
    watch = Stopwatch()
    arrangement = arrange(examples, max_length=MAX_LENGTH, strata=strata, mix=mix, seed=0)
    arranged = watch.read()["seconds"]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        write_split(
            Path(folder),
            "train",
            examples=examples,
            arrangement=arrangement,
            composition=compose(arrangement.packs(), strata, names=sorted(set(strata))),
            max_length=MAX_LENGTH,
            pad_id=encoder.pad_id,
            fingerprint=encoder.fingerprint,
        )
    times = watch.read()
    written = int((examples.lengths()[arrangement.members] - arrangement.shared).sum())
    return {
        **times,
        "arrange_seconds": arranged,
        "packs": len(arrangement),
        "min_packs": arrangement.min_packs,
        "big_tree_packs": big_tree_tokens(examples) / MAX_LENGTH,
        "fill": written / (len(arrangement) * MAX_LENGTH),
        "examples": len(examples),
    }


def encode(name: str, *, data: Path, work: Path) -> tuple[Any, Any, list[tuple[str, str]]]:
    """The encoder, the examples of up to `MAX_LENGTH` tokens, and the task type and label of each."""
    import numpy as np

    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.conversations import closed_instructions, read_conversations

    encoder = ChatEncoder.load(data / "qwen2.5-tokenizer")
    conversations = read_conversations(work / name, "train")
    examples = next(encoder.encode_batches([[conversation.messages for conversation in conversations]]))
    fits = np.flatnonzero(examples.lengths() <= MAX_LENGTH)
    kept = [conversations[index] for index in fits]
    closed = closed_instructions(kept)
    strata = [(c.task_type, c.answer if (c.task_type, c.system) in closed else "") for c in kept]
    return encoder, examples.take(fits), strata


def big_tree_tokens(examples: Any) -> int:
    """Tokens of the one prefix tree over all examples."""
    from fintune_kit.pack.prefixes import prefix_order, shareable_lengths, shared_with_previous

    shareable = shareable_lengths(examples)
    shared = shared_with_previous(examples, shareable, prefix_order(examples, shareable))
    return int(examples.lengths().sum() - shared.sum())


def trl_packs(name: str, *, data: Path, work: Path) -> Result:
    """TRL's `pack_dataset` on the same examples, as tokens and labels in memory; saving is not timed."""
    import datasets
    import numpy as np
    from trl import pack_dataset

    _, examples, _ = encode(name, data=data, work=work)
    labels = np.where(examples.supervised, examples.tokens, -100).astype(np.int32)
    offsets = pa.array(examples.offsets.astype(np.int32))
    columns = {"input_ids": examples.tokens, "labels": labels}
    table = pa.table({key: pa.ListArray.from_arrays(offsets, pa.array(value)) for key, value in columns.items()})
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    watch = Stopwatch()
    packed = pack_dataset(rows, MAX_LENGTH, "bfd")
    return {**watch.read(), "packs": len(packed), "fill": len(examples.tokens) / (len(packed) * MAX_LENGTH)}


def trl_whole(name: str, *, data: Path, work: Path, processes: int | None) -> Result:
    """TRL's own path from conversations to packs on disk; it truncates the examples that we refuse."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(data / "qwen2.5-tokenizer")
    template = resources.files("trl").joinpath("chat_templates", "qwen2_5_training.jinja").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        config = SFTConfig(
            output_dir=scratch,
            max_length=MAX_LENGTH,
            packing=True,
            assistant_only_loss=True,
            dataset_num_proc=processes,
            bf16=False,
            use_cpu=True,
            report_to="none",
        )
        trainer: Any = SimpleNamespace(chat_template=template, completion_only_loss=False, _tokenizer=tokenizer)
        watch = Stopwatch()
        rows = datasets.Dataset.from_parquet(str(work / name / "train.parquet"), cache_dir=f"{scratch}/cache")
        rows = rows.select_columns(["messages"])
        packed = SFTTrainer._prepare_dataset(trainer, rows, tokenizer, config, True, None, "train")
        packed.save_to_disk(f"{scratch}/packed")
        return {**watch.read(), "packs": len(packed)}


def machine() -> Result:
    from fintune_kit.workspace import versions

    return {
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average_at_start": os.getloadavg()[0],
        "versions": versions(),
    }


def as_table(found: Result) -> str:
    def packs(name: str) -> str:
        ours = found[f"tree:{name}"]
        share = ours["packs"] / found[f"trl-packs:{name}"]["packs"]
        return (
            f"| packs, {name} ({ours['examples']:,} examples) | {found[f'trl-packs:{name}']['packs']:,} "
            f"| {ours['packs']:,} ({share:.3f}); proven least {ours['min_packs']:,}, one big tree "
            f"{ours['big_tree_packs']:,.0f} |"
        )

    def mixed(name: str) -> str:
        ours = found[f"mixed:{name}"]
        share = ours["packs"] / found[f"trl-packs:{name}"]["packs"]
        return (
            f"| mixed packs, {name} | | {ours['packs']:,} ({share:.3f}), arranged in {ours['arrange_seconds']:.1f} s |"
        )

    def seconds(job: str) -> str:
        return f"{found[job]['seconds']:.1f} s ({found[job]['cpu_seconds']:.1f})"

    def faster(job: str) -> str:
        return f"{found[job]['seconds'] / found['whole:proxy']['seconds']:.1f}"

    host, last = found["machine"], found["whole:177k"]
    rows = [
        *[packs(name) for name in ("proxy", "proxy_full", "100k")],
        *[mixed(name) for name in ("proxy", "100k")],
        f"| fill, proxy | {found['trl-packs:proxy']['fill']:.4f} | {found['tree:proxy']['fill']:.4f} |",
        f"| packing alone, 100k (ours: with writing) | {seconds('trl-packs:100k')} | {seconds('tree:100k')} |",
        f"| conversations to packs on disk, proxy | {seconds('trl-1:proxy')}; num_proc=2: {seconds('trl-2:proxy')} "
        f"| {seconds('whole:proxy')}: {faster('trl-1:proxy')} and {faster('trl-2:proxy')} times faster |",
        f"| the same, 100k | not run | {seconds('whole:100k')} |",
        f"| the same, 177k | not run | {seconds('whole:177k')}, peak memory {last['peak_mb']:,} MB |",
        f"| opening the packs of 177k | not run | {last['open_ms']:.0f} ms |",
    ]
    return "\n".join(
        [
            f"Both sides in one run: {host['cores']} cores, load average {host['load_average_at_start']:.1f} at the "
            "start (the machine was shared); seconds of the fastest repetition, its processor seconds in brackets.",
            "",
            "| | TRL bfd | fintune-kit |",
            "|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
