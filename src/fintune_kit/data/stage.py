"""The whole of stage 1: sources in, `conversations/` out.

    conversations/
        train.parquet, validation.parquet    messages, task_type, source, conversation_id, row_id
        rejected.parquet                     row_id, source, row (as JSON text), rule, detail
        report.json                          the funnel, the repairs, the mix before and after
        manifest.json

The stage asserts that rows read = rows in train + validation + rejected.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from fintune_kit.bank.conversations import TRAIN, to_conversations
from fintune_kit.bank.synthetic.generate import generate_statements
from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation, write_conversations
from fintune_kit.data import report
from fintune_kit.data.batches import batch_converter
from fintune_kit.data.choose.scoring import score
from fintune_kit.data.choose.selection import Selection, select
from fintune_kit.data.choose.split import validation_rows
from fintune_kit.data.convert.columns import check_mapping
from fintune_kit.data.convert.rows import Converter
from fintune_kit.data.corpus import Corpus, Findings, Refusal
from fintune_kit.data.read.sources import Source, parse_sources, read_source
from fintune_kit.data.rules import duplicates, quality
from fintune_kit.data.rules.catalogue import RULES
from fintune_kit.data.rules.contamination import ExcludedTexts, contamination, known_benchmarks, read_excluded
from fintune_kit.data.rules.finance import finance_weight, not_finance
from fintune_kit.data.rules.label_errors import label_errors
from fintune_kit.data.rules.labels import OPEN, labels_of
from fintune_kit.data.rules.language import Languages
from fintune_kit.data.rules.prompts import Prompts, compare_prompts
from fintune_kit.data.rules.support import unsupported_answer
from fintune_kit.errors import UserError
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import tokenizer_of
from fintune_kit.workspace import Workspace, replacing_folder, write_json, write_manifest

REJECTED = pa.schema([(name, pa.string()) for name in ("row_id", "source", "row", "rule", "detail")])
MAX_REFUSALS_AT_ONCE = 65_536
"""Refused rows that become a table of `rejected.parquet` together."""
BATCH_SHARE = 0.1
"""Of a recipe's transactions, this share is asked for several at a time, with a JSON answer."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that decide which rows are chosen."""

    examples: int
    """Conversations to choose, for training and validation together; all that pass, where fewer do."""
    validation_share: float
    seed: int
    max_length: int
    """Tokens of the longest conversation that is kept."""
    finance_only: Literal["mixed", "all", "none"] = "mixed"
    """Which datasets lose their open questions that are not about finance: those that are known to be mixed, or all."""
    label_errors: bool = True
    """Refuse rows of closed questions whose label is probably wrong."""
    selection: Selection = "best"
    """How rows are chosen where more pass than are wanted."""
    system_prompt: str | None = None
    """Added to rows that have none."""
    mapping: Mapping[str, str] | None = None
    """Role to column, as `convert.columns` says."""


