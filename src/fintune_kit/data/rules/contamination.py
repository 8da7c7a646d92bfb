"""Contamination: which training texts hold a text that is kept for evaluation, so that a score would measure memory.

A row holds an excluded text where both have the same eight words in a row (Brown et al. 2020, appendix C, use 13 on web
pages; our texts are sentences). An excluded text of fewer words must be a whole line of the row, or a whole message
letter by letter. URL, case, punctuation and encoding damage make no difference: see `words`.

`find_shared` is the method, for this stage and for the evaluation. Known benchmarks are told by a row's upstream name
and only reported: whoever evaluates on them must name another set, or exclude their texts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.read.files import format_of, read_rows
from fintune_kit.data.read.lines import UnreadableFileError
from fintune_kit.data.rules.words import letters_only, words_of
from fintune_kit.errors import MissingInputError, UserError

RUN = 8
"""Words in a row that two texts do not share by chance."""

KNOWN_BENCHMARKS = {
    "financial_phrasebank": "Financial PhraseBank (FPB): all its sentences",
    "finance-tasks_headline": "FLARE Headlines: its test split",
    "twitter-financial-news-sentiment": "TFNS: its train split",
    "twitter-financial-news-topic": "TFNS topic: its train split",
}
"""Part of an upstream dataset's name, and the benchmark whose texts it holds."""

_BETWEEN = "\n\x1f"
"""Stands between the messages of a row. It belongs to no word and to no line of either message."""
_SEGMENT = re.compile(r'[\n"“”]|(?<=\w):')


@dataclass(frozen=True)
class ExcludedTexts:
    """Texts that are kept for evaluation, file after file."""

    names: list[str]
    files: list[int]
    """For each text, the index of its file's name."""
    texts: list[str]


def read_excluded(paths: Sequence[str | Path]) -> ExcludedTexts:
    """Reads evaluation files: rows with a column `text`.

    Raises:
        MissingInputError: a file does not exist.
        UserError: a file cannot be read, or a row of it has no text.
    """
    names, files, texts = [], [], []
    for number, path in enumerate(map(Path, paths)):
        if not path.is_file() or format_of(path) is None:
            raise MissingInputError(
                f"hold-out file {path} was not found; expected a .jsonl file of evaluation rows: check --hold-out"
            )
        try:
            rows = list(read_rows(path))
        except UnreadableFileError as error:
            raise UserError(f"hold-out file cannot be read: {error}") from error
        for row in rows:
            text = (row.values or {}).get("text")
            if not isinstance(text, str):
                found = row.fault or f"columns {', '.join(map(repr, row.values or {}))}"
                raise UserError(
                    f"{path}, {row.location}: found {found}, expected an evaluation row with a `text`: mend the file, "
                    "or leave it out of --hold-out"
                )
            files.append(number)
            texts.append(text)
        names.append(path.name)
    return ExcludedTexts(names, files, texts)


def contamination(
    conversations: Sequence[Conversation], kept: Sequence[int], excluded: ExcludedTexts
) -> tuple[Findings, dict[str, Any]]:
    """The rows that hold an excluded text, with that text; and a summary of each file."""
    contents = [[message["content"] for message in conversations[index].messages] for index in kept]
    findings: Findings = {}
    rows = Counter[str]()
    pairs = find_shared(contents, excluded.texts)
    for row, text in sorted(pairs):
        if kept[row] not in findings:
            name = excluded.names[excluded.files[text]]
            findings[kept[row]] = f"shares {name}, text {text - excluded.files.index(excluded.files[text]) + 1}"
            rows[name] += 1
    texts = Counter(excluded.names[excluded.files[text]] for text in {text for _, text in pairs})
    counts = Counter(excluded.names[file] for file in excluded.files)
    summary = {
        name: {"texts": counts[name], "texts_found": texts[name], "rows_refused": rows[name]} for name in excluded.names
    }
    return findings, summary


def known_benchmarks(origins: Iterable[str]) -> dict[str, int]:
    """How many rows come from an upstream dataset that is known to hold a benchmark's texts."""
    counts: Counter[str] = Counter()
    for origin, rows in Counter(origins).items():
        for part, benchmark in KNOWN_BENCHMARKS.items():
            if part in origin.lower():
                counts[benchmark] += rows
    return dict(sorted(counts.items()))


