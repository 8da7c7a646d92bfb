"""Texts that are the same but for their URL, case, punctuation, encoding or a word."""

import re

_URL = re.compile(r"(?:https?://|www\\.)\\S+|\\bt\\.co/\\S+")
_WORD = re.compile(r"[a-z0-9]+")


def content_key(text: str) -> str:
    """What is left of a text without URLs, case, punctuation and characters that an encoding may have damaged."""
    words = _WORD.findall(_URL.sub(" ", text.lower()))
    return " ".join(words) if words else " ".join(text.lower().split())