def prepare(
    recipe: Recipe,
    workspace: Workspace,
    *,
    sources: Sequence[str] | None = None,
    out: Path | None = None,
    examples: int | None = None,
    seed: int | None = None,
    excluded: Sequence[str | Path] = (),
    mapping: Mapping[str, str] | None = None,
    finance_only: bool | None = None,
    label_errors: bool = True,
    selection: Selection = "best",
    processes: int = 1,
    announce: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Stage 1 of a recipe: rows of its sources become `conversations/`. Returns the report that it writes.

    Args:
        sources: files, folders or hub ids, as `read.sources` spells them; None takes the recipe's.
        out: None takes `conversations/` of the workspace.
        examples: conversations to choose; None takes the recipe's number.
        seed: None takes the recipe's.
        excluded: evaluation files whose texts must not be learned.
        mapping: role to column, where columns are not recognised (see `convert.columns`).
        finance_only: refuses open questions that are not about finance in all sources (True) or in none (False). None
            judges only datasets that are known to hold general questions too, if the recipe says so.
        label_errors: refuses rows of closed questions whose label is probably wrong.
        selection: how rows are chosen where more pass than are wanted: `random` draws them, `balanced` draws them in
            shares of task types and labels, `best` takes the best of each share.
        processes: that convert rows. Their number changes no byte of the result.
        announce: is told how each file was read.

    Raises:
        UserError: a source or an excluded file cannot be found or read, no layout or several fit its columns, no row
            passes, or `processes` is below 1. Nothing is written then.
    """
    report = prepare_conversations(
        sources=tuple(sources) if sources else recipe_sources(recipe, workspace),
        out=out or workspace.folder("conversations"),
        settings=Settings(
            examples=recipe.data.examples if examples is None else examples,
            validation_share=recipe.data.validation_share,
            seed=recipe.seed if seed is None else seed,
            max_length=recipe.pack.max_length,
            finance_only=_finance_scope(finance_only, recipe),
            label_errors=label_errors,
            selection=selection,
            system_prompt=recipe.data.system_prompt,
            mapping=mapping,
        ),
        encoder=ChatEncoder.load(tokenizer_of(recipe, workspace)),
        excluded=excluded,
        processes=processes,
        announce=announce,
    )
    if out is None:
        given = _given(sources=sources, examples=examples, seed=seed)
        workspace.keep(recipe.changed(given, origin="prepare"), stage="conversations")
    return report


def _given(*, sources: Sequence[str] | None, examples: int | None, seed: int | None) -> dict[str, Any]:
    """The values of the recipe that the arguments of `prepare` replace, by name."""
    given = {"data.sources": sources or None, "data.examples": examples, "seed": seed}
    given |= {"data.transactions": 0} if sources else {}
    return {name: value for name, value in given.items() if value is not None}


def _finance_scope(asked: bool | None, recipe: Recipe) -> Literal["mixed", "all", "none"]:
    if asked is None:
        return "mixed" if recipe.data.finance_only else "none"
    return "all" if asked else "none"


def recipe_sources(recipe: Recipe, workspace: Workspace) -> tuple[str, ...]:
    """The sources of a recipe. Where it has transactions, these are generated first, in the workspace.

    statements/     statements.csv: transactions of invented people
    transactions/   train.jsonl, unseen_merchants.jsonl (merchants that only the evaluation's task `transactions` asks)
    """
    if not recipe.data.transactions:
        return recipe.data.sources
    statements, folder = workspace.folder("statements"), workspace.folder("transactions")
    generate_statements(count=recipe.data.transactions, seed=recipe.seed, out=statements)
    to_conversations(statements, out=folder, seed=recipe.seed, batch_share=BATCH_SHARE)
    return (*recipe.data.sources, str(folder / TRAIN))


def prepare_conversations(
    *,
    sources: Sequence[str],
    out: Path,
    settings: Settings,
    encoder: ChatEncoder | None,
    excluded: Sequence[str | Path] = (),
    processes: int = 1,
    announce: Callable[[str], None] = print,
) -> dict[str, Any]:
    """As `prepare`, with every value given.

    Args:
        encoder: measures lengths. None leaves the rule `over_length` out, and the report says so.
    """
    check_mapping(settings.mapping)
    parsed, texts = parse_sources(sources), read_excluded(excluded)
    converter, inputs = _convert(parsed, settings, processes=processes, announce=announce)
    corpus = converter.corpus
    _check_any(converter, sources)
    labels = labels_of(corpus.conversations, corpus.origins)
    prompts, contaminated = _apply_rules(corpus, labels, settings=settings, encoder=encoder, excluded=texts)
    _check_any(converter, sources)
    _choose(corpus, labels, sources=parsed, settings=settings)
    splits = _split(corpus, prompts, settings=settings)
    del prompts  # a million of them take hundreds of megabytes
    refusals = list(corpus.refusals())
    assert converter.rows == sum(map(len, splits)) + len(refusals), "a row vanished"
    summary = {
        **_summary(corpus, labels, splits, refusals, rows=converter.rows, encoder=encoder),
        **converter.account(),
        "contamination": {"excluded": contaminated, "known_by_name": _known_by_name(corpus)},
        "settings": {
            **asdict(settings),
            "mapping": dict(settings.mapping or {}),
            "lengths_measured_by": encoder.fingerprint if encoder else None,
        },
    }
    _write(Path(out), *splits, refusals, summary=summary, inputs=inputs)
    return summary


def _convert(
    sources: Sequence[Source], settings: Settings, *, processes: int, announce: Callable[[str], None]
) -> tuple[Converter, dict[str, str]]:
    """All rows of the sources, converted; and the SHA-256 of each file."""
    inputs = {}
    with batch_converter(processes, mapping=settings.mapping, system_prompt=settings.system_prompt) as convert_all:
        converter = Converter(convert_all)
        for file in (file for source in sources for file in read_source(source)):
            announce(converter.convert(file))
            inputs[file.name] = file.sha256
    converter.check_layouts()
    return converter, inputs


ADVICE = {
    "not_finance": "give --data.no-finance-only (in Python finance_only=False) to keep rows on other subjects",
    "contamination": "give fewer files to --hold-out, or other rows to --source",
    "over_length": "raise pack.max_length in the recipe",
    "missing_or_empty": "check --source, and with --map which column holds the answers",
}
"""Advice for a user whose rows were mostly refused by one rule."""


def _check_any(converter: Converter, sources: Sequence[str]) -> None:
    """Raises UserError where no row is left; it names the rule that refused most of them."""
    if converter.corpus.kept():
        return
    refusals = list(converter.corpus.refusals())
    read = f"none of the {converter.rows:,} rows of {', '.join(sources)} became a conversation"
    if not refusals:
        fault = next((file["fault"] for file in converter.files if file["fault"]), "there are no rows")
        raise UserError(f"{read} ({fault}); expected rows with a question and an answer: check --source")
    rule, count = Counter(refusal.rule for refusal in refusals).most_common(1)[0]
    first = next(refusal for refusal in refusals if refusal.rule == rule)
    raise UserError(
        f"{read}: the rule {rule} refused {count:,} ({RULES[rule]}; the first: {first.row_id}: {first.detail}); "
        f"expected rows with a question and an answer: {ADVICE.get(rule, 'check --source and --map')}"
    )


def _apply_rules(
    corpus: Corpus, labels: Sequence[str], *, settings: Settings, encoder: ChatEncoder | None, excluded: ExcludedTexts
) -> tuple[Prompts, dict[str, Any]]:
    """Marks the rows that break a rule, one rule after another.

    Returns:
        The prompts, for the split; and for each excluded file the counts of its texts, for the report.
    """
    conversations = corpus.conversations
    with tqdm(desc="rules", total=12, unit=" rules", leave=False, disable=None) as progress:

        def refuse(rule: str, findings: Findings) -> None:
            """Marks the findings of a rule, and moves the progress bar on."""
            corpus.refuse(rule, findings)
            progress.update()

        found = corpus.row_findings
        refuse("missing_or_empty", found.get("missing_or_empty", {}))
        refuse("answer_equals_prompt", found.get("answer_equals_prompt", {}))
        refuse("cut_off", quality.cut_off(conversations, corpus.origins, corpus.kept()))
        refuse("refusal", found.get("refusal", {}))
        if encoder is not None:
            max_length = settings.max_length
            refuse(
                "over_length",
                quality.over_length(conversations, corpus.kept(), encoder=encoder, max_length=max_length),
            )
        refuse("exact_duplicate", duplicates.exact_duplicate(conversations, corpus.kept()))
        prompts, languages = compare_prompts(conversations, corpus.kept()), Languages(conversations, corpus.origins)
        refuse("near_duplicate", duplicates.near_duplicate(conversations, corpus.kept(), prompts, languages))
        refuse("conflicting_answers", duplicates.conflicting_answers(conversations, corpus.kept(), prompts))
        unsupported = unsupported_answer(conversations, corpus.origins, labels, corpus.kept())
        refuse("unsupported_answer", unsupported)
        if settings.label_errors:
            refuse("label_error", label_errors(conversations, labels, corpus.kept()))
        if settings.finance_only != "none":
            every = settings.finance_only == "all"
            off_topic = not_finance(conversations, corpus.origins, labels, corpus.kept(), languages, every_origin=every)
            refuse("not_finance", off_topic)
        findings, contaminated = contamination(conversations, corpus.kept(), excluded)
        refuse("contamination", findings)
    return prompts, contaminated


def _choose(corpus: Corpus, labels: Sequence[str], *, sources: Sequence[Source], settings: Settings) -> None:
    """Marks the rows that pass and are not chosen."""
    kept = corpus.kept()
    if len(kept) <= settings.examples and not any(source.count or source.weight for source in sources):
        return
    scores = dict.fromkeys(kept, 0.0)
    if settings.selection == "best":
        scores = {index: _score(corpus.conversations[index], is_open=labels[index] == OPEN) for index in kept}
    chosen = select(
        corpus.conversations,
        kept,
        examples=settings.examples,
        labels=labels,
        is_balanced=settings.selection != "random",
        scores=scores,
        sources=sources,
        seed=settings.seed,
    )
    said = {i: f"score {scores[i]:.3f}" if settings.selection == "best" else "drawn by the seed" for i in kept}
    others = f"{len(chosen):,} others were chosen"
    corpus.refuse("not_selected", {i: f"{said[i]}: {others}" for i in set(kept).difference(chosen)})


def _score(conversation: Conversation, *, is_open: bool) -> float:
    weight = finance_weight(conversation.prompt, conversation.answer)[0] if is_open else 0.0
    return score(conversation, is_open=is_open, finance_weight=weight)


def _split(corpus: Corpus, prompts: Prompts, *, settings: Settings) -> tuple[list[Conversation], list[Conversation]]:
    """Training and validation conversations. Conversations and groups of similar prompts stay on one side."""
    kept = corpus.kept()
    is_validation = validation_rows(
        prompts.groups(corpus.conversations, kept),
        task_types=[corpus.conversations[index].task_type for index in kept],
        share=settings.validation_share,
        seed=settings.seed,
    )
    train, validation = (
        [corpus.conversations[kept[i]] for i in np.flatnonzero(is_validation == side).tolist()]
        for side in (False, True)
    )
    return train, validation


def _summary(
    corpus: Corpus,
    labels: Sequence[str],
    splits: tuple[list[Conversation], list[Conversation]],
    refusals: Sequence[Refusal],
    *,
    rows: int,
    encoder: ChatEncoder | None,
) -> dict[str, Any]:
    """The counts and examples of the report."""
    train, validation = splits
    return {
        "rows_read": rows,
        "rows_kept": len(train) + len(validation),
        "rows_refused": len(refusals),
        "train": len(train),
        "validation": len(validation),
        "funnel": report.funnel(rows, refusals),
        **report.tables(corpus, refusals),
        "rule_examples": report.rule_examples(refusals),
        "mix": {
            "before": _mix(corpus, labels, range(len(labels))),
            "after": _mix(corpus, labels, corpus.kept()),
        },
        "tokens": report.token_lengths(train, encoder) if encoder else None,
        "rows_to_look_at": report.rows_to_look_at(corpus, train, validation),
    }


def _mix(corpus: Corpus, labels: Sequence[str], indices: Sequence[int]) -> dict[str, dict[str, int]]:
    task_types = [corpus.conversations[index].task_type for index in indices]
    return report.mix(task_types, [labels[index] for index in indices])


def _known_by_name(corpus: Corpus) -> dict[str, dict[str, int]]:
    return {
        "rows_read": known_benchmarks([*corpus.origins, *(refusal.origin for refusal in corpus.unconverted)]),
        "rows_kept": known_benchmarks(corpus.origins[index] for index in corpus.kept()),
    }


def _write(
    out: Path,
    train: Sequence[Conversation],
    validation: Sequence[Conversation],
    refusals: Sequence[Refusal],
    *,
    summary: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    with replacing_folder(out) as folder:
        for name, conversations in (("train", train), ("validation", validation)):
            write_conversations(folder / f"{name}.parquet", conversations)
        _write_refusals(folder / "rejected.parquet", refusals)
        write_json(folder / "report.json", summary)
        counts = {name: summary[name] for name in ("rows_read", "rows_kept", "rows_refused", "train", "validation")}
        write_manifest(folder, stage="conversations", inputs=inputs, counts=counts, settings=summary["settings"])


def _write_refusals(path: Path, refusals: Sequence[Refusal]) -> None:
    """Writes the refused rows one part after another, because a table of all of them is a second copy in memory."""
    with pq.ParquetWriter(path, REJECTED, compression="zstd") as file:
        for start in range(0, len(refusals), MAX_REFUSALS_AT_ONCE):
            part = refusals[start : start + MAX_REFUSALS_AT_ONCE]
            columns = {name: [getattr(refusal, name) for refusal in part] for name in REJECTED.names}
            file.write_table(pa.table(columns, schema=REJECTED))
