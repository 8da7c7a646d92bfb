"""The rules that judge a conversation by itself. Each says what is wrong with it, or None.

`cut_off` also looks at the other answers of the same task and origin, and `over_length` measures many at once: these
two give findings for the whole corpus.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation
from fintune_kit.data.convert.cells import says_nothing
from fintune_kit.data.corpus import Findings

_WORD = re.compile(r"[^\W_]+")
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language|language)\b[^.]{0,40}\b(?:model|assistant|system|i)\b"
    r"[^.]{0,40}\b(?:cannot|can't|can not|not|don't|unable|lack|no)\b"
    r"|\bi(?:'| a)?m (?:just |only )?an? (?:ai|language model|large language model|virtual assistant)\b"
    r"|^(?:i(?:'| a)m )?(?:very )?sorry,?(?: but)? (?:i|as an)\b[^.]{0,20}"
    r"\b(?:cannot|can't|can not|unable to|am not able to|won't) (?!come|attend|make it|join|be there)"
    r"|^(?:unfortunately,? )?i (?:cannot|can't|can not|am unable to|am not able to|won't) "
    r"(?:provide|answer|assist|help|fulfil|fulfill|complete|comply|generate|give|offer|create|discuss|process|access)\b",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.!?…。！？]['\"”’)\]]*\s*$")
_DANGLING = re.compile(
    r"(?:[,\-–]|\b(?:a|an|and|are|as|at|because|but|by|for|from|has|have|if|in|into|is|its|may|of|on|or|our|so|such|than|"
    r"that|the|their|these|this|to|was|were|when|which|while|who|will|with|would|your))$",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"[ \t]*(?:\d{1,2}[.)]|[-*•])\s")
_PREPOSITION = re.compile(r"\b(?:at|by|for|from|in|of|on|to|with)$")
"""May end an item of a list: `someone to talk to`."""
_ARTICLE_BEFORE_LAST = re.compile(r"\ban? [a-z]+$")
LONG_ANSWER_WORDS = 12
"""Shorter answers are names, figures and titles, which end without a full stop."""
MIN_WHOLE_SHARE = 0.9
"""An article before the last word is suspect only where this share of the answers of its task and origin end as a
sentence."""


def missing_or_empty(conversation: Conversation) -> str | None:
    """A question or an answer that only says that there is none, or an answer without a letter or a figure.

    (Missing cells are found when the row is converted.)
    """
    for name, text in (("question", conversation.question), ("answer", conversation.answer)):
        if says_nothing(text):
            return f"the {name} is {text.strip()[:40]!r}"
    if any(map(str.isalnum, conversation.answer)):
        return None
    return f"the answer {conversation.answer.strip()[:20]!r} holds no letter and no figure"


def answer_equals_prompt(conversation: Conversation) -> str | None:
    """An answer that has the words of its question (with or without a label such as `Question:`)."""
    question, answer = conversation.question, conversation.answer
    if abs(len(question) - len(answer)) > len(answer) // 4 + 40:
        return None
    words = _WORD.findall(answer.lower())
    repeats = words in [_WORD.findall(part.lower()) for part in (question, question.partition(":")[2])]
    return "the answer repeats the question" if repeats else None


def refusal(conversation: Conversation) -> str | None:
    """An answer that begins with the boilerplate of an assistant that does not answer."""
    found = _REFUSAL.search(conversation.answer[:200].replace("’", "'").lstrip())
    return f"says {found[0][:60]!r}" if found else None


def cut_off(conversations: Sequence[Conversation], origins: Sequence[str], kept: Sequence[int]) -> Findings:
    """Answers that stop before their end: at a word that needs another one, or at a colon before a list that is lost.

    A whole sentence without a full stop is not cut off, and neither is a passage that the answer takes from its prompt.
    """
    findings = {}
    whole: dict[tuple[str, str], list[bool]] = defaultdict(list)
    suspects = []
    for index in kept:
        answer = conversations[index].answer.rstrip()
        if _loses_list(answer) or (_is_long(answer) and _dangles(answer)):
            if answer not in conversations[index].prompt:
                findings[index] = f"ends with {answer[-30:]!r}"
        elif _is_long(answer):
            whole[conversations[index].task_type, origins[index]].append(bool(_ENDS.search(answer)))
            if _ARTICLE_BEFORE_LAST.search(answer) and not _ends_in_list(answer):
                suspects.append(index)
    for index in suspects:
        others = whole[conversations[index].task_type, origins[index]]
        if sum(others) >= MIN_WHOLE_SHARE * (len(others) - 1):
            findings[index] = f"ends with {conversations[index].answer.rstrip()[-30:]!r}"
    return dict(sorted(findings.items()))


def _is_long(answer: str) -> bool:
    return answer.count(" ") >= LONG_ANSWER_WORDS - 1


def _dangles(answer: str) -> bool:
    return bool(_DANGLING.search(answer)) and not (_PREPOSITION.search(answer) and _ends_in_list(answer))


def _ends_in_list(answer: str) -> bool:
    """Whether the last two lines are items of a list, which end without a full stop."""
    lines = answer.split("\n")
    return len(lines) > 1 and all(_LIST_ITEM.match(line) for line in lines[-2:])


def _loses_list(answer: str) -> bool:
    """Whether an answer ends with a colon. A form, in which other lines end with a colon too, does not count."""
    lines = answer.split("\n")
    is_form = any(line.rstrip().endswith(":") for line in lines[:-1])
    return answer.endswith(":") and lines[-1].count(" ") >= 2 and not is_form


def over_length(
    conversations: Sequence[Conversation], kept: Sequence[int], *, encoder: ChatEncoder, max_length: int
) -> Findings:
    """Conversations of more than `max_length` tokens.

    A byte-level tokenizer never writes more tokens than a text has bytes, so only those with enough bytes are encoded.
    """
    long = [index for index in kept if _max_tokens(conversations[index]) > max_length]
    lengths = encoder.lengths([conversations[index].messages for index in long]) if long else ()
    return {
        index: f"{length:,} tokens, expected at most {max_length:,}"
        for index, length in zip(long, map(int, lengths), strict=True)
        if length > max_length
    }


def _max_tokens(conversation: Conversation) -> int:
    """An upper bound of a conversation's tokens. The template adds a few a message, and its own system message."""
    return 128 + sum(16 + _max_bytes(message["content"]) for message in conversation.messages)


def _max_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    # a tokenizer may normalize first (NFC), which makes at most three characters of one
    return len(text.encode()) * (1 if unicodedata.is_normalized("NFC", text) else 3)