def find_shared(rows: Sequence[Sequence[str]], texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of a row and a text that the row holds, as indices. Each way to compare gives at most one text a row.

    Args:
        rows: for each row of training, the contents of its messages.
        texts: the texts of an evaluation.
    """
    if not texts or not rows:
        return []
    joined = [_BETWEEN.join(contents) for contents in rows]
    with ThreadPoolExecutor(2) as threads:  # Arrow and NumPy leave the interpreter to the other thread
        found = [threads.submit(_shared_words, joined, texts, punctuation_joins=joins) for joins in (False, True)]
        found.append(threads.submit(_shared_letters, joined, texts))
    return [pair for pairs in found for pair in pairs.result()]


def _shared_words(rows: Sequence[str], texts: Sequence[str], *, punctuation_joins: bool) -> list[tuple[int, int]]:
    """Pairs that have eight words in a row in common, or all words of a shorter text as one line of the row."""
    row_words, text_words = (words_of(side, joined=punctuation_joins) for side in (rows, texts))
    lengths, text_of, row_of = text_words.lengths(), text_words.text_indices(), row_words.text_indices()
    pairs: list[tuple[int, int]] = []
    may_hold_short = np.zeros(len(rows), bool)
    both = zip(text_words.grams(RUN), row_words.grams(RUN), strict=True)
    for size, ((text_runs, within), (row_runs, complete)) in enumerate(both, start=1):
        wanted = within & (lengths[text_of] == size if size < RUN else lengths[text_of] >= size)
        if not wanted.any():
            continue
        starts, runs = _occurrences(text_runs[wanted], among=row_runs)
        indices, firsts = np.unique(row_of[starts[complete[starts]]], return_index=True)
        if size < RUN:
            may_hold_short[indices] = True
        else:
            found = text_of[wanted][runs[complete[starts]][firsts]]
            pairs += zip(indices.tolist(), found.tolist(), strict=True)
    keys = text_words.keys().tolist()
    short = {keys[text]: text for text in np.flatnonzero((lengths > 0) & (lengths < RUN)).tolist()}
    candidates = np.flatnonzero(may_hold_short).tolist()
    return pairs + _rows_with_segment(candidates, rows, short, punctuation_joins=punctuation_joins)


def _shared_letters(rows: Sequence[str], texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs in which a message, or the part after its first colon, has the same letters as the text.

    `Financial text:US gains (NYSEKNL)` holds `U.S. gains (NYSE:KNL)`, which no way to divide words shows.
    """
    by_letters: dict[str, int] = {}
    for index, letters in enumerate(letters_only(texts)):
        by_letters.setdefault(letters, index)
    max_length = 2 * max(map(len, texts))  # a longer passage is another text, even if it holds links
    rows_by_part: dict[str, list[int]] = {}
    for row, content in enumerate(rows):
        for message in content.split(_BETWEEN):
            for part in (message, message.partition(":")[2]):
                if 0 < len(part) <= max_length:
                    rows_by_part.setdefault(part, []).append(row)
    found = zip(rows_by_part.values(), letters_only(list(rows_by_part)), strict=True)
    return [(row, by_letters[letters]) for holders, letters in found if letters in by_letters and letters
            for row in holders]  # fmt: skip


def _occurrences(wanted: NDArray[np.uint64], *, among: NDArray[np.uint64]) -> tuple[NDArray[np.int64], ...]:
    """The indices in `among` that hold one of the wanted values, and for each the first index in `wanted`."""
    values, first = np.unique(wanted, return_index=True)
    nearest = np.minimum(np.searchsorted(values, among), len(values) - 1)
    indices = np.flatnonzero(values[nearest] == among)
    return indices, first[nearest[indices]]


def _rows_with_segment(
    candidates: Sequence[int], rows: Sequence[str], short: dict[int, int], *, punctuation_joins: bool
) -> list[tuple[int, int]]:
    """Rows in which a message, a line, a quotation or the part after a colon is a short text, by its key."""
    owners: list[int] = []
    segments: list[str] = []
    for row in candidates:
        parts: set[str] = set()
        for message in rows[row].split(_BETWEEN):
            for line in (message, *message.split("\n")):
                parts |= {line, line.partition(":")[2], *_SEGMENT.split(line)}
        segments.extend(sorted(parts))
        owners.extend([row] * len(parts))
    found = words_of(segments, joined=punctuation_joins).keys().tolist()
    return [(row, short[key]) for row, key in zip(owners, found, strict=True) if key in short]
