"""The whole of stage 1: sources in, `conversations/` out.

    conversations/
        train.parquet, validation.parquet    messages, task_type, source, conversation_id, row_id
        rejected.parquet                     row_id, source, row (as JSON text), rule, detail
        report.json                          the funnel, the repairs, the mix before and after
        manifest.json

rows read = rows in train + validation + rejected; the stage asserts it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fintune_kit.chatml import ChatEncoder, find_fault
from fintune_kit.data.columns import check_mapping, map_row, recognise, unmapped_columns_error
from fintune_kit.data.corpus import Candidate, Corpus, Refusal, row_json
from fintune_kit.data.quality import answer_equals_prompt, exact_duplicate, missing_or_empty
from fintune_kit.data.repair import repair
from fintune_kit.data.selection import hold_out_groups, labels_of, select
from fintune_kit.data.sources import LoadedFile, Source, parse_sources, read_source
from fintune_kit.data.unfit import UnfitRow
from fintune_kit.errors import UserError
from fintune_kit.workspace import replacing_folder, write_json, write_manifest

CONVERSATIONS = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("task_type", pa.string()),
        ("source", pa.string()),
        ("conversation_id", pa.string()),
        ("row_id", pa.string()),
    ]
)
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
) -> dict[str, Any]:
    """Reads, maps, repairs, judges, selects and writes; returns the report that it writes.

    Raises:
        UserError: a source cannot be found or none of its rows can be read; nothing is written then.
    """
    check_mapping(mapping)
    parsed = parse_sources(sources)
    corpus = Corpus()
    files: list[dict[str, Any]] = []
    inputs: dict[str, str] = {}
    for source in parsed:
        for file in read_source(source):
            files.append(_take_in(file, corpus, mapping=mapping, system_prompt=system_prompt))
            inputs[file.name] = file.sha256
    rows_read = len(corpus.candidates) + len(corpus.refusals)
    if not corpus.candidates:
        raise UserError(f"no row of {', '.join(sources)} could be read as a conversation")
    before = _mix(corpus.candidates)
    for rule in (missing_or_empty, answer_equals_prompt, exact_duplicate):
        corpus.refuse(rule(corpus.candidates), rule=rule.__name__)
    chosen = set(
        select(corpus.candidates, examples=examples, scores=[0.0] * len(corpus.candidates), sources=parsed, seed=seed)
    )
    corpus.refuse(
        {p: "not among the best of its stratum" for p in range(len(corpus.candidates)) if p not in chosen},
        rule="not_selected",
    )
    groups: dict[str, int] = {}
    held = hold_out_groups(
        [groups.setdefault(c.conversation_id, len(groups)) for c in corpus.candidates],
        task_types=[c.task_type for c in corpus.candidates],
        share=validation_share,
        seed=seed,
    )
    train = [c for c, h in zip(corpus.candidates, held, strict=True) if not h]
    validation = [c for c, h in zip(corpus.candidates, held, strict=True) if h]
    assert rows_read == len(train) + len(validation) + len(corpus.refusals), "a row vanished"
    report = {
        "rows_read": rows_read,
        "kept": len(train) + len(validation),
        "train": len(train),
        "validation": len(validation),
        "refused": dict(Counter(refusal.rule for refusal in corpus.refusals)),
        "files": files,
        "mix_before": before,
        "mix_after": _mix(corpus.candidates),
    }
    with replacing_folder(Path(out)) as folder:
        _write_conversations(folder / "train.parquet", train)
        _write_conversations(folder / "validation.parquet", validation)
        _write_rejected(folder / "rejected.parquet", corpus.refusals)
        write_json(folder / "report.json", report)
        write_manifest(
            folder,
            stage="conversations",
            inputs=inputs,
            counts={k: report[k] for k in ("rows_read", "kept", "train", "validation")},
        )
    return report


def _take_in(
    file: LoadedFile, corpus: Corpus, *, mapping: Mapping[str, str] | None, system_prompt: str | None
) -> dict[str, Any]:
    read_as: Counter[str] = Counter()
    for number, row in enumerate(file.rows, start=1):
        row_id = f"{file.name}#{number}"

        def refuse(rule: str, detail: str, text: str, row_id: str = row_id) -> None:
            corpus.refusals.append(Refusal(row_id, file.name, file.name, "(unread)", text, rule, detail))

        if row.values is None:
            refuse("unreadable", f"{row.place}: {row.fault}", row.raw or "")
            continue
        layout = recognise(row.values, mapping)
        if isinstance(layout, str):
            refuse("unmapped", f"{row.place}: the columns {layout}", row_json(row.values))
            continue
        try:
            mapped = map_row(layout, row.values, system_prompt=system_prompt)
        except UnfitRow as error:
            refuse(error.rule, f"{row.place}: {error.detail}", row_json(row.values))
            continue
        for message in mapped.messages:
            message["content"] = repair(message["content"])
        if fault := find_fault(mapped.messages):
            refuse("roles", f"{row.place}: {fault}", row_json(row.values))
            continue
        read_as[layout.name] += 1
        conversation = f"{file.name}#{mapped.conversation}" if mapped.conversation else row_id
        corpus.candidates.append(
            Candidate(
                row_id,
                file.name,
                mapped.origin or file.name,
                mapped.task_type,
                conversation,
                mapped.messages,
                row.values,
            )
        )
    if file.rows and not read_as:
        columns = list(dict.fromkeys(name for row in file.rows for name in row.values or ()))
        raise unmapped_columns_error(file.name, columns, "fit no known layout")
    return {"name": file.name, "rows": len(file.rows), "read_as": dict(read_as), "fault": file.fault}


def _mix(candidates: Sequence[Candidate]) -> dict[str, Any]:
    labels = labels_of(candidates)
    mix: dict[str, Counter[str]] = {}
    for candidate, label in zip(candidates, labels, strict=True):
        mix.setdefault(candidate.task_type, Counter())[label] += 1
    return {task: dict(counts.most_common()) for task, counts in sorted(mix.items())}


def _write_conversations(path: Path, candidates: Sequence[Candidate]) -> None:
    columns = {
        "messages": [c.messages for c in candidates],
        "task_type": [c.task_type for c in candidates],
        "source": [c.source for c in candidates],
        "conversation_id": [c.conversation_id for c in candidates],
        "row_id": [c.row_id for c in candidates],
    }
    pq.write_table(pa.table(columns, schema=CONVERSATIONS), path)


def _write_rejected(path: Path, refusals: Sequence[Refusal]) -> None:
    columns = {name: [getattr(refusal, name) for refusal in refusals] for name in REJECTED.names}
    pq.write_table(pa.table(columns, schema=REJECTED), path)
