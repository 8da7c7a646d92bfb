"""The whole of stage 1: sources in, `conversations/` out.

    conversations/
        train.parquet, validation.parquet    messages, task_type, source, conversation_id, row_id
        rejected.parquet                     row_id, source, row (as JSON text), rule, detail
        report.json                          the funnel, the repairs, the mix before and after
        manifest.json

rows read = rows in train + validation + rejected; the stage asserts it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import write_conversations
from fintune_kit.data import report
from fintune_kit.data.choose.scoring import scores_of
from fintune_kit.data.choose.selection import hold_out_groups, select
from fintune_kit.data.convert.columns import check_mapping
from fintune_kit.data.convert.intake import Intake
from fintune_kit.data.corpus import Candidate, Corpus, Refusal
from fintune_kit.data.read.sources import Source, parse_sources, read_source
from fintune_kit.data.rules import quality
from fintune_kit.data.rules.contamination import HoldOut, contamination, known_benchmarks, read_hold_out
from fintune_kit.data.rules.duplicates import conflicting_answers, near_duplicate
from fintune_kit.data.rules.finance import finance_weights, not_finance
from fintune_kit.data.rules.prompts import Prompts, compare_prompts
from fintune_kit.errors import UserError
from fintune_kit.workspace import replacing_folder, write_json, write_manifest

REJECTED = pa.schema([(name, pa.string()) for name in ("row_id", "source", "row", "rule", "detail")])


def prepare_conversations(
    *,
    sources: Sequence[str],
    out: Path,
    examples: int,
    validation_share: float,
    seed: int,
    encoder: ChatEncoder | None,
    max_length: int,
    hold_out: Sequence[str | Path] = (),
    mapping: Mapping[str, str] | None = None,
    system_prompt: str | None = None,
    finance_only: bool = True,
    announce: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Reads, maps, repairs, judges, selects and writes; returns the report that it writes.

    Args:
        sources: as `sources` spells them; `mapping`: role to column, as `columns` does.
        examples: conversations to choose, training and validation together; all that pass where fewer do.
        encoder: measures lengths; None leaves `over_length` out, and the report says so.
        hold_out: evaluation files whose texts must not be learned.
        announce: told what each file was read as.

    Raises:
        UserError: a source or hold-out file cannot be found or read, no layout or several fit its columns, or no row
            passes; nothing is written then.
    """
    check_mapping(mapping)
    parsed, held_out = parse_sources(sources), read_hold_out(hold_out)
    intake = Intake(mapping=mapping, system_prompt=system_prompt)
    inputs = {}
    for file in (file for source in parsed for file in read_source(source)):
        announce(intake.take(file))
        inputs[file.name] = file.sha256
    corpus = intake.corpus
    _check_any(corpus, intake, sources)
    before = report.mix(corpus.candidates)
    judged = _apply_rules(corpus, encoder=encoder, max_length=max_length, held_out=held_out, finance_only=finance_only)
    _check_any(corpus, intake, sources)
    _choose(corpus, judged, examples=examples, sources=parsed, seed=seed)
    train, validation = _split(corpus.candidates, judged.prompts, share=validation_share, seed=seed)
    assert intake.rows == len(train) + len(validation) + len(corpus.refusals), "a row vanished"
    summary = {
        "rows_read": intake.rows,
        "rows_kept": len(corpus.candidates),
        "rows_refused": len(corpus.refusals),
        "train": len(train),
        "validation": len(validation),
        "funnel": report.funnel(intake.rows, corpus.refusals),
        **report.tables(corpus.candidates, corpus.refusals),
        "mix": {"before": before, "after": report.mix(corpus.candidates)},
        **intake.account(),
        "contamination": {"hold_out": judged.contaminated, "known_by_name": _known_by_name(corpus)},
        "settings": {
            "examples": examples,
            "validation_share": validation_share,
            "seed": seed,
            "max_length": max_length,
            "lengths_measured_by": encoder.fingerprint if encoder else None,
            "finance_only": finance_only,
            "system_prompt": system_prompt,
            "mapping": dict(mapping or {}),
        },
    }
    _write(Path(out), train, validation, corpus.refusals, summary=summary, inputs=inputs)
    return summary


def _known_by_name(corpus: Corpus) -> dict[str, dict[str, int]]:
    kept = [candidate.origin for candidate in corpus.candidates]
    read = kept + [refusal.origin for refusal in corpus.refusals]
    return {"rows_read": known_benchmarks(read), "rows_kept": known_benchmarks(kept)}


