"""Pairs of texts that share most of what is particular to them, found without comparing all with all.

The features of a text are its words and word pairs. Those that very many texts hold are left out: they are the wording
of a prompt and not part of a statement. MinHash (Broder 1997, from `rensa`) turns the features into 126 numbers. Two
texts share about as large a part of these numbers as of their features. The numbers form 42 bands of 3, and texts
are compared that share a whole band (Leskovec et al., Mining of Massive Datasets, 3.4). This finds 99.6 % of the pairs
with a similarity of 0.5, 94 % at 0.4 and 29 % at 0.2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fintune_kit.data.rules.words import Words, mix

PERMUTATIONS = 126
ROWS_PER_BAND = 3
WINDOW = 8
"""Each text of a bucket is paired with this many that follow it, so a bucket of thousands costs linear time."""
MAX_WAITING = 4_000_000
"""Pairs that are held before those found twice are left out."""
_SEED = 20240405  # of the hash functions: fixed, so that neighbours do not depend on a recipe's seed
_DIGEST_CHUNK = 8_192


@dataclass(frozen=True)
class Neighbours:
    """Pairs of texts (`first` < `second`, int64) with the similarity that MinHash estimates (float64, 0 to 1)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]


@dataclass(frozen=True)
class Wording:
    """Which words belong to a text itself, and which to the common wording of prompts."""

    pair_counts: NDArray[np.int32]
    """For each word: how often all texts hold it followed by its next word; 0 at the end of a text."""
    common: int
    """From this count on, a pair is common wording."""
    own_words: NDArray[np.int64]
    """For each text: how many of its words are in no pair of common wording."""


def find_neighbours(words: Words, *, similarity: float) -> tuple[Neighbours, Wording]:
    """The pairs with at least this estimated similarity, and the common wording."""
    features, offsets, wording = _features(words)
    digests = _digests(features, offsets)
    first, second = _pairs(digests, has_features=np.diff(offsets) > 1)
    estimate = np.concatenate(
        [np.zeros(0)]
        + [
            (digests[first[start : start + 65_536]] == digests[second[start : start + 65_536]]).mean(axis=1)
            for start in range(0, len(first), 65_536)
        ]
    )
    near = estimate >= similarity
    return Neighbours(first[near], second[near], estimate[near]), wording


def _features(words: Words) -> tuple[NDArray[np.uint64], NDArray[np.int64], Wording]:
    """Hashes of the words and pairs that are not common wording, text after text, with the texts' offsets."""
    count = int(np.count_nonzero(words.lengths()))
    _, (pairs, within) = words.grams(2)
    common_words = np.bincount(words.codes, minlength=len(words.vocabulary))[words.codes] > max(20, count // 100)
    common = max(8, count // 1000) + 1
    pair_counts = np.zeros(len(pairs), np.int32)
    pair_counts[within] = _counts(pairs[within])
    common_pairs = pair_counts >= common
    hashes = np.column_stack([words.hashes, pairs]).ravel()  # word, its pair, next word, ...: already text after text
    is_feature = np.column_stack([~common_words, within & ~common_pairs])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_feature.sum(axis=1))])[words.offsets]
    features = hashes[is_feature.ravel()]
    before = np.roll(common_pairs | ~within, 1) if len(pairs) else common_pairs
    is_wording = (common_pairs | ~within) & before
    own = np.bincount(words.text_indices()[~is_wording], minlength=len(words))
    return features, offsets, Wording(pair_counts, common, own)


def _counts(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How often each hash occurs."""
    _, codes, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return counts[codes]


def _digests(features: NDArray[np.uint64], offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    import rensa

    texts = len(offsets) - 1
    digests = np.empty((texts, PERMUTATIONS), np.uint32)
    for start in range(0, texts, _DIGEST_CHUNK):  # rensa hands its matrix over as Python lists
        end = min(start + _DIGEST_CHUNK, texts)
        part = np.ascontiguousarray(features[offsets[start] : offsets[end]])
        own = np.ascontiguousarray(offsets[start : end + 1] - offsets[start])
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(part, own, PERMUTATIONS, _SEED)
        digests[start:end] = matrix.to_rows()
    return digests


def _pairs(
    digests: NDArray[np.uint32], *, has_features: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair of texts that shares a band, once."""
    rows = np.flatnonzero(has_features)
    found, waiting, limit = [np.zeros(0, np.int64)], 0, MAX_WAITING
    for band in range(0, PERMUTATIONS, ROWS_PER_BAND):
        key = np.zeros(len(rows), np.uint64)
        for column in range(band, band + ROWS_PER_BAND):
            key = mix(key + digests[rows, column])
        order = np.argsort(key, kind="stable")
        key = key[order]
        for step in range(1, WINDOW + 1):
            same = np.flatnonzero(key[step:] == key[:-step])
            one, other = rows[order[same]], rows[order[same + step]]
            found.append(np.minimum(one, other) * len(digests) + np.maximum(one, other))
            waiting += len(same)
        if waiting > limit:  # many bands find the same pairs
            found = [np.unique(np.concatenate(found))]
            waiting, limit = 0, max(MAX_WAITING, len(found[0]))
    codes = np.unique(np.concatenate(found))
    return codes // max(len(digests), 1), codes % max(len(digests), 1)


def smallest_connected(ends: NDArray[np.int64], *, count: int) -> list[int]:
    """For each index below `count`, the smallest index that pairs connect it with.

    Args:
        ends: the pairs, int64 [n, 2].
    """
    graph = coo_array((np.ones(len(ends), np.bool_), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component].tolist()
