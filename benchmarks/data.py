"""Stage 1 measured: time and memory on 83,838 and twice as many rows, and how much of what was planted it finds.

    python benchmarks/data.py --data ../shared/data --out results/data-2-cores [--only stage --only near_duplicates ...]

`stage` runs in a process of its own, so that peak memory is its own; its time begins when imports and tokenizer are
loaded, which is reported apart. How rows are planted, drawn and judged: `benchmarks/NOTES.md`.
"""

import argparse
import csv
import json
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation
from fintune_kit.data.batches import batch_converter
from fintune_kit.data.convert.rows import Converter
from fintune_kit.data.read.sources import parse_sources, read_source
from fintune_kit.data.rules.contamination import find_shared
from fintune_kit.data.rules.duplicates import near_duplicate
from fintune_kit.data.rules.finance import RELEVANT, finance_weight
from fintune_kit.data.rules.label_errors import label_errors
from fintune_kit.data.rules.labels import OPEN, labels_of
from fintune_kit.data.rules.language import Languages
from fintune_kit.data.rules.prompts import compare_prompts
from fintune_kit.data.stage import Settings, prepare_conversations

REPOSITORY = Path(__file__).parents[1]
EVALUATION_SETS = ("fpb", "tfns", "fiqa_sa_fingpt", "tfns_topic")
FULL = "sujet_proxy_full.parquet"
LABELS = Path(__file__).with_name("near_duplicate_labels.csv")
RELEVANCE_LABELS = Path(__file__).with_name("relevance_labels.csv")
VOWELS = str.maketrans("aeiouAEIOU", "eiouaEIOUA")
SHORT_ROWS = (100_000, 200_000, 400_000, 1_000_000)
SHORT_ROW_WORDS = (
    *("bond", "dividend", "equity", "credit", "loan", "share", "quarter", "growth", "profit", "trade"),
    *("debt", "revenue", "price", "report", "asset", "risk", "margin", "yield", "tax", "fund"),
)
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="the stand-in data")
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="may be repeated; others stay in --out")
    parser.add_argument("--job", nargs=2, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--convert", nargs=2, metavar=("SOURCE", "PROCESSES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_stage(arguments.data, *arguments.job)))
        return
    if arguments.convert:
        print(json.dumps(run_conversion(arguments.convert[0], processes=int(arguments.convert[1]))))
        return
    earlier = arguments.out and arguments.only and arguments.out.with_suffix(".json")
    results: Result = json.loads(earlier.read_text()) if earlier and earlier.is_file() else {}
    results["machine"] = machine()
    for name in arguments.only or MEASURES:
        absent = not (arguments.data / FULL).is_file()
        results[name] = {"skipped": f"{arguments.data / FULL} is absent"} if absent else MEASURES[name](arguments.data)
        print(f"{name}: {json.dumps(results[name])}", file=sys.stderr)
    text = as_table(results)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def machine() -> Result:
    load = os.getloadavg()[0]
    return {"cores": os.cpu_count(), "python": platform.python_version(), "load_before": round(load, 1)}


def measure_stage(data: Path) -> Result:
    """The whole stage on the full stand-in, and on it twice, the second time with every vowel replaced by the next."""
    with tempfile.TemporaryDirectory() as folder:
        table = pq.read_table(data / FULL)
        altered = table.to_pydict()
        for name in ("inputs", "user_prompt", "answer"):
            is_open = [task.startswith("qa") for task in altered["task_type"]]
            altered[name] = [
                text.translate(VOWELS) if text and (name != "answer" or opened) else text
                for text, opened in zip(altered[name], is_open, strict=True)
            ]
        twice = pa.concat_tables([table, pa.table(altered, schema=table.schema)])
        pq.write_table(twice.slice(0, 167_676), Path(folder) / "twice.parquet")
        del table, altered, twice
        jobs = {"83,838 rows": data / FULL, "167,676 rows": Path(folder) / "twice.parquet"}
        return {name: start(data, source, Path(folder) / "out") for name, source in jobs.items()}


