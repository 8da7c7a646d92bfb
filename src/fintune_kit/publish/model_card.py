"""Writes the adapter's README from the manifests of the run. Every statement in it comes from a file.

    adapter/, run/, packed/, conversations/, evaluation/  ->  model_card.md.jinja  ->  adapter/README.md

The adapter's manifest does not list the card: the card quotes the scores, and the scores name this manifest by its
SHA-256.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from fintune_kit.errors import UserError
from fintune_kit.evaluate.tables import loss_sentence, verdict
from fintune_kit.publish.licences import base_licence, source_licences
from fintune_kit.train.base_id import is_hub_id
from fintune_kit.train.record.log import read_log
from fintune_kit.workspace import MANIFEST, read_json, read_manifest, sha256_of, write_text

MIB = 2**20
_LOGGED_STEPS = 10
"""The number of training losses in the card, without the last one."""
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 512, 2**20)
"""The values that vLLM accepts for `--max-lora-rank`. Its default is 16."""
Record = Mapping[str, Any]


def write_model_card(
    adapter: Path,
    *,
    run: Path,
    packed: Path,
    conversations: Path,
    evaluation: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Writes the model card and returns its path.

    Args:
        adapter, run, packed, conversations: the folders of finished stages.
        evaluation: the folder of the evaluation. With None, the card says that there is none.
        out: the file; None takes `README.md` in the adapter's folder. An attached input on Kaggle is read-only.

    Raises:
        MissingInputError: a stage is missing or unfinished.
        UserError: the stages do not belong together.
    """
    made = read_manifest(adapter, stage="adapter")
    _check_chain(made, {"packed": packed})
    scores = None
    if evaluation is not None:
        _check_chain(read_manifest(evaluation, stage="evaluation"), {"adapter": adapter})
        scores = read_json(evaluation / "scores.json")
    context = {
        **_adapter_values(made, adapter),
        **_score_values(scores),
        **_data_values(read_manifest(conversations, stage="conversations"), read_manifest(packed, stage="packed")),
        **_training_values(made, run),
    }
    path = out or adapter / "README.md"
    write_text(path, f"---\n{metadata(made, scores)}\n---\n\n{render(context)}\n")
    return path


def render(context: Mapping[str, Any]) -> str:
    """The text of the card. A value that the template names must be in the context."""
    text = resources.files("fintune_kit.publish").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)  # noqa: S701 - Markdown
    return environment.from_string(text).render(context).strip()


