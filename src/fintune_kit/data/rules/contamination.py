"""Rows that hold a text which is kept for evaluation, so that a score on it would measure memory.

A row is contaminated by a hold-out text where they share eight words in a row (Brown et al. 2020, appendix C, use 13 on
web pages; our texts are sentences), or, for a hold-out text of fewer words, where one of the row's lines is that text,
or where a message is that text letter by letter. URL, case, punctuation and encoding damage make no difference: see
`words`.

What Sujet is known to contain is told from a row's own upstream name and only reported: whoever evaluates on these sets
must name another, or hold their texts out.
"""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.read.files import format_of, read_rows
from fintune_kit.data.read.lines import UnreadableFile
from fintune_kit.data.rules.words import squashed, words_of
from fintune_kit.errors import MissingInputError, UserError

GRAM = 8
"""Words in a row that two texts do not share by chance."""

KNOWN_BENCHMARKS = {
    "financial_phrasebank": "Financial PhraseBank (FPB): all its sentences",
    "finance-tasks_headline": "FLARE Headlines: its test split",
    "twitter-financial-news-sentiment": "TFNS: its train split",
    "twitter-financial-news-topic": "TFNS topic: its train split",
}
"""Part of an upstream dataset's name, and the benchmark whose texts it holds."""

_BETWEEN = "\n\x1f"
"""Between the messages of a row: no word, and no line of either."""
_SEGMENT = re.compile(r'[\n"“”]|(?<=\w):')


@dataclass(frozen=True)
class HoldOut:
    """Texts kept for evaluation, file after file."""

    names: list[str]
    files: list[int]
    """Of each text, the number of its file."""
    texts: list[str]


def read_hold_out(paths: Sequence[str | Path]) -> HoldOut:
    """Reads evaluation files: rows with a column `text`.

    Raises:
        MissingInputError: a file does not exist.
        UserError: it cannot be read, or a row of it has no text.
    """
    names, files, texts = [], [], []
    for number, path in enumerate(map(Path, paths)):
        if not path.is_file() or format_of(path) is None:
            raise MissingInputError(
                f"hold-out file {path} was not found; expected a .jsonl file of evaluation rows: check --hold-out"
            )
        try:
            rows = list(read_rows(path))
        except UnreadableFile as error:
            raise UserError(f"hold-out file cannot be read: {error}") from error
        for row in rows:
            text = (row.values or {}).get("text")
            if not isinstance(text, str):
                found = row.fault or f"columns {', '.join(map(repr, row.values or {}))}"
                raise UserError(
                    f"{path}, {row.place}: found {found}, expected an evaluation row with a `text`: mend the file, or "
                    "leave it out of --hold-out"
                )
            files.append(number)
            texts.append(text)
        names.append(path.name)
    return HoldOut(names, files, texts)


def contamination(candidates: Sequence[Candidate], hold_out: HoldOut) -> tuple[dict[int, str], dict[str, Any]]:
    """Positions of contaminated rows with the text that they hold, and what was found of each file."""
    matches = _matches(candidates, hold_out)
    findings: dict[int, str] = {}
    rows, texts = [Counter[str]() for _ in range(2)]
    seen: set[tuple[str, int]] = set()
    for position, text in sorted(matches):
        name = hold_out.names[hold_out.files[text]]
        if position not in findings:
            findings[position] = f"shares {name}, text {text - hold_out.files.index(hold_out.files[text]) + 1}"
            rows[name] += 1
        if (name, text) not in seen:
            seen.add((name, text))
            texts[name] += 1
    held = Counter(hold_out.names[file] for file in hold_out.files)
    summary = {
        name: {"texts": held[name], "texts_found": texts[name], "rows_refused": rows[name]} for name in hold_out.names
    }
    return findings, summary


def known_benchmarks(origins: Sequence[str]) -> dict[str, int]:
    """How many rows come from an upstream dataset that is known to hold a benchmark's texts."""
    counts: Counter[str] = Counter()
    for origin, rows in Counter(origins).items():
        for part, benchmark in KNOWN_BENCHMARKS.items():
            if part in origin.lower():
                counts[benchmark] += rows
    return dict(sorted(counts.items()))


