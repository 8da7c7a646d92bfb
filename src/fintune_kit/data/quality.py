"""The rules that a conversation must pass, in their fixed order. Each is a small function from candidates to findings.

A finding is the position of a candidate that breaks the rule and what was found in it. A rule sees only candidates that
passed the rules before it.
"""

from collections.abc import Sequence

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.neighbours import content_key

Findings = dict[int, str]


def missing_or_empty(candidates: Sequence[Candidate]) -> Findings:
    """A prompt or an answer without a letter or figure in it."""
    return {
        position: "the answer holds no letter and no figure"
        for position, candidate in enumerate(candidates)
        if not any(character.isalnum() for character in candidate.answer)
    }


def answer_equals_prompt(candidates: Sequence[Candidate]) -> Findings:
    """An answer that only repeats the question."""
    findings = {}
    for position, candidate in enumerate(candidates):
        question = next(m["content"] for m in reversed(candidate.messages) if m["role"] == "user")
        if content_key(candidate.answer) == content_key(question):
            findings[position] = "the answer repeats the question"
    return findings


def exact_duplicate(candidates: Sequence[Candidate]) -> Findings:
    """The same messages as an earlier row."""
    first: dict[tuple[str, ...], str] = {}
    findings = {}
    for position, candidate in enumerate(candidates):
        key = tuple(text for message in candidate.messages for text in (message["role"], message["content"]))
        if key in first:
            findings[position] = f"the same messages as {first[key]}"
        else:
            first[key] = candidate.row_id
    return findings
