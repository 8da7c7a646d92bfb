"""Contamination: which conversations hold a text that is kept for evaluation. A score on it would measure memory.

Stage 1 refuses such conversations, and the evaluation flags the questions that training has shown. Both use one method,
`find_shared`. A conversation holds a text if it says the same in nearly the same words. Wording does not count: runs of
words that stand in many contexts ("... announces timing of second quarter ...") or in very many conversations (the
question of a template). Of the other words of the text, these must agree:

    six sevenths, and at least eight             (a word or two differ)
    six sevenths, and at least four, with two thirds of the whole text
    eight in a row, and half of all              (a part of the text)

A text of fewer than eight words, or of little more than wording, must be a whole line of the conversation, or a whole
message letter by letter. URLs, case, punctuation and encoding damage make no difference (see `words`).

Rows are read in chunks, and only what they share with a text stays in memory. A run of words in more than 50 rows is
wording, so a text is compared with few rows: time grows linearly with both.

Some upstream datasets are known to hold a benchmark. They are known by name, and only reported.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
from fintune_kit.data.rules.words import URL, Words, letters_only, mix, words_of
from fintune_kit.errors import MissingInputError, UserError

RUN = 8
"""Words in a row that two texts do not share by chance, wording aside."""
GRAM = 4
"""Words in a row by which rows and texts are compared."""
MIN_CONTEXTS = 4
"""A run of words that stands in this many different contexts is wording."""
MAX_HITS = 50
"""A run of words that the rows hold more often than this is wording."""
MIN_WORDS = 4
"""Words besides wording that must agree."""
NEARLY_ALL = 6 / 7
TWO_THIRDS = 2 / 3
HALF = 1 / 2
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
_CHUNK = 1 << 22
"""Characters of the rows that are divided into words at once."""
_SEGMENT = re.compile(r'[\n"“”]|(?<=\w):|\s[-–—]\s')


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
    findings: Findings = {}
    rows = Counter[str]()
    matches = find_shared([_contents(conversations[index]) for index in kept], excluded.texts)
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


def shown_by(conversations: Sequence[Conversation], texts: Sequence[str]) -> list[bool]:
    """Whether the conversations hold each of the texts."""
    found = {match.text for match in find_shared([_contents(c) for c in conversations], texts)}
    return [index in found for index in range(len(texts))]


def _contents(conversation: Conversation) -> list[str]:
    return [message["content"] for message in conversation.messages]


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
        texts: the texts of an evaluation. Equal texts are found together.
    """
    if not texts or not rows:
        return []
    indices: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        indices.setdefault(text, []).append(index)
    distinct = list(indices)
    with ThreadPoolExecutor(2) as threads:  # Arrow and NumPy leave the interpreter to the other thread
        found = [threads.submit(_shared_words, rows, distinct, punctuation_joins=joins) for joins in (False, True)]
        found.append(threads.submit(_shared_letters, rows, distinct))
    pairs: dict[tuple[int, int], str] = {}
    for matches in found:
        for match in matches.result():
            for index in indices[distinct[match.text]]:
                pairs.setdefault((match.row, index), match.words)
    return [Match(row, text, words) for (row, text), words in sorted(pairs.items())]


def _chunks(rows: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[str]]]:
    """The rows in chunks, the messages of a row as one text; with the index of the chunk's first row."""
    first, size, chunk = 0, 0, []
    for index, contents in enumerate(rows):
        chunk.append(_BETWEEN.join(contents))
        size += len(chunk[-1])
        if size >= _CHUNK:
            yield first, chunk
            first, size, chunk = index + 1, 0, []
    if chunk:
        yield first, chunk


@dataclass(frozen=True)
class _Texts:
    """The words of all texts, with a hash of the `GRAM` words that begin at each of them."""

    words: Words
    grams: NDArray[np.uint64]
    complete: NDArray[np.bool_]
    """Whether these words are all of one text."""
    short: list[NDArray[np.uint64]]
    """For 1, 2, ... words: sorted hashes of the texts that have just so many."""

    @classmethod
    def of(cls, texts: Sequence[str], *, punctuation_joins: bool) -> "_Texts":
        """Divides texts into words. See `words_of` for `punctuation_joins`."""
        words = words_of(texts, joined=punctuation_joins)
        runs = list(words.grams(RUN - 1))
        length = words.lengths()[words.text_indices()]
        short = [np.unique(run[complete & (length == size)]) for size, (run, complete) in enumerate(runs, start=1)]
        return cls(words, *runs[GRAM - 1], short)


