"""Entity F1 as seqeval counts it: an entity is right where its words and its label are."""

import json
from collections import Counter

import pytest

from fintune_kit.evaluate import entities

TOKENS = ["Halden", "Foods", "of", "Berlin", "sued", "Halden", "Foods"]
LABELS = ["B-ORG", "I-ORG", "O", "B-LOC", "O", "B-ORG", "I-ORG"]
TARGET = json.dumps({"tokens": TOKENS, "labels": LABELS})


def test_spans_of_bio_labels() -> None:
    assert entities.spans(LABELS) == Counter({("ORG", "0", "1"): 1, ("LOC", "3", "3"): 1, ("ORG", "5", "6"): 1})
    assert entities.spans(["B-ORG", "B-ORG", "I-LOC"]) == Counter(
        {("ORG", "0", "0"): 1, ("ORG", "1", "1"): 1, ("LOC", "2", "2"): 1}
    )
    assert entities.spans(["O", "O"]) == Counter()


@pytest.mark.parametrize(
    ("given", "f1"),
    [
        ("Halden Foods, ORG\nBerlin, LOC", 1.0),
        ("Halden Foods, ORG", 4 / 5),
        ("Halden Foods, LOC\nBerlin, LOC", 2 / 6),
        ("Halden, ORG", 0.0),
        ("I see none.", 0.0),
    ],
)
def test_mentions_are_found_wherever_their_words_stand(given: str, f1: float) -> None:
    assert entities.f1(*entities.found_and_wanted(given, TARGET, form="mentions")) == pytest.approx(f1)


def test_lines_count_where_their_word_is_at_its_position() -> None:
    whole = "\n".join(f"{token}:{label}" for token, label in zip(TOKENS, LABELS, strict=True))
    assert entities.f1(*entities.found_and_wanted(whole, TARGET, form="tokens")) == 1.0
    shifted = "x:O\n" + whole
    assert entities.f1(*entities.found_and_wanted(shifted, TARGET, form="tokens")) == 0.0


def test_counts_are_summed_over_questions_before_the_division() -> None:
    pairs = [("A: x; B: y; C: z", "A: x; B: y; C: z"), ("A: no", "A: yes")]
    assert entities.f1_over_all(pairs, form="pairs") == pytest.approx(6 / 8), "the mean of 1 and 0 would be 0.5"