def metadata(made: Record, scores: Record | None) -> str:
    """The hub's metadata as YAML, without the lines `---`."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = base_licence(made["base"], recipe_base=_recipe_base(made))
    sources = made["recipe"]["data"]["sources"]
    free = licence.identifier == "apache-2.0" and all(s.allows_commerce for s in source_licences(sources))
    results = [
        EvalResult(
            task_type="text-generation",
            task_name=record["title"],
            dataset_type=record["name"],
            dataset_name=record["source"],
            dataset_args={"questions": record["n"], "seen_in_training": record["contamination"]["seen"]},
            metric_type="accuracy",
            metric_value=round(record["adapter"]["accuracy"], 4),
            metric_args={
                "interval_95": [round(bound, 4) for bound in record["adapter"]["accuracy_interval"]],
                "base_model_value": round(record["base"]["accuracy"], 4),
            },
        )
        for record in (scores or {"tasks": []})["tasks"]
        if record["metric"] == "accuracy" and record["adapter"] is not None
    ]
    card = ModelCardData(
        base_model=made["base"] if is_hub_id(made["base"]) else None,
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


def _check_chain(manifest: Record, inputs: Mapping[str, Path]) -> None:
    for name, folder in inputs.items():
        if manifest["inputs"].get(name) != sha256_of(folder / MANIFEST):
            raise UserError(
                f"stage {manifest['stage']!r} was not made from {folder} (its manifest has another SHA-256); expected "
                f"the folders of one run: name them, or run notebook 04 again"
            )


def _recipe_base(made: Record) -> str:
    """The base as the recipe names it."""
    return str(made["recipe"]["base"])


def _title(made: Record) -> str:
    base = "tiny" if _recipe_base(made) == "tiny" else made["base"]
    return f"{base} finance adapter ({made['recipe']['name']})"


def _adapter_values(made: Record, adapter: Path) -> dict[str, Any]:
    weights = adapter / "adapter_model.safetensors"
    public = is_hub_id(made["base"])
    licence = base_licence(made["base"], recipe_base=_recipe_base(made))
    nf4 = made["recipe"]["train"]["quantization"] == "nf4"
    return {
        "title": _title(made),
        "base": made["base"],
        "base_is_public": public,
        "loadable_base": made["base"] if public else "PATH/OF/THE/BASE",
        "base_licence": licence.words,
        "lora": made["recipe"]["lora"],
        "vllm_rank": next(rank for rank in _VLLM_RANKS if rank >= made["recipe"]["lora"]["rank"]),
        "parameters": made["counts"]["parameters"],
        "precision": "NF4, double quantization" if nf4 else "its own precision",
        "sources": source_licences(made["recipe"]["data"]["sources"]),
        "mib": weights.stat().st_size / MIB,
        "sha256": made["files"][weights.name],
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
    }


def _score_values(scores: Record | None) -> dict[str, Any]:
    # Names of tasks and labels come from the user's data.
    tasks = [{**record, "title": _as_text(record["title"])} for record in scores["tasks"]] if scores else []
    return {
        "scores": scores,
        "loss": f"{loss_sentence(scores['loss']).capitalize()}." if scores else "",
        "knows_training": all(record["contamination"]["seen"] is not None for record in tasks),
        "rows": [_score_row(record) for record in tasks],
        "notes": [note for record in tasks for note in _notes(record)],
        "totals": [
            {"title": record["title"], "rows": _totals(record["totals"])} for record in tasks if "totals" in record
        ],
        "published": [
            [record["title"], entry["model"], entry["metric"], f"{entry['value']:.3f}", entry["source"]]
            for record in tasks
            for entry in record["published"]
        ],
    }


def _score_row(record: Record) -> list[str]:
    floors, contamination = record["floors"], record["contamination"]
    floor = ["", ""]
    if floors:
        named = [floors["majority"], floors["tfidf"]]
        floor = [f"{one['accuracy']:.3f}" if one else "" for one in named]
        floor[0] = floor[0] or f"chance {floors['chance']:.3f}"
    both = [record[who] for who in ("base", "adapter")]
    scores = [f"{one['score']:.3f} [{_range(one['interval'])}]" if one else "" for one in both]
    f1 = " / ".join(f"{one['weighted_f1']:.3f}" for one in both if one and "weighted_f1" in one)
    clean = contamination["clean"] or {}
    without = " / ".join(f"{clean[who]['mean']:.3f}" for who in ("base", "adapter") if who in clean)
    seen = "unknown" if contamination["seen"] is None else f"{contamination['seen']} of {contamination['n']}"
    n = f"{record['n']:,}" + (f" of {record['of_total']:,}" if record["of_total"] > record["n"] else "")
    shown_clean = without if contamination["seen"] else ""
    return [record["title"], n, record["metric"], *floor, *scores, f1, shown_clean, seen, verdict(record)]


def _notes(record: Record) -> list[str]:
    """Notes on a task: unreadable and unfinished answers, and the scores of batches of transactions and of groups."""
    notes = []
    for who in ("base", "adapter"):
        given = record[who] or {}
        if given.get("unreadable") or given.get("unfinished"):
            notes.append(
                f"{record['title']}, {who}: {given['unreadable']:.3f} of the answers could not be read, "
                f"{given['unfinished']:.3f} did not end in time."
            )
        if record["metric"] == "categories" and given:
            valid, batches = given["json_valid"], given["transactions"]
            notes.append(
                f"{record['title']}, {who}: {valid['share']:.3f} [{_range(valid['interval'])}] of the answers are the "
                f"strict JSON of the prompt, and {batches['accuracy']:.3f} of {batches['n']:,} transactions have the "
                f"right category."
            )
        if "average_f1" in given:
            notes.append(f"{record['title']}, {who}: average F1 over the kinds of questions {given['average_f1']:.3f}.")
        if "entity_f1" in given:
            notes.append(f"{record['title']}, {who}: entity F1 over all questions {given['entity_f1']:.3f}.")
    return notes


def _as_text(words: str) -> str:
    """Words that a cell of a Markdown table shows as they are: no link, no HTML, no further cell."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", " ".join(words.split()))


def _totals(sums: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[list[str]]:
    rows = []
    for currency in sums["true"]:
        for name in sorted({label for who in sums.values() for label in who.get(currency, {})}):
            cells = [f"{Decimal(who.get(currency, {}).get(name, 0)):,.2f}" for who in sums.values()]
            rows.append([currency or "none named", _as_text(name), *cells])
    return rows


def _data_values(conversations: Record, packed: Record) -> dict[str, Any]:
    counts, packs = conversations["counts"], packed["counts"].get("train", {})
    return {
        "rows_read": counts.get("rows_read", 0),
        "train": counts.get("train", 0),
        "validation": counts.get("validation", 0),
        "packs": packs.get("packs", 0),
        "supervised_tokens": packs.get("supervised_tokens", 0),
    }


def _training_values(made: Record, run: Path) -> dict[str, Any]:
    trained = read_manifest(run, stage="run")
    plan, train = read_json(run / "plan.json")["plan"], made["recipe"]["train"]
    log = [record for record in read_log(run / "log.jsonl") if record.get("loss") is not None]
    chosen = _evenly(log)
    return {
        "training": (
            f"{trained['counts']['optimizer_steps']:,} optimizer steps on {trained['machine']} in {plan['dtype']}: "
            f"{plan['packs_per_step']} packs a step = {plan['micro_batch']} a micro-batch x {plan['accumulation']} "
            f"accumulated x {plan['processes']} process(es). Learning rate {train['learning_rate']:g}, "
            f"{train['schedule']}, warmup ratio {train['warmup_ratio']:g}, weight decay {train['weight_decay']:g}, "
            f"{train['optimizer']}, {train['epochs']} epoch(s), packs of {made['recipe']['pack']['max_length']} tokens."
        ),
        "steps": [record["step"] for record in chosen],
        "losses": [f"{record['loss']:.3f}" for record in chosen],
        "validation_loss": trained["loss"]["validation"] if trained["counts"].get("validation_tokens", 1) else None,
    }


def _evenly(log: Sequence[Record]) -> list[Record]:
    if len(log) <= _LOGGED_STEPS:
        return list(log)
    return [log[len(log) * part // _LOGGED_STEPS] for part in range(_LOGGED_STEPS)] + [log[-1]]


def _range(interval: Sequence[float]) -> str:
    return " to ".join(f"{bound:.3f}" for bound in interval)