@dataclass(frozen=True)
class _Hits:
    """Where rows hold `GRAM` words in a row of some text. All arrays but the last have an entry for each hit."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    """Index of the first of the words in its row."""
    grams: NDArray[np.uint64]
    contexts: NDArray[np.uint64]
    holds_short: NDArray[np.bool_]
    """For each row, whether it holds the words of a text of fewer than `RUN` words."""


def _find_hits(rows: Sequence[Sequence[str]], texts: _Texts, *, punctuation_joins: bool) -> _Hits:
    holds_short = np.zeros(len(rows), bool)
    wanted = np.unique(texts.grams[texts.complete])
    parts = []
    for first, chunk in _chunks(rows):
        words = words_of(chunk, joined=punctuation_joins)
        row_of = words.text_indices()
        for size, (runs, complete) in enumerate(words.grams(RUN - 1), start=1):
            holds_short[first + row_of[complete & _is_in(runs, texts.short[size - 1])]] = True
            if size == GRAM:
                at = np.flatnonzero(complete & _is_in(runs, wanted))
                own = row_of[at]
                parts.append((first + own, at - words.offsets[own], runs[at], _contexts(words)[at]))
    rows_of, starts, grams, contexts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Hits(rows_of, starts, grams, contexts, holds_short)


def _contexts(words: Words) -> NDArray[np.uint64]:
    """For each word, a hash of the word before it and of the word after the gram that begins with it."""
    hashes, offsets = words.hashes, words.offsets
    before = np.roll(hashes, 1)
    before[offsets[:-1][words.lengths() > 0]] = 0
    after = np.roll(hashes, -GRAM)
    after[np.repeat(offsets[1:], words.lengths()) - np.arange(len(hashes)) <= GRAM] = 0
    return mix(before * np.uint64(3) + after)


def _shared_words(rows: Sequence[Sequence[str]], texts: Sequence[str], *, punctuation_joins: bool) -> list[Match]:
    """The matches for one way to read punctuation inside words."""
    read = _Texts.of(texts, punctuation_joins=punctuation_joins)
    hits = _find_hits(rows, read, punctuation_joins=punctuation_joins)
    is_common = read.complete & _is_in(read.grams, _common_grams(hits, read))
    wording = np.zeros(len(is_common), bool)
    for offset in range(GRAM):
        wording[offset:] |= is_common[: len(is_common) - offset]
    pairs = _pairs(hits, read, np.flatnonzero(read.complete & ~is_common))
    found = _compare_all(rows, read.words, pairs, wording, punctuation_joins=punctuation_joins)
    # A text that is nearly all wording is compared as short ones are: as a whole line.
    lengths = read.words.lengths()
    own = np.bincount(read.words.text_indices(), weights=~wording, minlength=len(texts))
    by_line = (lengths > 0) & ((lengths < RUN) | (own < MIN_WORDS))
    first = np.unique(read.grams[read.words.offsets[:-1][by_line & (lengths >= RUN)]])
    candidates = np.union1d(np.flatnonzero(hits.holds_short), hits.rows[_is_in(hits.grams, first)]).tolist()
    keys, lines = read.words.keys().tolist(), dict[int, list[int]]()
    for text in np.flatnonzero(by_line).tolist():
        lines.setdefault(keys[text], []).append(text)
    return found + _rows_with_segment(candidates, rows, lines, punctuation_joins=punctuation_joins)


def _common_grams(hits: _Hits, texts: _Texts) -> NDArray[np.uint64]:
    """The sorted hashes of the grams that are wording: those in many contexts, and those in very many places."""
    grams = np.concatenate([hits.grams, texts.grams[texts.complete]])
    contexts = np.concatenate([hits.contexts, _contexts(texts.words)[texts.complete]])
    order = np.lexsort((contexts, grams))
    is_new = np.ones(len(grams), bool)
    is_new[1:] = (grams[order][1:] != grams[order][:-1]) | (contexts[order][1:] != contexts[order][:-1])
    in_contexts, counts = np.unique(grams[order][is_new], return_counts=True)
    in_places, places = np.unique(hits.grams, return_counts=True)
    return np.union1d(in_contexts[counts >= MIN_CONTEXTS], in_places[places > MAX_HITS])


def _pairs(hits: _Hits, texts: _Texts, text_starts: NDArray[np.int64]) -> dict[int, dict[int, int]]:
    """By row, the texts of `RUN` words or more that share one of the grams at `text_starts` with it.

    With each text comes the index among the words of the row where the text would begin.
    """
    text_of, lengths = texts.words.text_indices(), texts.words.lengths()
    text_starts = text_starts[lengths[text_of[text_starts]] >= RUN]
    order = np.argsort(hits.grams, kind="stable")
    ordered = hits.grams[order]
    first = np.searchsorted(ordered, texts.grams[text_starts], side="left")
    last = np.searchsorted(ordered, texts.grams[text_starts], side="right")
    pairs: dict[int, dict[int, int]] = {}
    for start, low, high in zip(text_starts.tolist(), first.tolist(), last.tolist(), strict=True):
        text = int(text_of[start])
        within = start - int(texts.words.offsets[text])
        for hit in order[low:high].tolist():
            pairs.setdefault(int(hits.rows[hit]), {}).setdefault(text, int(hits.starts[hit]) - within)
    return pairs


def _compare_all(
    rows: Sequence[Sequence[str]],
    texts: Words,
    pairs: dict[int, dict[int, int]],
    wording: NDArray[np.bool_],
    *,
    punctuation_joins: bool,
) -> list[Match]:
    """The matches among the pairs. Only the rows of pairs are divided into words again."""
    needed = sorted(pairs)
    found = []
    for first, chunk in _chunks([rows[row] for row in needed]):
        words = words_of(chunk, joined=punctuation_joins)
        for index, row in enumerate(needed[first : first + len(chunk)]):
            hashes = words.hashes[words.offsets[index] : words.offsets[index + 1]]
            for text, start in pairs[row].items():
                shared = _compare(hashes, texts, text, start, wording)
                if shared is not None:
                    found.append(Match(row, text, shared))
    return found


def _compare(row: NDArray[np.uint64], texts: Words, text: int, start: int, wording: NDArray[np.bool_]) -> str | None:
    """The words that a row and a text share; None if these are too few.

    Args:
        row: hashes of the row's words.
        start: index of the word of the row at which the text may begin.
        wording: for each word of all texts, whether it is wording.
    """
    low, high = int(texts.offsets[text]), int(texts.offsets[text + 1])
    own = ~wording[low:high]
    slack = (high - low) // 4 + 3
    there = row[max(0, start - slack) : max(0, start + high - low + slack)].tolist()
    agree, longest = np.zeros(high - low, bool), 0
    for block in LCSseq.opcodes(there, texts.hashes[low:high].tolist()):
        if block.tag == "equal" and block.dest_end - block.dest_start >= 3:
            agree[block.dest_start : block.dest_end] = True
            longest = max(longest, int(own[block.dest_start : block.dest_end].sum()))
    shared, total = int((agree & own).sum()), int(own.sum())
    is_like = shared >= RUN or (shared >= MIN_WORDS and agree.sum() >= TWO_THIRDS * len(agree))
    nearly_all = is_like and shared >= NEARLY_ALL * total
    part = longest >= RUN and shared >= HALF * total
    return _spelled(texts, text, agree) if agree.all() or nearly_all or part else None


def _spelled(words: Words, text: int, agree: NDArray[np.bool_]) -> str:
    codes = words.of(text)[agree].tolist()
    shown = " ".join(words.word(code) for code in codes[:MAX_SHOWN_WORDS])
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


def _shared_letters(rows: Sequence[Sequence[str]], texts: Sequence[str]) -> list[Match]:
    """Matches in which a message, or the part after its first colon, has the same letters as the text.

    `Financial text:US gains (NYSEKNL)` holds `U.S. gains (NYSE:KNL)`. No way to divide words shows that.
    """
    by_letters: dict[str, list[int]] = {}
    for index, letters in enumerate(letters_only(texts).to_pylist()):
        by_letters.setdefault(letters, []).append(index)
    max_length = 2 * max(map(len, texts))  # a longer passage is another text, even if it holds links
    found = []
    for first, chunk in _chunks(rows):
        rows_by_part: dict[str, list[int]] = {}
        for row, joined in enumerate(chunk, start=first):
            for message in joined.split(_BETWEEN):
                for part in (message, message.partition(":")[2]):
                    if 0 < len(part) <= max_length:
                        rows_by_part.setdefault(part, []).append(row)
        for holders, letters in zip(rows_by_part.values(), letters_only(list(rows_by_part)).to_pylist(), strict=True):
            for text in by_letters.get(letters, []) if letters else []:
                shown = " ".join(texts[text].split()[:MAX_SHOWN_WORDS])
                found += [Match(row, text, shown) for row in holders]
    return found


def _rows_with_segment(
    candidates: Sequence[int], rows: Sequence[Sequence[str]], lines: dict[int, list[int]], *, punctuation_joins: bool
) -> list[Match]:
    """Matches in which a whole text is a message, a line, a quotation, or the part after a colon or a dash.

    Args:
        candidates: indices of the rows to look at.
        lines: texts by the key of their words.
    """
    found = []
    for first, chunk in _chunks([rows[row] for row in candidates]):
        owners, segments = list[int](), list[str]()
        for row, joined in zip(candidates[first:], chunk, strict=False):
            parts: set[str] = set()
            for message in re.sub(URL, " ", joined).split(_BETWEEN):  # a link has colons and dashes of its own
                for line in (message, *message.split("\n")):
                    parts |= {line, line.partition(":")[2], *_SEGMENT.split(line)}
            segments.extend(sorted(parts))
            owners.extend([row] * len(parts))
        keys = words_of(segments, joined=punctuation_joins).keys().tolist()
        for row, segment, key in zip(owners, segments, keys, strict=True):
            found += [Match(row, text, segment.strip()) for text in lines.get(key, [])]
    return found