def measure_short_rows(data: Path) -> Result:
    """The whole stage on generated short rows: time and peak memory should grow in proportion to the rows."""
    results: Result = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in SHORT_ROWS:
            source = write_short_rows(Path(folder) / f"{count}.jsonl", count)
            found = start(data, source, Path(folder) / "out")
            results[f"{count:,} rows"] = {
                name: found[name] for name in ("seconds", "cpu_seconds", "peak_gb", "rows_read", "rows_kept")
            }
            source.unlink()
    return results


def write_short_rows(path: Path, count: int) -> Path:
    """Rows of a short question and a short answer, no two alike, about 200 characters each."""
    chance = random.Random(7)  # noqa: S311 - a sample, not a secret
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = chance.sample(SHORT_ROW_WORDS, 7)
            company, price = chance.randrange(10**7), chance.randrange(10**6)
            question = f"What does {words[0]} {number} mean for {words[1]} and {words[2]} of company {company}?"
            answer = f"It means that {words[3]} {words[4]} {words[5]} of {price} moves with {words[6]}."
            file.write(json.dumps({"id": number, "question": question, "answer": answer}) + "\n")
    return path


def measure_processes(data: Path) -> Result:
    """The conversion of the full stand-in in one process and in two. The rest of the stage has one in any case."""
    return {f"processes {count}": run_apart("--convert", str(data / FULL), str(count)) for count in (1, 2)}


def run_conversion(source: str, *, processes: int) -> Result:
    began, began_cpu = time.perf_counter(), time.process_time()
    with batch_converter(processes, mapping=None, system_prompt=None) as convert_all:
        converter = Converter(convert_all)
        for file in read_source(parse_sources([source])[0]):
            converter.convert(file)
    own_cpu = time.process_time() - began_cpu
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(own_cpu, 1),
        "cpu_seconds_of_workers": round(workers.ru_utime + workers.ru_stime, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "peak_gb_of_a_worker": round(workers.ru_maxrss / 1e6, 2),
        "conversations": len(converter.corpus.conversations),
        "load_at_end": round(os.getloadavg()[0], 1),
    }


def start(data: Path, source: Path, out: Path) -> Result:
    return run_apart("--data", str(data), "--job", str(source), str(out))


