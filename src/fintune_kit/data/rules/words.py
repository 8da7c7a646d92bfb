"""Texts as words that survive damage: letters and figures without case and URLs, in one flat array of numbers.

    "Buy $ABC now!  https://t.co/x"   ->  buy abc now   ->  [0x51.., 0x8e.., 0x33..]

Two texts with the same words are the same but for URL, case, punctuation and characters that an encoding may damage
(`Sepp+ñl+ñ`, `SeppÃ¤lÃ¤` and `Seppälä` all become `sepp l`). In a text in another script, each letter is a word.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

URL = r"(?i)(?:https?://|www\.|\bt\.co/)\S*"
_ENTITY = r"(?i)&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,7}|#x[0-9a-f]{1,6});?"
_LETTER = re.compile(r"[^\W\d_]")
_FOREIGN = re.compile(r"[A-Za-z0-9]+|[^\W\d_]")
_CHUNK = 16_384
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio (Steele et al. 2014, SplitMix)


@dataclass(frozen=True)
class Words:
    """The words of many texts end to end: those of text i are `codes[offsets[i]:offsets[i + 1]]`."""

    codes: NDArray[np.int32]
    """Indices in `vocabulary`."""
    hashes: NDArray[np.uint64]
    """As long as `codes`. A hash depends on the word alone, so hashes of two collections can be compared."""
    offsets: NDArray[np.int64]
    vocabulary: pa.StringArray
    is_name: NDArray[np.bool_]
    """For each word of the vocabulary: whether it is rarely written in small letters."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> NDArray[np.int32]:
        """The codes of one text's words."""
        return self.codes[self.offsets[text] : self.offsets[text + 1]]

    def word(self, code: int) -> str:
        """The word of a code."""
        return str(self.vocabulary[int(code)].as_py())

    def lengths(self) -> NDArray[np.int64]:
        """Words of each text."""
        return np.diff(self.offsets)

    def text_indices(self) -> NDArray[np.int64]:
        """For each word, the index of its text."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def keys(self) -> NDArray[np.uint64]:
        """A hash of each text's words in their order: equal for texts that differ in damage only, 0 without words."""
        within = np.arange(len(self.hashes)) - np.repeat(self.offsets[:-1], self.lengths())
        mixed = mix(self.hashes + (within.astype(np.uint64) + np.uint64(1)) * _MIX)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
        return sums[self.offsets[1:]] - sums[self.offsets[:-1]]

    def grams(self, up_to: int) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.bool_]]]:
        """For runs of 1, 2, ... `up_to` words: a hash of the run that begins at each word (uint64), and whether the run
        ends within its text (bool). Both are as long as `codes`."""
        gram = np.zeros(len(self.hashes), np.uint64)
        left = np.repeat(self.offsets[1:], self.lengths()) - np.arange(len(self.hashes))
        for size in range(1, up_to + 1):
            gram = mix(gram * _MIX + np.roll(self.hashes, 1 - size))
            yield gram, left >= size


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads 64-bit values over all their bits (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def words_of(texts: Sequence[str], *, joined: bool = False) -> Words:
    """Divides many texts into words at once, in Arrow.

    Args:
        joined: punctuation inside a word joins its parts instead of dividing them. `U.S.` is then `us`, as in a text
            that has lost its points.
    """
    parts, lengths = [pa.array([], pa.string()).dictionary_encode()], [np.zeros(1, np.int64)]
    for start in range(0, len(texts), _CHUNK):
        words, counts = _split([_in_ascii(text) for text in texts[start : start + _CHUNK]], joined=joined)
        parts.append(words.dictionary_encode())  # so that all words of all texts are never in memory at once
        lengths.append(counts)
    encoded = pa.chunked_array(parts).unify_dictionaries().combine_chunks()
    folded = pc.ascii_lower(encoded.dictionary).dictionary_encode()
    by_written = folded.indices.to_numpy()
    hashes = (_hash(word.as_py()) for word in folded.dictionary)
    by_code = np.fromiter(hashes, np.uint64, count=len(folded.dictionary))
    indices = encoded.indices.to_numpy()
    codes = by_written[indices]
    is_name = _names(encoded.dictionary, by_written, np.bincount(indices, minlength=len(encoded.dictionary)))
    return Words(codes, by_code[codes], np.cumsum(np.concatenate(lengths)), folded.dictionary, is_name)


def _names(written: pa.Array, by_written: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    holds_no_capital = pc.invert(pc.match_substring_regex(written, "[A-Z]"))
    is_small = pc.and_(holds_no_capital, pc.match_substring_regex(written, "[a-z]|^[0-9]+$"))
    is_small = is_small.to_numpy(zero_copy_only=False)
    total = np.bincount(by_written, weights=counts)
    small = np.bincount(by_written, weights=counts * is_small)
    return small < 0.3 * total


def written_words(text: str) -> list[str]:
    """The words of one text as they are written, in the order of `words_of`."""
    return re.findall("[A-Za-z0-9]+", without_urls(text))


def without_urls(text: str) -> str:
    """One text without links and entities, as `words_of` divides it."""
    return re.sub(_ENTITY, " ", re.sub(URL, " ", _in_ascii(text)))


def _in_ascii(text: str) -> str:
    """A text in another script with each letter as a word of its own; any other text unchanged."""
    if text.isascii() or len(text.encode("utf-8", "replace")) < 1.5 * len(text):
        return text  # few characters have two bytes or more, so it is Latin script
    letters = _LETTER.findall(text)
    if 2 * sum(letter.isascii() for letter in letters) >= len(letters):
        return text
    return " ".join(word if word.isascii() else f"u{ord(word.lower()[0]):x}" for word in _FOREIGN.findall(text))


def letters_only(texts: Sequence[str]) -> pa.ChunkedArray:
    """Each text's letters and figures, with nothing between them except decimal points.

    `U.S. up 5.1 %` and `us, up 5.1%` both become `usup5.1`.
    """
    chunks = []
    for start in range(0, len(texts), _CHUNK):
        plain = pc.utf8_lower(_without_urls([_in_ascii(text) for text in texts[start : start + _CHUNK]]))
        plain = pc.replace_substring_regex(plain, "[^a-z0-9.]+", "")
        plain = pc.replace_substring_regex(plain, r"(^|[^0-9])\.+", r"\1")
        chunks.append(pc.replace_substring_regex(plain, r"\.+([^0-9]|$)", r"\1"))
    return pa.chunked_array(chunks, pa.string())


def _without_urls(texts: Sequence[str]) -> pa.Array:
    return pc.replace_substring_regex(pc.replace_substring_regex(pa.array(texts, pa.string()), URL, " "), _ENTITY, " ")


def _split(texts: Sequence[str], *, joined: bool) -> tuple[pa.Array, NDArray[np.int64]]:
    plain = _without_urls(texts)
    if joined:
        plain = pc.replace_substring_regex(plain, "[-.,;:!?'\u2019]+", "")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, "[^A-Za-z0-9]+", " "), " ")
    lists = pc.split_pattern(plain, " ")
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    words = pc.list_flatten(lists)
    counts[pc.equal(plain, "").to_numpy(zero_copy_only=False)] = 0  # splitting nothing gives one empty word
    return words.filter(pc.not_equal(words, "")), counts


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("ascii"), digest_size=8).digest(), "little")
