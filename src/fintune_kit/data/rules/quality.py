"""The rules that one row is judged by, each a small function from candidates to findings.

A finding is the position of a candidate that breaks the rule, and what was found in it. `RULES` is the fixed order of
all rules of the stage with what each refuses: those of reading, of pairs of rows (`duplicates`), of relevance
(`finance`), of hold-out texts (`contamination`) and of selection included; a rule sees only what the ones before it let
pass.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.data.corpus import Candidate

RULES = {
    "unreadable": "a line or row that cannot be read",
    "unmapped": "columns that no layout fits",
    "not_text": "a cell that holds no text",
    "roles": "turns that do not alternate, or no answer at the end",
    "missing_or_empty": "no prompt or no answer",
    "answer_equals_prompt": "an answer that repeats the question",
    "cut_off": "an answer that stops in the middle of a sentence",
    "refusal": "an assistant's refusal instead of an answer",
    "over_length": "more tokens than fit; never cut",
    "exact_duplicate": "the same messages as an earlier row",
    "near_duplicate": "what an earlier row says, but for URL, case, punctuation, encoding or a word",
    "conflicting_answers": "a prompt that other rows answer otherwise",
    "not_finance": "an open question that is not about finance",
    "contamination": "a text that is held out for evaluation",
    "not_selected": "passes, but others of its kind were better",
}

Findings = dict[int, str]

_WORD = re.compile(r"[^\W_]+")
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language|language)\b[^.]{0,40}\b(?:model|assistant|system|i)\b"
    r"|\bi(?:'| a)?m (?:just |only )?an? (?:ai|language model|large language model|virtual assistant)\b"
    r"|^(?:i(?:'| a)m )?(?:very )?sorry,?(?: but)? (?:i|as an)\b[^.]{0,20}"
    r"\b(?:cannot|can't|can not|unable|am not able|won't)\b"
    r"|^(?:unfortunately,? )?i (?:cannot|can't|can not|am unable to|am not able to|won't) "
    r"(?:provide|answer|assist|help|fulfil|fulfill|complete|comply|generate|give|offer|create|discuss|process|access)\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"(?:[.!?…:;\"'”’)\]}>|%*`=$€£¥0-9。！？]|[#@]\w+|https?://\S+|\b[A-Z]{2,6}|[—–-] ?[\w .]{3,40})$")
_SENTENCE_BEFORE = re.compile(r"[a-z][.!?]\s+[A-Z][^.!?]{12,}$")
_DANGLING = re.compile(
    r"(?:[,\-–]|\b(?:a|an|and|are|as|at|because|but|by|for|from|has|have|if|in|into|is|its|may|of|on|or|our|so|such|than|"
    r"that|the|their|these|this|to|was|were|when|which|while|who|will|with|would|your))$",
    re.IGNORECASE,
)
_ITEM = re.compile(r"\s*(?:[-*•|#>]|\d+[.)]|[A-Za-z][.)]\s|[^\n]{0,60}:\s)")
_SENTENCE = re.compile(r"[A-Z][^.!?:;]+\b(?:is|are|was|were|has|have|had|can|will|does|do|did|means)\b[^.!?:;]{12,}$")
LONG_ANSWER_WORDS = 12
"""Shorter answers are names, figures and titles, which end without a full stop."""
NEIGHBOURS_WHOLE = 0.9
"""Of the long answers of its task and origin, so many must end as sentences for one that does not to be suspect."""


def missing_or_empty(candidates: Sequence[Candidate]) -> Findings:
    """Answers without a letter or figure in them. (Missing cells are found when the row is mapped.)"""
    return {
        position: f"the answer {candidate.answer.strip()[:20]!r} holds no letter and no figure"
        for position, candidate in enumerate(candidates)
        if not any(map(str.isalnum, candidate.answer))
    }


def answer_equals_prompt(candidates: Sequence[Candidate]) -> Findings:
    """Answers whose words are those of the question that they answer (with or without a label such as `Question:`)."""
    findings = {}
    for position, candidate in enumerate(candidates):
        question, answer = candidate.messages[-2]["content"], candidate.answer
        if abs(len(question) - len(answer)) > len(answer) // 4 + 40:
            continue
        words = _WORD.findall(answer.lower())
        if words in [_WORD.findall(part.lower()) for part in (question, question.partition(":")[2])]:
            findings[position] = "the answer repeats the question"
    return findings


def cut_off(candidates: Sequence[Candidate]) -> Findings:
    """Long answers that stop on a word that needs another, or whose last sentence has no end though the ones before it
    do and the answers of the same task and origin do."""
    long = [p for p, c in enumerate(candidates) if c.answer.count(" ") >= LONG_ANSWER_WORDS - 1]
    open_ended = {position for position in long if not _ends_whole(candidates[position].answer)}
    kin: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position in long:
        kin[candidates[position].task_type, candidates[position].origin].append(position)
    findings = {}
    for positions in kin.values():
        suspects = open_ended.intersection(positions)
        others_whole = 1 - (len(suspects) - 1) / max(1, len(positions) - 1)
        for position in suspects:
            ending = candidates[position].answer.rstrip()
            is_sentence = _SENTENCE_BEFORE.search(ending) or (_SENTENCE.match(ending) and "\n" not in ending)
            stops_in_sentence = others_whole >= NEIGHBOURS_WHOLE and is_sentence
            if stops_in_sentence or _DANGLING.search(ending):
                findings[position] = f"ends with {ending[-30:]!r}"
    return findings


def _ends_whole(answer: str) -> bool:
    """Whether an answer ends as a sentence does, or as what needs no end: a list, a table, a poem, hashtags."""
    lines = answer.rstrip().split("\n")
    if _WHOLE.search(lines[-1]) or _ITEM.match(lines[-1]):
        return True
    return len(lines) > 1 and (lines[-1].count(" ") < 6 or not _WHOLE.search(lines[-2].rstrip() or "."))


def refusal(candidates: Sequence[Candidate]) -> Findings:
    """Answers that begin with the boilerplate of an assistant that does not answer."""
    findings = {}
    for position, candidate in enumerate(candidates):
        if found := _REFUSAL.search(candidate.answer[:200].replace("’", "'").lstrip()):
            findings[position] = f"says {found[0][:60]!r}"
    return findings


def over_length(candidates: Sequence[Candidate], *, encoder: ChatEncoder, max_length: int) -> Findings:
    """Conversations of more tokens than fit. Only those are encoded whose bytes could be so many tokens: a byte-level
    tokenizer never writes more tokens than there are bytes."""
    long = [p for p, candidate in enumerate(candidates) if _most_tokens(candidate) > max_length]
    lengths = encoder.lengths([candidates[position].messages for position in long]) if long else ()
    return {
        position: f"{length:,} tokens, expected at most {max_length:,}"
        for position, length in zip(long, map(int, lengths), strict=True)
        if length > max_length
    }


def _most_tokens(candidate: Candidate) -> int:
    """An upper bound of a conversation's tokens; the template adds a few a message, and a system message of its own."""
    return 128 + sum(16 + _most_bytes(message["content"]) for message in candidate.messages)


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    # a tokenizer may normalize first (NFC), which makes at most three characters of one
    return len(text.encode()) * (1 if unicodedata.is_normalized("NFC", text) else 3)


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


def refused_by_rule(rules: Sequence[str]) -> dict[str, int]:
    """Counts by rule, in the rules' order, with a zero for those that refused nothing."""
    counts = Counter(rules)
    assert set(counts) <= set(RULES), set(counts) - set(RULES)
    return {rule: counts[rule] for rule in RULES}
