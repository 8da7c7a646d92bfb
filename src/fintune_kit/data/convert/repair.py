"""Repair of text that was damaged on its way: mojibake, lost escapes, HTML entities, invisible characters, left-over
marks, runs of blanks.

No figure changes or moves: the amounts, numbers and tickers of a text are compared before and after, and a repair that
would lose one of them is not made; the blanks of a table stay. Wording, quotes, letter case and punctuation stay too.
"""

import html
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ftfy import TextFixerConfig, fix_text

from fintune_kit.data.convert.cells import says_nothing

_CONFIG = TextFixerConfig(
    unescape_html=False,  # done below: only entities that end with a semicolon
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,  # would change full-width digits and yen signs
    normalization=None,
    explain=False,
)

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INVISIBLE = re.compile(
    "[\u00ad\u200b\u2060\ufeff]|(?<![^\x00-\x7f])[\u200c-\u200f\u202a-\u202e\u2066-\u2069](?![^\x00-\x7f])"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_APOSTROPHE = re.compile(r"(?<=[a-z])(?:\\?u)?2019(?=(?:s|t|re|ve|ll|d|m)\b)")
_ESCAPED_CHARACTER = re.compile(r"\\u(?!d[89a-fA-F])([0-9a-fA-F]{4})")
_ESCAPED_BREAK = re.compile(r"(?:\\r)?\\n(?=\\|[A-Z0-9\s•*–-]|\Z)")
_CODE = re.compile(r"""\\n["'`]|["'`]\\n|printf?\(|console\.log|\bdef |#include|\\begin\{|\$\\""")
_MARK = re.compile(r"[ \t]*\[(?:duplicate|closed|on hold|migrated)\][ \t]*$", re.IGNORECASE | re.MULTILINE)
_EMPTY_CONTEXT = re.compile(r"\n+[ \t]*(?:Context|Input):([^\n]{0,40})\s*\Z", re.IGNORECASE)
_BLANKS = re.compile(r"(?<=[^\s])[ \t\u00a0]{2,}(?=[^\s])")
_GAP = re.compile(r"\t|(?<=[^\s.!?:;,)\"”’])[ \u00a0]{2,}(?=\S)|(?<=\S)[ \u00a0]{3,}(?=\S)")
_TRAILING = re.compile(r"[ \t\u00a0]+(?=\n|\Z)")
_LINES = re.compile(r"\n{3,}")
_SUSPECT = re.compile(
    r"[^ -~\n]|&|  | \n|\n\n\n|\A\n|\s\Z|\\[nru]|[a-z]u?2019|\[(?:[dD]up|[cC]los|[oO]n h|[mM]igr)"
    r"|(?:Context|Input|CONTEXT|INPUT):[^\n]{0,40}\Z"
)
"""Matches every text that a repair would change, and few others."""
_AMOUNT = re.compile(r"[$€£¥₹]\s?[0-9]|[0-9]\s?[€£¥₹]|\$[A-Za-z]{1,6}\b")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Repair:
    """A text after its repair, and the kinds of damage that were undone (of `KINDS`)."""

    text: str
    kinds: tuple[str, ...]


def repair(text: str) -> Repair:
    """Undoes the damage. A sound text comes back as the same object.

    ftfy undoes mojibake (Speer 2019, doi 10.5281/zenodo.2591652), and only where the text is far more likely after the
    repair than before it.
    """
    if not _SUSPECT.search(text):
        return Repair(text, ())
    kinds = []
    repaired = text
    for kind, undo in _UNDO.items():
        after = undo(repaired)
        if after != repaired and kind in _MAY_LOSE_FIGURES:
            after = _keeping_figures(repaired, after)
        if after != repaired:
            kinds.append(kind)
            repaired = after
    return Repair(repaired, tuple(kinds))


def _without_mojibake(text: str) -> str:
    if text.isascii():
        return text
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs are joined, halves replaced
    return fix_text(text, _CONFIG)


def _with_escapes_read(text: str) -> str:
    """`company2019s` and `company\\u2019s` as `company’s`; a literal `\\n` as a line break where the text has none.

    Code is left alone.
    """
    if "2019" in text:
        text = _APOSTROPHE.sub("’", text)
    if "\\" not in text or _CODE.search(text):
        return text
    text = _ESCAPED_CHARACTER.sub(lambda match: chr(int(match[1], 16)), text)
    return text if "\n" in text.strip() else _ESCAPED_BREAK.sub("\n", text)


def _without_entities(text: str) -> str:
    for _ in range(2 if "&" in text else 0):  # `&amp;amp;` was escaped twice
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return text


def _without_invisible(text: str) -> str:
    return _CONTROL.sub("", text if text.isascii() else _INVISIBLE.sub("", text))


def _without_marks(text: str) -> str:
    """Without the `[duplicate]` of a forum's titles, and without a context that says `No input`."""
    if "[" in text:
        text = _MARK.sub("", text)
    context = _EMPTY_CONTEXT.search(text)
    return text[: context.start()] if context and says_nothing(context[1], is_context=True) else text


def _without_blanks(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "  " in text or "\t" in text or "\u00a0" in text:
        text = "\n\n".join(block if _is_table(block) else _BLANKS.sub(" ", block) for block in text.split("\n\n"))
    if " \n" in text or text[-1:].isspace():
        text = "\n\n".join(block if "\t" in block else _TRAILING.sub("", block) for block in text.split("\n\n"))
    return (_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip("\n")


def _is_table(block: str) -> bool:
    """Whether the blanks of a paragraph are layout: a line has a tab, two gaps inside a sentence, or an indentation."""
    return any("\t" in line or line.startswith("    ") or len(_GAP.findall(line)) >= 2 for line in block.split("\n"))


_UNDO: dict[str, Callable[[str], str]] = {
    "mojibake": _without_mojibake,
    "escapes": _with_escapes_read,
    "HTML entities": _without_entities,
    "invisible characters": _without_invisible,
    "left-over marks": _without_marks,
    "runs of blanks": _without_blanks,
}
KINDS = tuple(_UNDO)
_MAY_LOSE_FIGURES = ("mojibake", "HTML entities")


def _keeping_figures(before: str, after: str) -> str:
    """The text after a repair; the text before it where the repair would lose an amount, a number or a ticker."""
    lost = _figures(before) - _figures(after)
    return before if lost else after


def _figures(text: str) -> Counter[str]:
    """The figures of a text, without the number of an entity itself (`&#36;5` holds $5, not 36)."""
    text = _without_entities(text)
    return Counter("".join(amount.split()) for amount in _AMOUNT.findall(text)) + Counter(_NUMBER.findall(text))
