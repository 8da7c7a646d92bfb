"""How fast statements are generated, and how well the detector of identifiers and names does.

    python benchmarks/transactions.py [--out results/transactions-2-cores]
    python benchmarks/transactions.py --wordings results/privacy-wordings.md

Recall and precision are measured on four sets of made-up lines: `lines` (tests/bank/privacy/privacy_lines.jsonl, the
2,000 that the targets name), `second`, `blind` and `world` (other words and templates; see benchmarks/NOTES.md for
what each showed on first sight), and on lines of the generator itself, which the detector was written with in view.
`--wordings` measures only the lines of tests/bank/privacy/privacy_wordings.jsonl, which were written by hand.
It counts whole lines: one leaks if any of its secrets is left.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from fintune_kit.bank.privacy.anonymise import Anonymiser, anonymous_rows
from fintune_kit.bank.synthetic.generate import generate_statements, synthetic_transactions
from fintune_kit.workspace import versions, write_json, write_text

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))  # the labelled lines live with the tests

from tests.bank.privacy.privacy_lines import (  # noqa: E402
    BLIND,
    LINES,
    SECOND,
    WORLD,
    judged_wordings,
    lines,
    score,
)

ROWS = 100_000
ANONYMISED = 5_000
TARGETS = {"numbers": 0.995, "names": 0.95, "merchants": 0.98}
FIRST_SIGHT = {
    "lines": {"numbers": 0.953, "names": 0.946, "merchants": 0.984},
    "second": {"numbers": 0.996, "names": 0.793, "merchants": 0.913},
    "blind": {"numbers": 0.997, "names": 0.894, "merchants": 0.983},
    "world": {"numbers": 0.911, "names": 0.770, "merchants": 0.755},
}
"""The result of the first run of each set, before anything was changed because of it (NOTES.md)."""
FIRST_WORDINGS = {
    "first": {"leaks": 3, "lost": 4},
    "second": {"leaks": 6, "lost": 0},
    "third": {"leaks": 8, "lost": 1},
    "fourth": {"leaks": 2, "lost": 5},
}
"""Lines of the hand-written wordings that leaked, or lost a merchant, the first time they were run."""
WORDINGS_HEAD = (
    "# Privacy: lines in many wordings, each set measured before anything was mended for it",
    "",
    "Reproduce: `python benchmarks/transactions.py --wordings results/privacy-wordings.md`.",
    "",
    "Indian, Polish, Portuguese, Danish, Swedish, Norwegian, Swiss, French, Italian, Dutch, Japanese, Chinese, German "
    "and English wordings with invented people. A line leaks if any of its secrets is left. It loses something if a "
    "merchant or another word that must stay is gone. The first two sets were written before the detector was opened, "
    "the third and the fourth afterwards, with new people and wordings. Each set was measured once before the kinds of "
    "its faults were mended. So `at first` says what to expect of lines that nobody has seen, and `now` does not.",
    "",
    "| set | lines | leak now | lose a merchant now | leaked at first | lost at first |",
    "|---|---|---|---|---|---|",
)


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/transactions-2-cores"))
    parser.add_argument("--wordings", type=Path, help="measure only the lines in many wordings, and write them here")
    given = parser.parse_args()
    if given.wordings:
        write_text(given.wordings, wordings_table())
        print(wordings_table())
        return
    out = given.out
    record = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": versions(),
        "generate": generation(),
        "anonymise": anonymising(),
        "detector": {
            "targets": TARGETS,
            "lines": detector(json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()),
            "second": detector(lines(count=1_000, seed=62, words=SECOND)),
            "blind": detector(lines(count=1_000, seed=63, words=BLIND)),
            "world": detector(lines(count=1_000, seed=64, words=WORLD)),
            "first_sight": FIRST_SIGHT,
        },
    }
    write_json(out.with_suffix(".json"), record)
    write_text(out.with_suffix(".md"), table(record))
    print(table(record))


def generation() -> dict[str, float]:
    """Rows a minute, with everything that a first run pays for (pools, templates, writing)."""
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        manifest = generate_statements(count=ROWS, seed=1, out=Path(folder) / "out")
        seconds, work = time.perf_counter() - started, time.process_time() - worked
    counts = manifest["counts"]
    return {
        "rows": ROWS,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(work, 2),  # one thread: the time of the run on a machine of its own
        "rows_a_minute": round(ROWS / seconds * 60),
        "rows_a_cpu_minute": round(ROWS / work * 60),
        "unseen_share": round(counts["split"]["unseen"] / ROWS, 3),
    }


def anonymising() -> dict[str, float]:
    """Rows a minute of the detector, and how many lines of the generator the scan afterwards refuses."""
    rows = list(synthetic_transactions(count=ANONYMISED, seed=2))
    worker = Anonymiser()
    anonymous_rows(rows[:10], worker=worker)
    worked = time.process_time()
    clean = anonymous_rows(rows, worker=worker)
    seconds = time.process_time() - worked
    return {
        "rows": ANONYMISED,
        "rows_a_cpu_minute": round(ANONYMISED / seconds * 60),
        "refused_by_the_scan": sum(worker.residue(row.description) is not None for row in clean),
        "merchants_kept": round(
            sum(row.merchant == new.merchant for row, new in zip(rows, clean, strict=True)) / ANONYMISED, 4
        ),
    }


def detector(labelled) -> dict[str, dict[str, float]]:
    """Recall by kind and precision on merchants."""
    worker = Anonymiser()
    counts, _ = score(labelled, spans_of=lambda text: [(span.start, span.end) for span in worker.spans(text)])
    return {kind: {**entry, "share": round(entry["found"] / entry["of"], 4)} for kind, entry in counts.items()}


def wordings_table() -> str:
    """How many of the lines in many wordings leak a secret or lose a merchant, and which of the unseen ones do."""
    rows, faults = [], []
    for name, first in FIRST_WORDINGS.items():
        judged = judged_wordings(name, worker=Anonymiser())
        leaks = [entry for entry in judged if entry["leaks"]]
        lost = [entry for entry in judged if entry["loses"]]
        secrets = sum(bool(entry["secrets"]) for entry in judged)
        keeps = sum(bool(entry["keep"]) for entry in judged)
        now = f"{len(leaks)} of {secrets} | {len(lost)} of {keeps}"
        rows.append(f"| {name} | {len(judged)} | {now} | {first['leaks']} | {first['lost']} |")
        faults += [f"    {entry['line']}" for entry in (*leaks, *lost)]
    return "\n".join([*WORDINGS_HEAD, *rows, "", "Lines that leak or lose something now:", "", *faults, ""])


def table(record: dict) -> str:
    """The figures for a reader."""
    sets = record["detector"]
    rows = [
        f"| {kind} | {TARGETS[kind]} | "
        + " | ".join(f"{sets[name][kind]['share']:.4f} ({sets['first_sight'][name][kind]:.3f})" for name in FIRST_SIGHT)
        + " |"
        for kind in TARGETS
    ]
    made, cleaned, machine = record["generate"], record["anonymise"], record["machine"]
    return "\n".join(
        [
            "# Transactions: figures of one run",
            "",
            f"Machine: {machine['cores']} cores ({machine['cpu']}), load {machine['load']}: others worked on it.",
            "",
            "Share found whole (kept whole, for merchants); in brackets what the set gave on first sight.",
            "",
            "| | target | lines (2,000) | second (1,000) | blind (1,000) | world (1,000) |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Generation: {made['rows_a_cpu_minute']:,} rows a minute of one core, {made['rows_a_minute']:,} by the "
            f"clock at that load ({made['rows']:,} rows: {made['cpu_seconds']} s of work in {made['seconds']} s); "
            f"{made['unseen_share']:.0%} of the rows are of unseen merchants.",
            "",
            f"Anonymising: {cleaned['rows_a_cpu_minute']:,} rows a minute of one core; of {cleaned['rows']:,} "
            f"generated lines the scan afterwards refuses {cleaned['refused_by_the_scan']}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