@dataclass(frozen=True)
class Judged:
    """What the rules found out that selection, split and report use."""

    prompts: Prompts
    finance_weights: dict[str, float]
    """By row id."""
    contaminated: dict[str, Any]
    """By hold-out file."""


def _check_any(corpus: Corpus, intake: Intake, sources: Sequence[str]) -> None:
    if corpus.candidates:
        return
    faults = [file["fault"] for file in intake.files if file["fault"]]
    first = next((f"{r.row_id}: {r.rule}: {r.detail}" for r in corpus.refusals), faults[0] if faults else "no rows")
    raise UserError(
        f"none of the {intake.rows:,} rows of {', '.join(sources)} became a conversation (the first: {first}); "
        "expected rows with a question and an answer: check --source and --map"
    )


def _apply_rules(
    corpus: Corpus, *, encoder: ChatEncoder | None, max_length: int, held_out: HoldOut, finance_only: bool
) -> Judged:
    """Refuses what breaks a rule, rule after rule."""
    with tqdm(desc="rules", total=10, unit=" rules", leave=False, disable=None) as progress:

        def refuse(rule: str, findings: dict[int, str]) -> None:
            corpus.refuse(findings, rule=rule)
            progress.update()

        refuse("missing_or_empty", quality.missing_or_empty(corpus.candidates))
        refuse("answer_equals_prompt", quality.answer_equals_prompt(corpus.candidates))
        refuse("cut_off", quality.cut_off(corpus.candidates))
        refuse("refusal", quality.refusal(corpus.candidates))
        if encoder is not None:
            refuse("over_length", quality.over_length(corpus.candidates, encoder=encoder, max_length=max_length))
        refuse("exact_duplicate", quality.exact_duplicate(corpus.candidates))
        prompts = compare_prompts(corpus.candidates)
        refuse("near_duplicate", near_duplicate(corpus.candidates, prompts))
        refuse("conflicting_answers", conflicting_answers(corpus.candidates, prompts))
        weights = finance_weights(corpus.candidates)
        by_row = {candidate.row_id: weight for candidate, weight in zip(corpus.candidates, weights, strict=True)}
        if finance_only:
            refuse("not_finance", not_finance(corpus.candidates, weights))
        findings, contaminated = contamination(corpus.candidates, held_out)
        refuse("contamination", findings)
    return Judged(prompts, by_row, contaminated)


def _choose(corpus: Corpus, judged: Judged, *, examples: int, sources: Sequence[Source], seed: int) -> None:
    if len(corpus.candidates) <= examples and not any(source.count or source.weight for source in sources):
        return
    scores = scores_of(corpus.candidates, [judged.finance_weights[c.row_id] for c in corpus.candidates])
    chosen = set(select(corpus.candidates, examples=examples, scores=scores, sources=sources, seed=seed))
    findings = {
        position: f"score {score:.3f}: {examples:,} others were wanted more"
        for position, score in enumerate(scores)
        if position not in chosen
    }
    corpus.refuse(findings, rule="not_selected")


def _split(
    candidates: Sequence[Candidate], prompts: Prompts, *, share: float, seed: int
) -> tuple[list[Candidate], list[Candidate]]:
    """Training and validation rows. Conversations and groups of similar prompts stay on one side."""
    held = hold_out_groups(
        prompts.groups(candidates), task_types=[candidate.task_type for candidate in candidates], share=share, seed=seed
    )
    train, validation = (
        [c for c, is_held in zip(candidates, held, strict=True) if bool(is_held) is side] for side in (False, True)
    )
    return train, validation


def _write(
    out: Path,
    train: Sequence[Candidate],
    validation: Sequence[Candidate],
    refusals: Sequence[Refusal],
    *,
    summary: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    with replacing_folder(out) as folder:
        for name, candidates in (("train", train), ("validation", validation)):
            write_conversations(folder / f"{name}.parquet", candidates)
        columns = {name: [getattr(refusal, name) for refusal in refusals] for name in REJECTED.names}
        pq.write_table(pa.table(columns, schema=REJECTED), folder / "rejected.parquet", compression="zstd")
        write_json(folder / "report.json", summary)
        counts = {name: summary[name] for name in ("rows_read", "rows_kept", "rows_refused", "train", "validation")}
        write_manifest(folder, stage="conversations", inputs=inputs, counts=counts, settings=summary["settings"])
