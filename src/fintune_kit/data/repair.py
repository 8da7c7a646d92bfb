"""Damage that happened to text on its way: mojibake, HTML entities, invisible characters, runs of blanks.

What a figure means is never touched: amounts, numbers and tickers of a text are compared before and after, and a repair
that would change one of them is not made. Wording, quotes, letter case and punctuation stay as they are.
"""

import html
import re
from collections import Counter

from ftfy import TextFixerConfig, fix_text

_CONFIG = TextFixerConfig(
    unescape_html=False,  # done below: only entities that end with a semicolon
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,  # would turn a full-width yen sign and digits into others
    normalization=None,
    explain=False,
)

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INVISIBLE = re.compile(
    "[\u00ad\u200b\u2060\ufeff]|(?<![^\x00-\x7f])[\u200c-\u200f\u202a-\u202e\u2066-\u2069](?![^\x00-\x7f])"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_BLANKS = re.compile(r"(?<=[^\s])[ \t\u00a0]{2,}(?=[^\s])")
_TRAILING = re.compile(r"[ \t\u00a0]+(?=\n|\Z)")
_LINES = re.compile(r"\n{3,}")
_FIGURE = re.compile(r"[$€£¥₹]\s?[0-9]|[0-9]\s?[€£¥₹]|\$[A-Za-z]{1,6}\b|[0-9]+")


def repair(text: str) -> str:
    """The text as it was before it was damaged; the same object where nothing is to be done.

    Mojibake is undone by ftfy (Speer 2019, doi 10.5281/zenodo.2591652), which acts only where the undone text is far
    more likely than the damage.
    """
    repaired = text
    if not text.isascii() or _CONTROL.search(text):
        repaired = _keeping_figures(repaired, _undamaged(repaired))
    if "&" in repaired:
        repaired = _keeping_figures(repaired, _unescaped(repaired))
    repaired = _LINES.sub("\n\n", _TRAILING.sub("", _BLANKS.sub(" ", repaired.replace("\r\n", "\n"))))
    repaired = repaired.strip("\n").rstrip()
    return text if repaired == text else repaired


def _undamaged(text: str) -> str:
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs are joined, halves replaced
    return _CONTROL.sub("", _INVISIBLE.sub("", fix_text(text, _CONFIG)))


def _unescaped(text: str) -> str:
    for _ in range(2):  # `&amp;amp;` was escaped twice
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return text


def _keeping_figures(before: str, after: str) -> str:
    if before == after:
        return before
    lost = Counter(_FIGURE.findall(_unescaped(before))) - Counter(_FIGURE.findall(_unescaped(after)))
    return before if lost else after
