"""Rows that repeat another row, and rows that contradict another one.

Two prompts of the same task are near-duplicates where their words are the same (URL, case, punctuation and encoding
aside: see `words`), or where they make one statement (see `near_duplicates`); and their answers agree. Rows contradict
each other where their prompts are equal and their answers are short and differ.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.rules.language import Languages
from fintune_kit.data.rules.near_duplicates import SHORT_ANSWER_WORDS, answer_words, answers_agree, changes_of
from fintune_kit.data.rules.prompts import Prompts


def exact_duplicate(conversations: Sequence[Conversation], kept: Sequence[int]) -> Findings:
    """Rows with the same messages as an earlier row."""
    hashes = np.fromiter((hash(_messages(conversations[index])) for index in kept), np.int64, count=len(kept))
    _, group, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    first: dict[tuple[str, ...], str] = {}
    findings = {}
    for at in np.flatnonzero(sizes[group] > 1).tolist():  # only rows whose hash another row has are compared
        index, key = kept[at], _messages(conversations[kept[at]])
        if key in first:
            findings[index] = f"the same messages as {first[key]}"
        else:
            first[key] = conversations[index].row_id
    return findings


def _messages(conversation: Conversation) -> tuple[str, ...]:
    return tuple(text for message in conversation.messages for text in (message["role"], message["content"]))


def near_duplicate(
    conversations: Sequence[Conversation], kept: Sequence[int], prompts: Prompts, languages: Languages
) -> Findings:
    """Rows that say what an earlier row says, which stays. Outside English, only equal words say the same."""
    original: dict[int, int] = {}
    findings: Findings = {}
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    is_repeated = prompts.repeated(kept)
    earlier = _earlier_neighbours(prompts, kept)
    for index in kept:
        same_prompt = seen[conversations[index].system, prompts.keys[index]] if is_repeated[index] else []
        words = answer_words(conversations[index]) if same_prompt else []
        agrees = (other for other in same_prompt if answers_agree(answer_words(conversations[other]), words))
        equal = next(agrees, None)
        if equal is not None:
            original[index] = equal
            findings[index] = f"the same words as {conversations[equal].row_id}"
            continue
        for other in dict.fromkeys(original.get(other, other) for other in earlier.get(index, ())):
            if not (languages.is_english(index) and languages.is_english(other)):
                continue
            changes = changes_of(conversations, prompts, other, index)
            if changes is not None:
                original[index] = other
                findings[index] = f"{conversations[other].row_id} but for {_in_words(changes)}"
                break
        else:
            same_prompt.append(index)
    return findings


def conflicting_answers(conversations: Sequence[Conversation], kept: Sequence[int], prompts: Prompts) -> Findings:
    """Rows whose prompt another row answers with another label, figure or few words: neither is trusted.

    An answer that the other one repeats in a sentence does not contradict it, and neither does a sentence without a
    figure: it may be another wording.
    """
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    is_repeated = prompts.repeated(kept)
    for index in (index for index in kept if is_repeated[index]):
        words_of_answer = answer_words(conversations[index])
        is_short = len(words_of_answer) <= SHORT_ANSWER_WORDS
        if is_short and not _is_sentence(conversations[index].answer, words_of_answer):
            groups[conversations[index].system, prompts.keys[index]].append(index)
    findings = {}
    for indices in groups.values():
        words = {index: answer_words(conversations[index]) for index in indices}
        for index in indices if len(indices) > 1 else []:
            other = next((i for i in indices if i != index and not _one_holds_other(words[i], words[index])), None)
            if other is None:
                continue
            mine, theirs = (conversations[i].answer.strip()[:40] for i in (index, other))
            findings[index] = f"answers {mine!r} where {conversations[other].row_id} answers {theirs!r}"
    return findings


def _is_sentence(answer: str, words: list[str]) -> bool:
    """Whether an answer has four words or more, ends with a full stop and holds no figure."""
    return len(words) >= 4 and answer.rstrip().endswith(".") and not any(map(str.isdigit, answer))


def _one_holds_other(one: list[str], other: list[str]) -> bool:
    """Whether the words of one answer stand in a row in the other."""
    short, long = sorted((one, other), key=len)
    return any(long[start : start + len(short)] == short for start in range(len(long) - len(short) + 1))


def _earlier_neighbours(prompts: Prompts, kept: Sequence[int]) -> dict[int, list[int]]:
    is_kept = np.zeros(len(prompts.keys), np.bool_)
    is_kept[kept] = True
    first, second = prompts.neighbours.first, prompts.neighbours.second
    both = is_kept[first] & is_kept[second]
    earlier: dict[int, list[int]] = defaultdict(list)
    for one, other in zip(first[both].tolist(), second[both].tolist(), strict=True):
        earlier[other].append(one)
    return earlier


def _in_words(changes: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{before or '(nothing)'} for {after or '(nothing)'}" for before, after in changes[:3])
    return f"{shown} and {len(changes) - 3} more" if len(changes) > 3 else shown or "punctuation"
