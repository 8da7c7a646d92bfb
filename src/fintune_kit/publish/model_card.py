"""The adapter's README: written from the manifests, with nothing in it that is not in a file.

adapter/README.md  <-  adapter/, run/, packed/, conversations/ and evaluation/ manifests, plan.json, log.jsonl,
                       report.json, scores.json

It lies beside the adapter's manifest but is not listed in it: the scores that it quotes name that manifest.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.publish.licences import base_licence, source_licences
from fintune_kit.train.callbacks import read_log
from fintune_kit.workspace import MANIFEST, read_manifest, sha256_of, write_text

MIB = 2**20


def write_model_card(
    adapter: Path,
    *,
    run: Path,
    packed: Path,
    conversations: Path,
    evaluation: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Writes the card, as `README.md` into the adapter's folder unless told otherwise.

    Args:
        adapter, run, packed, conversations: finished stages.
        evaluation: its scores; None where it has not run, and the card says so.
        out: the file, where the adapter's folder cannot be written (an attached input on Kaggle).

    Raises:
        MissingInputError: a stage is missing or unfinished.
        UserError: the stages do not belong together.
    """
    made = read_manifest(adapter, stage="adapter")
    trained = read_manifest(run, stage="run")
    packs = read_manifest(packed, stage="packed")
    rows = read_manifest(conversations, stage="conversations")
    _check_chain(made, {"packed": packed})
    scores = None
    if evaluation is not None:
        _check_chain(read_manifest(evaluation, stage="evaluation"), {"adapter": adapter})
        scores = json.loads((evaluation / "scores.json").read_text(encoding="utf-8"))
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    sections = [
        _introduction(made),
        _loading(made),
        _scores(scores),
        _data(rows, packs, made["recipe"]["data"]["sources"]),
        _training(made, trained, plan, read_log(run / "log.jsonl")),
        _licences(made),
        _provenance(made, adapter),
    ]
    path = out or adapter / "README.md"
    write_text(path, f"---\n{metadata(made, scores)}\n---\n\n" + "\n\n".join(sections) + "\n")
    return path