def run_apart(*arguments: str) -> Result:
    """What this file prints with these arguments, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_stage(data: Path, source: str, out: str) -> Result:
    began = time.perf_counter()
    encoder = ChatEncoder.load(data / "qwen2.5-tokenizer")
    loaded = time.perf_counter()
    report = prepare_conversations(
        sources=[source],
        out=Path(out),
        settings=Settings(examples=50_000, validation_share=0.02, seed=20240405, max_length=2048),
        encoder=encoder,
        excluded=[data / "eval" / f"{name}.jsonl" for name in EVALUATION_SETS],
        announce=lambda _: None,
    )
    return {
        "seconds": round(time.perf_counter() - loaded, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "tokenizer_seconds": round(loaded - began, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "rows_read": report["rows_read"],
        "rows_kept": report["rows_kept"],
        "refused": {step["rule"]: step["refused"] for step in report["funnel"] if step["refused"]},
        "contamination": report["contamination"]["excluded"],
        "load_at_end": round(os.getloadavg()[0], 1),
    }


def conversations_of(data: Path) -> list[Conversation]:
    rows = pq.read_table(data / FULL).to_pylist()
    return [
        Conversation(
            row_id=f"row#{number}",
            source="row",
            task_type=row["task_type"],
            conversation_id=f"row#{number}",
            messages=[
                {"role": "system", "content": row["system_prompt"]},
                {"role": "user", "content": row["user_prompt"]},
                {"role": "assistant", "content": row["answer"]},
            ],
        )
        for number, row in enumerate(rows, start=1)
        if row["answer"]
    ]


def near_duplicates_of(rows: Sequence[Conversation]) -> dict[int, str]:
    every = range(len(rows))
    return near_duplicate(rows, every, compare_prompts(rows, every), Languages(rows, ["rows"] * len(rows)))


def measure_near_duplicates(data: Path) -> Result:
    """Copies with one kind of damage each, 400 a kind, put among all rows: how many are refused as near-duplicates."""
    originals = conversations_of(data)
    chance = random.Random(1)  # noqa: S311 - a sample, not a secret
    vocabulary = [word for c in originals[::50] for word in c.prompt.split() if word.isalpha() and word.islower()]
    found: Result = {}
    repeated = near_duplicates_of(originals)
    eligible = [p for p, c in enumerate(originals) if p not in repeated and len(c.prompt.split()) >= 12]
    planted: list[tuple[str, Conversation]] = []
    for kind, damage in DAMAGES.items():
        for number, place in enumerate(chance.sample(eligible, 400)):
            original = originals[place]
            copy = damage(original.prompt, chance, vocabulary)
            messages = [original.messages[0], {"role": "user", "content": copy}, original.messages[-1]]
            name = f"{kind}#{number}"
            planted.append((kind, replace(original, row_id=name, conversation_id=name, messages=messages)))
    everything = originals + [copy for _, copy in planted]
    refused = near_duplicates_of(everything)
    hits = Counter(planted[position - len(originals)][0] for position in refused if position >= len(originals))
    for kind in DAMAGES:
        found[kind] = {"planted": 400, "found": hits[kind], "share": round(hits[kind] / 400, 4)}
    total = sum(hits.values())
    return {**found, "all": {"planted": len(planted), "found": total, "share": round(total / len(planted), 4)}}


def _one_word_in_twelve(text: str, chance: random.Random, vocabulary: Sequence[str]) -> str:
    """Of each twelve words one, a figure excepted, becomes a word of another row."""
    pieces = re.split(r"(\s+)", text)
    words = [place for place, piece in enumerate(pieces) if piece.strip()]
    for start in range(0, len(words) - 11, 12):
        plain = [place for place in words[start : start + 12] if not any(c.isdigit() for c in pieces[place])]
        if plain:
            pieces[chance.choice(plain)] = chance.choice(vocabulary)
    return "".join(pieces)


def _other_url(text: str, chance: random.Random, _: Sequence[str]) -> str:
    url = f"https://t.co/{chance.getrandbits(50):x}"
    return re.sub(r"https?://\S+", url, text) if "http" in text else f"{text} {url}"


def _without_punctuation(text: str) -> str:
    """Without points, commas and colons, except those of figures and links."""
    pieces = re.split(r"((?:https?://|www\.)\S+)", text)
    return "".join(
        p if p.startswith(("http", "www.")) else re.sub(r"(?<!\d)[,.;:!?]|[,.;:!?](?!\d)", "", p) for p in pieces
    )


def _mojibake(text: str, chance: random.Random, _: Sequence[str]) -> str:
    """Quotes and dashes become what a wrong encoding makes of them; where there are none, some are put in."""
    words = text.split(" ")
    words[chance.randrange(len(words))] += "\u2019"
    return re.sub("['\"\u2019-]", lambda match: {"-": "â€“"}.get(match[0], "â€™"), " ".join(words))


DAMAGES: dict[str, Callable[[str, random.Random, Sequence[str]], str]] = {
    "URL changed": _other_url,
    "case": lambda text, chance, _: text.upper() if chance.random() < 0.5 else text.title(),
    "punctuation": lambda text, chance, _: _without_punctuation(text) + chance.choice(["!", " ...", " ?"]),
    "encoding damage": _mojibake,
    "one word in twelve": _one_word_in_twelve,
}


def measure_pairs(data: Path) -> Result:
    """Of the pairs that are refused, those that were judged by eye to be two statements."""
    with LABELS.open(newline="") as file:
        labels = {(int(row["first"]), int(row["second"])): row["same"] == "1" for row in csv.DictReader(file)}
    rows = conversations_of(data)
    found = near_duplicates_of(rows)
    equal = sum(detail.startswith("the same words") for detail in found.values())
    pairs = {
        (int(detail.split(" ")[0].removeprefix("row#")), int(rows[position].row_id.removeprefix("row#")))
        for position, detail in found.items()
        if not detail.startswith("the same words")
    }
    judged = [same for pair, same in labels.items() if pair in pairs]
    false = judged.count(False)
    share = false / max(1, len(judged))
    return {
        "pairs_found": len(found),
        "of_these_with_equal_words": equal,
        "judged_of_the_others": len(judged),
        "false_among_judged": false,
        "false_share_of_all_pairs": round(share * len(pairs) / len(found), 4),
    }


def measure_contamination(data: Path) -> Result:
    """Every evaluation text put into a row among those of the stand-in, as it is and damaged; and what is found there.

    `found` counts planted rows. `rows of the stand-in` are those that hold a text without having been planted.
    """
    rows = [[message["content"] for message in row.messages] for row in conversations_of(data)]
    vocabulary = [word for row in rows[::50] for word in row[1].split() if word.isalpha()]
    results: Result = {}
    for name in EVALUATION_SETS:
        lines = (data / "eval" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        long = [len(re.findall(r"\w+", re.sub(r"https?://\S+", "", text))) >= 8 for text in texts]
        for kind, damage in CONTAMINATIONS.items():
            chance = random.Random(2)  # noqa: S311 - a sample, not a secret
            planted = [[f"Financial text:{damage(text, chance, vocabulary)}", "neutral"] for text in texts]
            found = {m.row for m in find_shared(planted + rows, texts) if m.row < len(planted)}
            of_long = sum(number in found for number, is_long in enumerate(long) if is_long)
            results[f"{name}, {kind}"] = {
                "planted": len(texts),
                "found": len(found),
                "of 8 words or more": f"{of_long} of {sum(long)}",
            }
        results[f"{name}, rows of the stand-in"] = {"found": len({match.row for match in find_shared(rows, texts)})}
    return results


def measure_seen_questions(data: Path) -> Result:
    """Questions that the evaluation flags as seen: those of the evaluation sets, and of headlines that are left out.

    A tenth of the headlines (drawn with seed 3) is left out of training, each with all its questions. Others with the
    same templates stay there, so a flag means a near-duplicate headline, or a false alarm of the template.
    """
    table = [row for row in pq.read_table(data / FULL).to_pylist() if row["answer"]]
    rows = [[row["user_prompt"], row["answer"]] for row in table]
    results: Result = {}
    for name in EVALUATION_SETS:
        texts = [json.loads(line)["text"] for line in (data / "eval" / f"{name}.jsonl").read_text().splitlines()]
        results[name] = _seen(rows, texts)
        if name == "fpb":
            chance = random.Random(2)  # noqa: S311 - a sample, not a secret
            vocabulary = [word for row in rows[::50] for word in row[0].split() if word.isalpha()]
            changed = [[f"Financial text:{_one_word(text, chance, vocabulary)}", "neutral"] for text in texts]
            results["fpb, planted with one word changed"] = _seen(changed + rows, texts)
    headline = {
        index: row["user_prompt"].split('"')[1]
        for index, row in enumerate(table)
        if row["dataset"].startswith("gold-headlines")
    }
    distinct = sorted(set(headline.values()))
    random.Random(3).shuffle(distinct)  # noqa: S311 - a sample, not a secret
    left_out = set(distinct[: len(distinct) // 10])
    asked = {index for index, text in headline.items() if text in left_out}
    training = [row for index, row in enumerate(rows) if index not in asked]
    results["headlines left out of training"] = _seen(training, [rows[index][0] for index in sorted(asked)])
    return results


def _seen(rows: Sequence[Sequence[str]], texts: Sequence[str]) -> Result:
    began = time.process_time()
    flagged = len({match.text for match in find_shared(rows, texts)})
    return {"questions": len(texts), "flagged": flagged, "cpu_seconds": round(time.process_time() - began, 1)}


def _one_word(text: str, chance: random.Random, vocabulary: Sequence[str]) -> str:
    words = text.split()
    words[chance.randrange(len(words))] = chance.choice(vocabulary)
    return " ".join(words)


CONTAMINATIONS: dict[str, Callable[[str, random.Random, Sequence[str]], str]] = {
    "as it is": lambda text, *_: text,
    "URL changed": _other_url,
    "case": DAMAGES["case"],
    "punctuation": DAMAGES["punctuation"],
    "one word changed": _one_word,
}


def measure_relevance(data: Path) -> Result:
    """Precision and recall of the relevance rule on 600 rows of the stand-in's mixed origins, drawn at random.

    They were judged by eye before the rule was run on them; rows that could be called either way are not counted.
    """
    with RELEVANCE_LABELS.open(newline="") as file:
        judged = {int(row["row"]): row["finance"] for row in csv.DictReader(file)}
    rows = pq.read_table(data / FULL).to_pylist()
    counts = Counter(
        (finance_weight(rows[number - 1]["user_prompt"], rows[number - 1]["answer"])[0] >= RELEVANT, label == "1")
        for number, label in judged.items()
        if label
    )
    right = counts[True, True]
    return {
        "rows": {"drawn": len(judged), "judged": counts.total(), "about finance": right + counts[False, True]},
        "precision": _share(right, right + counts[True, False]),
        "recall": _share(right, right + counts[False, True]),
    }


def _share(hits: int, total: int) -> Result:
    """A share with its 95 % interval (Wilson)."""
    z, p = 1.96, hits / total
    middle, spread = p + z * z / (2 * total), z * ((p * (1 - p) + z * z / (4 * total)) / total) ** 0.5
    low, high = ((middle + sign * spread) / (1 + z * z / total) for sign in (-1, 1))
    return {"n": total, "share": round(p, 3), "from": round(low, 3), "to": round(high, 3)}


def measure_label_errors(data: Path) -> Result:
    """Of each dataset of labels, one label in twenty is changed to another: how many are found, and how many others."""
    rows, table = conversations_of(data), pq.read_table(data / FULL, columns=["dataset", "answer"]).to_pylist()
    origins = [row["dataset"] for row in table if row["answer"]]
    labels = labels_of(rows, origins)
    chance, results = random.Random(5), {}  # noqa: S311 - a sample, not a secret
    for origin in dict.fromkeys(origins):
        own = [index for index, name in enumerate(origins) if name == origin and labels[index] != OPEN]
        if len(own) < 1_000:
            continue
        options = sorted({labels[index] for index in own})
        flipped = set(chance.sample(own, len(own) // 20))
        noisy = [
            chance.choice([other for other in options if other != label]) if index in flipped else label
            for index, label in enumerate(labels)
        ]
        began = time.process_time()
        found = set(label_errors(rows, noisy, own))
        hits = len(found & flipped)
        results[origin] = {
            "rows": len(own),
            "planted": len(flipped),
            "named": len(found),
            "precision": round(hits / max(1, len(found)), 3),
            "recall": round(hits / len(flipped), 3),
            "named without planting": len(label_errors(rows, labels, own)),
            "cpu_seconds": round((time.process_time() - began) / 2, 1),
        }
    return results


MEASURES: dict[str, Callable[[Path], Result]] = {
    "stage": measure_stage,
    "processes": measure_processes,
    "short_rows": measure_short_rows,
    "near_duplicates": measure_near_duplicates,
    "pairs": measure_pairs,
    "contamination": measure_contamination,
    "seen_questions": measure_seen_questions,
    "relevance": measure_relevance,
    "label_errors": measure_label_errors,
}


def as_table(results: Result) -> str:
    lines = [f"Machine: {json.dumps(results['machine'])}", ""]
    for name, measured in results.items():
        if name == "machine":
            continue
        lines += [f"### {name}", "", "| | |", "|---|---|"]
        for key, value in measured.items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            lines.append(f"| {key} | {shown} |")
        lines.append("")
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    main()
