"""Contamination: which training texts hold a text that is kept for evaluation, so that a score would measure memory.

A row holds an evaluation text where it says the same in nearly the same words. Wording that the corpus uses all the
time does not count ("... announces timing of second quarter 2022 earnings release"), only the words that are left:

    six sevenths of the words that are left, and at least four of them     (a word or two differ)
    a run with eight of them, and half of the words that are left          (a part of the text)

A text of fewer than eight words, or of nearly nothing but wording, must be a whole line of the row, or a whole message
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
from rapidfuzz.distance import LCSseq

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.read.files import format_of, read_rows
from fintune_kit.data.read.lines import UnreadableFileError
from fintune_kit.data.rules.words import Words, letters_only, mix, words_of
from fintune_kit.errors import MissingInputError, UserError

RUN = 8
"""Words in a row that two texts do not share by chance, wording aside."""
GRAM = 4
"""Words in a row by which rows and texts are compared."""
MIN_CONTEXTS = 4
"""Words in a row that stand in this many different contexts are wording."""
MIN_WORDS = 4
"""Words besides wording that must agree."""
NEARLY_ALL = 6 / 7
HALF = 0.5
MAX_SHOWN_WORDS = 16

KNOWN_BENCHMARKS = {
    "financial_phrasebank": "Financial PhraseBank (FPB): all its sentences",
    "finance-tasks_headline": "FLARE Headlines: its test split",
    "twitter-financial-news-sentiment": "TFNS: its train split",
    "twitter-financial-news-topic": "TFNS topic: its train split",
}
"""Part of an upstream dataset's name, and the benchmark whose texts it holds."""

_BETWEEN = "\n\x1f"
"""Stands between the messages of a row. It belongs to no word and to no line of either message."""
_TABLE = 1 << 22
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


@dataclass(frozen=True)
class Match:
    """A row that holds a text."""

    row: int
    text: int
    words: str
    """The first of the words that they share."""


def contamination(
    conversations: Sequence[Conversation], kept: Sequence[int], excluded: ExcludedTexts
) -> tuple[Findings, dict[str, Any]]:
    """The rows that hold an excluded text, with that text and the shared words; and a summary of each file."""
    contents = [[message["content"] for message in conversations[index].messages] for index in kept]
    findings: Findings = {}
    rows = Counter[str]()
    matches = find_shared(contents, excluded.texts)
    for match in matches:
        if kept[match.row] not in findings:
            name = excluded.names[excluded.files[match.text]]
            number = match.text - excluded.files.index(excluded.files[match.text]) + 1
            findings[kept[match.row]] = f"shares {name}, text {number}: {match.words!r}"
            rows[name] += 1
    texts = Counter(excluded.names[excluded.files[text]] for text in {match.text for match in matches})
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