def metadata(made: Mapping[str, Any], scores: Mapping[str, Any] | None) -> str:
    """The Hub's metadata block as YAML, without its fences."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = base_licence(made["base"], recipe_base=made["recipe"]["base"])
    sources = made["recipe"]["data"]["sources"]
    free = licence.identifier == "apache-2.0" and all(s.allows_commerce for s in source_licences(sources))
    results = [
        EvalResult(
            task_type="text-generation",
            task_name=record["title"],
            dataset_type=record["name"],
            dataset_name=record["source"],
            metric_type="accuracy",
            metric_value=round(record["adapter"]["accuracy"], 4),
        )
        for record in (scores or {"tasks": []})["tasks"]
        if record["metric"] == "accuracy"
    ]
    card = ModelCardData(
        base_model=made["recipe"]["base"] if "/" in made["recipe"]["base"] else None,
        datasets=[source for source in sources if source.count("/") == 1 and not Path(source).exists()] or None,
        language="en",
        library_name="peft",
        license="apache-2.0" if free else "other",
        license_name=None if free else "see-this-card",
        license_link=None if free else "README.md#licences",
        pipeline_tag="text-generation",
        tags=["qlora", "lora", "finance", "qwen", "fintune-kit"],
        model_name=_title(made) if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml()).strip()


def _check_chain(manifest: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
    for name, folder in inputs.items():
        if manifest["inputs"].get(name) != sha256_of(folder / MANIFEST):
            raise UserError(
                f"stage {manifest['stage']!r} was not made from {folder} (its manifest has another SHA-256); expected "
                f"the folders of one run: name them, or run notebook 04 again"
            )


def _title(made: Mapping[str, Any]) -> str:
    return f"{made['recipe']['base']} finance adapter ({made['recipe']['name']})"


def _introduction(made: Mapping[str, Any]) -> str:
    lora = made["recipe"]["lora"]
    precision = "NF4, double quantization" if made["recipe"]["train"]["quantization"] == "nf4" else "its own precision"
    return (
        f"# {_title(made)}\n\n"
        f"A LoRA adapter (rank {lora['rank']}, alpha {lora['alpha']}, on {', '.join(lora['target_modules'])}; "
        f"{made['counts']['parameters']:,} parameters in float32) on `{made['base']}`, trained with fintune-kit on a "
        f"base in {precision}. Every number here is read from the run's own files."
    )


def _loading(made: Mapping[str, Any]) -> str:
    return f"""## How to load it

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = "this repository or folder"
model = AutoPeftModelForCausalLM.from_pretrained(folder)  # on {made["base"]}
tokenizer = AutoTokenizer.from_pretrained(folder)
```

`fintune-kit export` merges it into one model, as safetensors or as GGUF for llama.cpp and Ollama."""


def _scores(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "## Scores\n\nNot evaluated yet."
    lines = [
        "## Scores",
        "",
        f"On {scores['machine']}, {scores['dtype']}, base in {scores['quantization']}. Shares from 0 to 1 with 95 % "
        "bootstrap intervals; choices by the likelihood of the whole answer, free text by the metric named, unreadable "
        "answers counted as wrong. `seen`: questions found in the training conversations.",
        "",
        "| task | n | metric | majority | TF-IDF | base | adapter | p (McNemar) | seen |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in scores["tasks"]:
        floors = record["floors"]
        floor = [f"{floors[kind]['accuracy']:.3f}" for kind in ("majority", "tfidf")] if floors else ["", ""]
        both = [f"{record[who]['score']:.3f} [{_range(record[who]['interval'])}]" for who in ("base", "adapter")]
        contamination = record["contamination"]
        cells = [record["title"], f"{record['n']:,}", record["metric"], *floor, *both]
        cells += [f"{record['paired']['p_value']:.2g}", f"{contamination['seen']} of {contamination['n']}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [line for record in scores["tasks"] for line in _transactions(record)]
    loss = scores["loss"]
    lines += [
        "",
        f"Validation loss (nats a supervised token, {loss['supervised_tokens']:,} tokens): base {loss['base']:.3f}, "
        f"adapter {loss['adapter']:.3f}.",
    ]
    return "\n".join(lines)


def _transactions(record: Mapping[str, Any]) -> list[str]:
    """Of batches of transactions, JSON validity and accuracy; of single ones, the totals that their labels make."""
    if record["metric"] == "categories":
        words = []
        for who in ("base", "adapter"):
            valid, rows = record[who]["json_valid"], record[who]["transactions"]
            words.append(
                f"{who} {valid['share']:.3f} [{_range(valid['interval'])}], and the right category for "
                f"{rows['accuracy']:.3f} of {rows['n']:,} transactions"
            )
        return ["", f"{record['title']}: share of the answers that are the strict JSON asked for: {'; '.join(words)}."]
    if "totals" not in record:
        return []
    lines = ["", "Totals by category, added up by code from the labels of the same transactions:", ""]
    lines += ["| currency | category | true | base | adapter |", "|---|---|---|---|---|"]
    sums = record["totals"]
    for currency in sums["true"]:
        for name in sorted({label for who in sums.values() for label in who.get(currency, {})}):
            cells = [f"{Decimal(who.get(currency, {}).get(name, 0)):,.2f}" for who in sums.values()]
            lines.append(f"| {' | '.join([currency or 'none named', name, *cells])} |")
    return lines


def _range(interval: Sequence[float]) -> str:
    return " to ".join(f"{bound:.3f}" for bound in interval)


def _data(rows: Mapping[str, Any], packs: Mapping[str, Any], sources: Sequence[str]) -> str:
    counts = rows["counts"]
    lines = ["## Data", "", "| source | licence, as far as known |", "|---|---|"]
    lines += [f"| `{s.source}` | {s.words} |" for s in source_licences(sources)]
    packed = packs["counts"].get("train", {})
    lines += [
        "",
        f"{counts.get('rows_read', 0):,} rows read, {counts.get('train', 0):,} conversations to train on, "
        f"{counts.get('validation', 0):,} held out; the rows that were refused, and why, are in `rejected.parquet` of "
        f"the run. In packs: {packed.get('packs', 0):,} with {packed.get('supervised_tokens', 0):,} supervised tokens.",
    ]
    return "\n".join(lines)


def _training(
    made: Mapping[str, Any], trained: Mapping[str, Any], plan: Mapping[str, Any], log: Sequence[Mapping[str, Any]]
) -> str:
    train, way = made["recipe"]["train"], plan["plan"]
    chosen = [log[len(log) * part // 10] for part in range(10)] + [log[-1]] if len(log) > 10 else list(log)
    steps = " | ".join(str(record["step"]) for record in chosen)
    losses = " | ".join(f"{record['loss']:.3f}" for record in chosen)
    return "\n".join(
        [
            "## Training",
            "",
            f"{trained['counts']['optimizer_steps']:,} optimizer steps on {trained['machine']} in {way['dtype']}: "
            f"{way['packs_per_step']} packs a step = {way['micro_batch']} a micro-batch x {way['accumulation']} "
            f"accumulated x {way['processes']} process(es). Learning rate {train['learning_rate']:g}, "
            f"{train['schedule']}, warmup ratio {train['warmup_ratio']:g}, weight decay {train['weight_decay']:g}, "
            f"{train['optimizer']}, {train['epochs']} epoch(s), "
            f"packs of {made['recipe']['pack']['max_length']} tokens.",
            "",
            f"| step | {steps} |",
            "|---" * (len(chosen) + 1) + "|",
            f"| loss | {losses} |",
            "",
            f"Validation loss when training ended: {trained['loss']['validation']:.4f}.",
        ]
    )


def _licences(made: Mapping[str, Any]) -> str:
    licence = base_licence(made["base"], recipe_base=made["recipe"]["base"])
    return (
        f"## Licences\n\nThe base: {licence.words} The data: as in the table above. What an adapter may be used for "
        f"follows from both; this is no legal advice, and no financial advice comes out of the model either."
    )


def _provenance(made: Mapping[str, Any], adapter: Path) -> str:
    weights = adapter / "adapter_model.safetensors"
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return (
        f"## Provenance\n\n`adapter_model.safetensors`: {weights.stat().st_size / MIB:.1f} MiB, SHA-256 "
        f"`{made['files'][weights.name]}`. Made with {versions}."
    )