def _matches(candidates: Sequence[Candidate], hold_out: HoldOut) -> list[tuple[int, int]]:
    """Pairs of a row and a hold-out text that contaminates it; of each way to match, one text a row."""
    if not hold_out.texts:
        return []
    texts = [_BETWEEN.join(message["content"] for message in candidate.messages) for candidate in candidates]
    with ThreadPoolExecutor(2) as threads:  # Arrow and NumPy leave the interpreter to the other one
        read = [threads.submit(_matches_read, texts, hold_out.texts, joined=joined) for joined in (False, True)]
        read.append(threads.submit(_matches_by_letter, texts, hold_out.texts))
    return [match for matches in read for match in matches.result()]


def _matches_read(texts: Sequence[str], held_texts: Sequence[str], *, joined: bool) -> list[tuple[int, int]]:
    """The same for one way to read punctuation inside words."""
    words, held_words = words_of(texts, joined=joined), words_of(held_texts, joined=joined)
    lengths, owners, numbers = held_words.lengths(), held_words.text_numbers(), words.text_numbers()
    matches: list[tuple[int, int]] = []
    may_hold_short = np.zeros(len(texts), bool)
    both = zip(held_words.grams(GRAM), words.grams(GRAM), strict=True)
    for size, ((held, within), (grams, complete)) in enumerate(both, start=1):
        wanted = within & (lengths[owners] == size if size < GRAM else lengths[owners] >= size)
        if not wanted.any():
            continue
        places, runs = _places_of(held[wanted], among=grams)
        rows, firsts = np.unique(numbers[places[complete[places]]], return_index=True)
        if size < GRAM:
            may_hold_short[rows] = True
        else:
            found = owners[wanted][runs[complete[places]][firsts]]
            matches += zip(rows.tolist(), found.tolist(), strict=True)
    keys = held_words.keys().tolist()
    short = {keys[text]: text for text in np.flatnonzero((lengths > 0) & (lengths < GRAM)).tolist()}
    return matches + _rows_with_segment(np.flatnonzero(may_hold_short).tolist(), texts, short, joined=joined)


def _matches_by_letter(texts: Sequence[str], held_texts: Sequence[str]) -> list[tuple[int, int]]:
    """Rows of which a message, or what follows its first colon, is a hold-out text once nothing stands between the
    letters: `Financial text:US gains (NYSEKNL)` holds `U.S. gains (NYSE:KNL)`, which no way to divide words shows."""
    held: dict[str, int] = {}
    for number, letters in enumerate(squashed(held_texts)):
        held.setdefault(letters, number)
    longest = 2 * max(map(len, held_texts))  # a longer passage is another text, whatever links it holds
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        for passage in text.split(_BETWEEN):
            for part in (passage, passage.partition(":")[2]):
                if 0 < len(part) <= longest:
                    rows.setdefault(part, []).append(row)
    found = zip(rows.values(), squashed(list(rows)), strict=True)
    return [(row, held[letters]) for holders, letters in found if letters and letters in held for row in holders]


def _places_of(held: NDArray[np.uint64], *, among: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in `among` that hold one of the `held` values, and the first place where `held` has it."""
    values, first = np.unique(held, return_index=True)
    where = np.minimum(np.searchsorted(values, among), len(values) - 1)
    places = np.flatnonzero(values[where] == among)
    return places, first[where[places]]


def _rows_with_segment(
    rows: Sequence[int], texts: Sequence[str], short: dict[int, int], *, joined: bool
) -> list[tuple[int, int]]:
    """Rows of which a message, a line, a quotation or what follows a colon is a short hold-out text, by its key."""
    owners: list[int] = []
    segments: list[str] = []
    for row in rows:
        parts: set[str] = set()
        for passage in texts[row].split(_BETWEEN):
            for line in (passage, *passage.split("\n")):
                parts |= {line, line.partition(":")[2], *_SEGMENT.split(line)}
        segments.extend(sorted(parts))
        owners.extend([row] * len(parts))
    found = words_of(segments, joined=joined).keys().tolist()
    return [(row, short[key]) for row, key in zip(owners, found, strict=True) if key in short]