def find_shared(rows: Sequence[Sequence[str]], texts: Sequence[str]) -> list[Match]:
    """The rows that hold a text, sorted by row and text, each pair once.

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
    pairs: dict[tuple[int, int], str] = {}
    for matches in found:
        for match in matches.result():
            pairs.setdefault((match.row, match.text), match.words)
    return [Match(row, text, words) for (row, text), words in sorted(pairs.items())]


@dataclass(frozen=True)
class _Side:
    """The words of all rows or of all texts, with a hash of the `GRAM` words that begin at each of them."""

    words: Words
    grams: NDArray[np.uint64]
    complete: NDArray[np.bool_]
    """Whether these words are all of one text."""

    def contexts(self) -> NDArray[np.uint64]:
        """For each word, a hash of the word before it and of the word after the gram that begins with it."""
        hashes, offsets = self.words.hashes, self.words.offsets
        before = np.roll(hashes, 1)
        before[offsets[:-1][self.words.lengths() > 0]] = 0
        after = np.roll(hashes, -GRAM)
        after[np.repeat(offsets[1:], self.words.lengths()) - np.arange(len(hashes)) <= GRAM] = 0
        return mix(before * np.uint64(3) + after)


def _shared_words(rows: Sequence[str], texts: Sequence[str], *, punctuation_joins: bool) -> list[Match]:
    """The matches for one way to read punctuation inside words."""
    row_words, text_words = (words_of(side, joined=punctuation_joins) for side in (rows, texts))
    lengths, row_of, text_of = text_words.lengths(), row_words.text_indices(), text_words.text_indices()
    may_hold_line = np.zeros(len(rows), bool)
    both = zip(row_words.grams(RUN - 1), text_words.grams(RUN - 1), strict=True)
    for size, ((row_runs, row_complete), (text_runs, text_complete)) in enumerate(both, start=1):
        wanted = np.unique(text_runs[text_complete & (lengths[text_of] == size)])
        may_hold_line[row_of[row_complete & _is_in(row_runs, wanted)]] = True
        if size == GRAM:
            row_side = _Side(row_words, row_runs, row_complete)
            text_side = _Side(text_words, text_runs, text_complete)
    wording, pairs = _candidates(row_side, text_side)
    found = (_compare(row_words, text_words, *pair, wording) for pair in pairs if lengths[pair[1]] >= RUN)
    # A text that is nearly all wording is compared as short ones are: as a whole line.
    own = np.bincount(text_of, weights=~wording, minlength=len(texts))
    by_line = (lengths > 0) & ((lengths < RUN) | (own < MIN_WORDS))
    first = text_side.grams[text_words.offsets[:-1][by_line & (lengths >= RUN)]]
    may_hold_line[row_of[row_side.complete & _is_in(row_side.grams, np.unique(first))]] = True
    keys = text_words.keys().tolist()
    lines = {keys[text]: text for text in np.flatnonzero(by_line).tolist()}
    candidates = np.flatnonzero(may_hold_line).tolist()
    return [match for match in found if match] + _rows_with_segment(
        candidates, rows, lines, punctuation_joins=punctuation_joins
    )


def _candidates(row_side: _Side, text_side: _Side) -> tuple[NDArray[np.bool_], list[tuple[int, int, int]]]:
    """Which words of the texts are wording (bool, a word), and the pairs of a row and a text to compare.

    These share `GRAM` words in a row that are not wording. With them comes the index among the words of the row where
    the text would begin.
    """
    starts = np.flatnonzero(row_side.complete & _is_in(row_side.grams, np.unique(text_side.grams[text_side.complete])))
    text_starts = np.flatnonzero(text_side.complete)
    grams = np.concatenate([row_side.grams[starts], text_side.grams[text_starts]])
    contexts = np.concatenate([row_side.contexts()[starts], text_side.contexts()[text_starts]])
    order = np.lexsort((contexts, grams))
    is_new = np.ones(len(grams), bool)
    is_new[1:] = (grams[order][1:] != grams[order][:-1]) | (contexts[order][1:] != contexts[order][:-1])
    values, counts = np.unique(grams[order][is_new], return_counts=True)
    is_common = text_side.complete & _is_in(text_side.grams, values[counts >= MIN_CONTEXTS])
    wording = np.zeros(len(is_common), bool)
    for offset in range(GRAM):
        wording[offset:] |= is_common[: len(is_common) - offset]
    return wording, _pairs(row_side, text_side, starts, text_starts[~is_common[text_starts]])


def _pairs(
    row_side: _Side, text_side: _Side, starts: NDArray[np.int64], text_starts: NDArray[np.int64]
) -> list[tuple[int, int, int]]:
    """Each row and text that share a gram, once, with the index where the text would begin in the row."""
    row_of, text_of = row_side.words.text_indices(), text_side.words.text_indices()
    order = np.argsort(row_side.grams[starts], kind="stable")
    ordered = row_side.grams[starts][order]
    first = np.searchsorted(ordered, text_side.grams[text_starts], side="left")
    last = np.searchsorted(ordered, text_side.grams[text_starts], side="right")
    pairs: dict[tuple[int, int], int] = {}
    for start, low, high in zip(text_starts.tolist(), first.tolist(), last.tolist(), strict=True):
        text = int(text_of[start])
        within = start - int(text_side.words.offsets[text])
        for index in starts[order[low:high]].tolist():
            row = int(row_of[index])
            pairs.setdefault((row, text), index - within - int(row_side.words.offsets[row]))
    return [(row, text, begin) for (row, text), begin in pairs.items()]


def _compare(
    row_words: Words, text_words: Words, row: int, text: int, start: int, wording: NDArray[np.bool_]
) -> Match | None:
    """The match of a row and a text that may begin at word `start` of the row; None where too few words agree."""
    low, high = int(text_words.offsets[text]), int(text_words.offsets[text + 1])
    own = ~wording[low:high]
    slack = (high - low) // 4 + 3
    begin, end = int(row_words.offsets[row]), int(row_words.offsets[row + 1])
    left = begin + max(0, start - slack)
    right = min(end, begin + start + high - low + slack)
    there = row_words.hashes[left:right].tolist()
    agree, longest = np.zeros(high - low, bool), 0
    for block in LCSseq.opcodes(there, text_words.hashes[low:high].tolist()):
        if block.tag == "equal" and block.dest_end - block.dest_start >= 3:
            agree[block.dest_start : block.dest_end] = True
            longest = max(longest, int(own[block.dest_start : block.dest_end].sum()))
    shared, total = int((agree & own).sum()), int(own.sum())
    nearly_all = shared >= MIN_WORDS and shared >= NEARLY_ALL * total
    part = longest >= RUN and shared >= HALF * total
    if not (agree.all() or nearly_all or part):
        return None
    return Match(row, text, _spelled(text_words, text, agree))


def _spelled(words: Words, text: int, agree: NDArray[np.bool_]) -> str:
    codes = words.of(text)[agree].tolist()
    shown = " ".join(words.vocabulary[code] for code in codes[:MAX_SHOWN_WORDS])
    return f"{shown} ..." if len(codes) > MAX_SHOWN_WORDS else shown


def _is_in(values: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each value is one of the wanted ones, which are sorted."""
    if not len(wanted):
        return np.zeros(len(values), bool)
    low_bits = np.uint64(_TABLE - 1)
    table = np.zeros(_TABLE, bool)
    table[wanted & low_bits] = True
    likely = np.flatnonzero(table[values & low_bits])  # a search among the wanted ones takes much longer
    found = np.zeros(len(values), bool)
    nearest = np.minimum(np.searchsorted(wanted, values[likely]), len(wanted) - 1)
    found[likely] = wanted[nearest] == values[likely]
    return found


def _shared_letters(rows: Sequence[str], texts: Sequence[str]) -> list[Match]:
    """Matches in which a message, or the part after its first colon, has the same letters as the text.

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
    return [
        Match(row, by_letters[letters], " ".join(texts[by_letters[letters]].split()[:MAX_SHOWN_WORDS]))
        for holders, letters in found
        if letters and letters in by_letters
        for row in holders
    ]


def _rows_with_segment(
    candidates: Sequence[int], rows: Sequence[str], short: dict[int, int], *, punctuation_joins: bool
) -> list[Match]:
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
    return [
        Match(row, short[key], segment.strip())
        for row, segment, key in zip(owners, segments, found, strict=True)
        if key in short
    ]
