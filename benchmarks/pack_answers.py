"""The gain of writing shared answers once: positions, packs and seconds beside TRL's bfd and beside shared prompts.

    python benchmarks/pack_answers.py --data ../shared/data --out results/pack-answers

On the two stand-ins, and on reports and conversations that `growing.py` writes. All three sides get the same tokens in
memory and take turns; the fastest repetition counts. Writing the columns is timed for ours, not for TRL.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from growing import conversations, reports
from pack import MAX_LENGTH, ROLES, read_rows
from trl import pack_dataset

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Examples
from fintune_kit.pack.tree import arrange, write_columns

COUNT = 1000
SIDES = ("TRL bfd", "shared prompts", "shared answers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the stand-in data and the tokenizer")
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each timing; the fastest counts")
    arguments = parser.parse_args()
    encoder = ChatEncoder.load(arguments.data / "qwen2.5-tokenizer")
    found: dict[str, Any] = {"load_average_at_start": os.getloadavg()[0], "cores": len(os.sched_getaffinity(0))}
    for name in ("proxy", "proxy_full", "reports", "conversations"):
        examples = encode(name, encoder=encoder, data=arguments.data)
        found[name] = compare(examples, repeat=arguments.repeat)
    text = as_table(found)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def encode(name: str, *, encoder: ChatEncoder, data: Path) -> Examples:
    """The examples of a set that fit into a pack."""
    made = {"reports": reports, "conversations": conversations}
    if name in made:
        messages = list(made[name](COUNT))
    else:
        rows = read_rows(data / f"sujet_{name}.parquet")
        messages = [[{"role": r, "content": c} for r, c in zip(ROLES, row[1:], strict=True)] for row in rows]
    examples = next(encoder.encode_batches([messages]))
    return examples.take(np.flatnonzero(examples.lengths() <= MAX_LENGTH))


def compare(examples: Examples, *, repeat: int) -> dict[str, Any]:
    """Each side on the same examples."""
    found: dict[str, Any] = {"examples": len(examples), "tokens": len(examples.tokens)}
    for _ in range(repeat):
        for side in SIDES:
            if side == "TRL bfd":
                result = trl_packs(examples)
            else:
                result = tree_packs(examples, share_answers=side == "shared answers")
            if side not in found or result["seconds"] < found[side]["seconds"]:
                found[side] = result
    return found


def tree_packs(examples: Examples, *, share_answers: bool) -> dict[str, Any]:
    begin = time.perf_counter()
    made = arrange(examples, max_length=MAX_LENGTH, share_answers=share_answers)
    for first in range(0, len(made), 256):
        last = min(first + 256, len(made))
        write_columns(examples, made, first=first, last=last, max_length=MAX_LENGTH, pad_id=0)
    seconds = time.perf_counter() - begin
    positions = int((examples.lengths()[made.members] - made.shared).sum())
    return {"seconds": seconds, "positions": positions, "packs": len(made), "min_packs": made.min_packs}


def trl_packs(examples: Examples) -> dict[str, Any]:
    labels = np.where(examples.supervised, examples.tokens, -100).astype(np.int32)
    offsets = pa.array(examples.offsets.astype(np.int32))
    columns = {"input_ids": examples.tokens, "labels": labels}
    table = pa.table({key: pa.ListArray.from_arrays(offsets, pa.array(value)) for key, value in columns.items()})
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    begin = time.perf_counter()
    packed = pack_dataset(rows, MAX_LENGTH, "bfd")
    return {"seconds": time.perf_counter() - begin, "positions": len(examples.tokens), "packs": len(packed)}


def as_table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['cores']} cores, load average {found['load_average_at_start']:.1f} at the start (the machine was "
        f"shared); {COUNT:,} reports of ten questions, {COUNT:,} conversations of eight turns; fill is positions over "
        f"packs x {MAX_LENGTH:,}; seconds of the fastest repetition.",
        "",
        "| set | packer | positions | fewer than bfd | packs | proven least | fill | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in found.items():
        if not isinstance(sides, dict):
            continue
        for side in SIDES:
            one = sides[side]
            fewer, fill = sides["tokens"] / one["positions"], one["positions"] / (one["packs"] * MAX_LENGTH)
            least = f"{one['min_packs']:,}" if "min_packs" in one else ""
            lines.append(
                f"| {name} ({sides['examples']:,} examples) | {side} | {one['positions']:,} | {fewer:.2f} times "
                f"| {one['packs']:,} | {least} | {fill:.4f} | {one['seconds']:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
