"""Rows that say what another row already says, and rows that contradict each other.

Two prompts of the same task are near-duplicates where their words are the same (URL, case, punctuation and encoding
aside; see `words`), or where they make one statement (see `twins`); and their answers agree. Prompts that are equal
with short answers that differ contradict each other.
"""

from collections import defaultdict
from collections.abc import Sequence

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.rules.prompts import Prompts
from fintune_kit.data.rules.statements import SHORT_ANSWER_WORDS, answer_words, answers_agree, changes_of


def near_duplicate(candidates: Sequence[Candidate], prompts: Prompts) -> dict[int, str]:
    """Positions of rows that say what an earlier row says, which stays."""
    answers = [answer_words(candidate) for candidate in candidates]
    keeper: dict[int, int] = {}
    findings: dict[int, str] = {}
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    partners = _partners(prompts)
    for place, candidate in enumerate(candidates):
        same_prompt = seen[candidate.system, prompts.keys[place]] if prompts.keys[place] else []
        equal = next((other for other in same_prompt if answers_agree(answers[other], answers[place])), None)
        if equal is not None:
            keeper[place] = equal
            findings[place] = f"the same words as {candidates[equal].row_id}"
            continue
        for partner in dict.fromkeys(keeper.get(other, other) for other in partners[place]):
            changes = changes_of(candidates, prompts, answers, partner, place)
            if changes is not None:
                keeper[place] = partner
                findings[place] = f"{candidates[partner].row_id} but for {_in_words(changes)}"
                break
        else:
            same_prompt.append(place)
    return findings


def conflicting_answers(candidates: Sequence[Candidate], prompts: Prompts) -> dict[int, str]:
    """Positions of rows whose prompt another row answers with another label, figure or few words: none is trusted."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for position, candidate in enumerate(candidates):
        key = prompts.keys[prompts.row_ids[candidate.row_id]]
        if key:
            groups[candidate.system, key].append(position)
    findings = {}
    for positions in groups.values():
        short = [p for p in positions if len(answer_words(candidates[p])) <= SHORT_ANSWER_WORDS]
        for position in short if len(short) > 1 else []:
            other = next(p for p in short if p != position)
            mine, theirs = (candidates[p].answer.strip()[:40] for p in (position, other))
            findings[position] = f"answers {mine!r} where {candidates[other].row_id} answers {theirs!r}"
    return findings


def _partners(prompts: Prompts) -> dict[int, list[int]]:
    partners: dict[int, list[int]] = defaultdict(list)
    for first, second in zip(prompts.neighbours.first.tolist(), prompts.neighbours.second.tolist(), strict=True):
        partners[second].append(first)
    return partners


def _in_words(changes: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{before or '(nothing)'} for {after or '(nothing)'}" for before, after in changes[:3])
    return f"{shown} and {len(changes) - 3} more" if len(changes) > 3 else shown or "punctuation"
