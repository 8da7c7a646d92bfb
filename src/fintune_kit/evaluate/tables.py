"""Shows `scores.json` to people: the before/after table, verdicts in words, and the values of the figures.

A verdict says whether the adapter is better than its base on a task, and whether it beats the floors. It is "better" or
"worse" only if the p-value, corrected for the number of tasks (Holm), is below 5 %.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from fintune_kit.evaluate.metrics import over_runs
from fintune_kit.evaluate.sets.validation import PREFIX
from fintune_kit.workspace import read_json, read_manifest

Record = Mapping[str, Any]
SIGNIFICANT = 0.05
_HEAD = f"{'task':<38}{'n':>6}{'majority':>10}{'TF-IDF':>8}   {'base':<17}{'adapter':<17}verdict"


def format_table(scores: Record) -> str:
    """The before/after table in plain text.

    validation loss (nats a token)        7.21 -> 1.52
    task                                       n  majority  TF-IDF   base             adapter          verdict
    validation sentiment analysis             26     38 %    61 %   35 % (19-54)     81 % (62-92)     better (p 0.002)
    """
    lines = [_loss_line(scores["loss"]), _HEAD]
    lines += [_line(record) for record in scores["tasks"]]
    pooled = pooled_accuracy(scores)
    if pooled["n"]:
        shares = [f"{100 * pooled[who]:.0f} %" if pooled[who] is not None else "" for who in ("base", "adapter")]
        floors = f"{_percent(pooled['majority']):>10}{_percent(pooled['tfidf']):>8}"
        name = "all validation choices"
        lines.append(f"{name:<38}{pooled['n']:>6}{floors}   {shares[0]:<17}{shares[1]:<17}{pooled['verdict']}")
    for record in scores["tasks"]:
        lines += _notes(record)
    return "\n".join(lines)


def verdict(record: Record) -> str:
    """`better (p 0.02)`, `worse (p 0.001), below TF-IDF` or `not better (p 0.6)`; empty without an adapter."""
    if record["paired"] is None:
        return ""
    words = _verdict(record["paired"]["difference"], record["paired"].get("p_holm", record["paired"]["p_value"]))
    below = [name for name, floor in _floors(record).items() if record["adapter"]["score"] < floor]
    return words + (f", below {' and '.join(below)}" if below else "")


def sentence(record: Record) -> str:
    """One task in words: `adapter 48 %, base 31 %, majority 33 %: better (p 0.02)`."""
    parts = [f"{who} {_percent(record[who]['score'])}" for who in ("adapter", "base") if record[who] is not None]
    parts += [f"{name} {_percent(floor)}" for name, floor in list(_floors(record).items())[:1]]
    found = verdict(record)
    return ", ".join(parts) + (f": {found}" if found else "")


def loss_sentence(loss: Record) -> str:
    """The validation losses in words; with a verdict if both are known."""
    if not loss.get("supervised_tokens"):
        return "no validation packs: there is no validation loss"
    text = f"validation loss: base {loss['base']:.3f}"
    if loss.get("adapter") is None:
        return f"{text} nats a token"
    side = "better" if loss["adapter"] < loss["base"] else "not better"
    return f"{text}, adapter {loss['adapter']:.3f} nats a token: {side}"


def before_after(scores: Record) -> list[dict[str, Any]]:
    """The choice tasks that both models have answered, in the form for `plots.plot_before_after`."""
    return [
        {
            "task": record["title"],
            "n": record["n"],
            "majority": next(iter(_floors(record).values())),
            **{
                who: {"accuracy": record[who]["accuracy"], "interval": record[who]["accuracy_interval"]}
                for who in ("base", "adapter")
            },
        }
        for record in choices(scores)
        if record["adapter"] is not None
    ]


def choices(scores: Record) -> list[Record]:
    """The records of the choice tasks, which are decided by likelihood."""
    return [record for record in scores["tasks"] if record["metric"] == "accuracy"]


def largest_choice(scores: Record, *, among: Sequence[str] = ()) -> Record | None:
    """The choice task with the most questions, or None. Tasks whose names are in `among` come first."""
    found = [record for record in choices(scores) if record["name"] in among] or choices(scores)
    return max(found, key=lambda record: record["n"], default=None)


def pooled_accuracy(scores: Record) -> dict[str, Any]:
    """Accuracy over all validation choices together: `n`, `majority`, `tfidf`, `base`, `adapter`, `verdict`.

    The p-value is that of McNemar's test over all questions. Without such questions, `n` is 0 and the shares are None.
    """
    validation = [record for record in choices(scores) if str(record["name"]).startswith(PREFIX)]
    records = [record for record in validation if "majority" in _floors(record)]
    n = sum(record["n"] for record in records)
    found: dict[str, Any] = {"n": n, "verdict": ""}
    for who in ("base", "adapter"):
        known = n and all(record[who] is not None for record in records)
        found[who] = sum(record[who]["accuracy"] * record["n"] for record in records) / n if known else None
    for floor in ("majority", "tfidf"):
        hits = sum(record["floors"][floor]["accuracy"] * record["n"] for record in records)
        found[floor] = hits / n if n else None
    if found["adapter"] is not None:
        gained = sum(record["paired"]["only_adapter_right"] for record in records)
        lost = sum(record["paired"]["only_base_right"] for record in records)
        p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        found["verdict"] = _verdict((gained - lost) / n, p_value)
    return found


def read_scores(folder: Path) -> dict[str, Any]:
    """The scores of a finished evaluation.

    Raises:
        MissingInputError: the folder is missing or unfinished.
    """
    read_manifest(folder, stage="evaluation")
    scores: dict[str, Any] = read_json(folder / "scores.json")
    return scores


def over_seeds(runs: Sequence[Record]) -> dict[str, Any]:
    """The mean and spread of the adapter's score on each task, over runs with different seeds.

    Args:
        runs: the content of `scores.json` of each run.

    Returns:
        `{"loss": {"mean": ..., "sd": ...}, "tasks": {"tfns": {"runs": 3, "mean": ..., "sd": ..., ...}}}`, for the
        tasks that all runs have in common.
    """
    by_run = [{record["name"]: record for record in run["tasks"] if record["adapter"] is not None} for run in runs]
    shared = [name for name in by_run[0] if all(name in tasks for tasks in by_run)]
    losses = [run["loss"]["adapter"] for run in runs if run["loss"].get("adapter") is not None]
    return {
        "loss": over_runs(losses) if len(losses) == len(runs) else None,
        "tasks": {name: over_runs([tasks[name]["adapter"]["score"] for tasks in by_run]) for name in shared},
    }


def format_over_seeds(summary: Record) -> str:
    """`over_seeds` as a table in plain text.

    task                                    runs    mean      sd   from - to
    tfns                                       3   0.731   0.012   0.719 - 0.743
    """
    lines = [f"{'task':<38}{'runs':>6}{'mean':>8}{'sd':>8}   from - to"]
    values = ({"validation loss": summary["loss"]} if summary["loss"] else {}) | summary["tasks"]
    for name, found in values.items():
        span = f"{found['min']:.3f} - {found['max']:.3f}"
        lines.append(f"{name[:37]:<38}{found['runs']:>6}{found['mean']:>8.3f}{found['sd']:>8.3f}   {span}")
    return "\n".join(lines)


def _verdict(difference: float, p_value: float) -> str:
    side = "better" if difference > 0 else "worse"
    return f"{side if p_value < SIGNIFICANT and difference else 'not better'} (p {p_value:.2g})"


def _loss_line(loss: Record) -> str:
    name = f"{'validation loss (nats a token)':<38}"
    if not loss.get("supervised_tokens"):
        return f"{name}none: there are no validation packs"
    return name + f"{loss['base']:.3f}" + (f" -> {loss['adapter']:.3f}" if loss.get("adapter") is not None else "")


def _line(record: Record) -> str:
    floors = _floors(record)
    shown = [_percent(floors.get("majority")), _percent(floors.get("TF-IDF"))]
    shown[0] = f"({_percent(floors['chance'])})" if "chance" in floors else shown[0]
    both = [_share(record[who]) if record[who] is not None else "" for who in ("base", "adapter")]
    return (
        f"{record['title'][:37]:<38}{record['n']:>6}{shown[0]:>10}{shown[1]:>8}   "
        f"{both[0]:<17}{both[1]:<17}{verdict(record)}".rstrip()
    )


def _notes(record: Record) -> list[str]:
    """Lines under the table: questions not asked, questions seen in training, answers that could not be read."""
    notes = ["each question has its own options, so the floor is chance"] if "chance" in _floors(record) else []
    if record["of_total"] > record["n"]:
        notes.append(f"{record['n']} of {record['of_total']} questions asked")
    seen = record["contamination"]["seen"]
    if seen is None:
        notes.append("it is unknown whether training has shown its questions")
    elif seen:
        notes.append(f"training has shown {seen} of its questions{_clean(record)}")
    for who in ("base", "adapter"):
        given = record[who] or {}
        rates = [f"{100 * given[rate]:.0f} % {rate}" for rate in ("unreadable", "unfinished") if given.get(rate)]
        notes += [f"{who} {' and '.join(rates)}"] if rates else []
    if record["metric"] == "categories":
        notes += [f"{who} {_batches(record[who])}" for who in ("base", "adapter") if record[who] is not None]
    return [f"  {record['title']}: {'; '.join(notes)}"] if notes else []


def _floors(record: Record) -> dict[str, float]:
    """The floors of a task as shares: `majority` and `TF-IDF`, or only `chance`; `{}` for free text."""
    floors = record["floors"]
    if floors is None:
        return {}
    if floors["majority"] is None:
        return {"chance": floors["chance"]}
    return {"majority": floors["majority"]["accuracy"], "TF-IDF": floors["tfidf"]["accuracy"]}


def _clean(record: Record) -> str:
    clean = record["contamination"]["clean"]
    if clean is None:
        return ""
    return "; without them " + ", ".join(f"{who} {_percent(found['mean'])}" for who, found in clean.items())


def _batches(given: Record) -> str:
    labels = given["transactions"]
    return f"{_percent(given['json_valid']['share'])} valid JSON, {_percent(labels['accuracy'])} of {labels['n']} right"


def _share(given: Record) -> str:
    low, high = given["interval"]
    return f"{_percent(given['score'])} ({100 * low:.0f}-{100 * high:.0f})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
