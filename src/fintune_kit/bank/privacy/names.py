"""Finds personal names in a bank line, and leaves merchants named after people alone.

    ZELLE TO IRMA OYELARAN FOR DINNER      after a transfer's words: a name, known or not
    UPI/P2P/.../RAMESH KUMAR/SBIN          a field of a transfer with a known first or last name
    SQ *HENRY JAMES BARBERS                a card payment: a shop, whoever it is named after
    JOHN LEWIS                             a shop that names.toml lists

First and last names of all its locales come from Faker (31,000 and 34,000); the words around them from names.toml.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fintune_kit.bank.privacy.name_words import BLANK, Phrases, Vocabulary, fold, vocabulary

_JOINERS = {"and", "&", "und", "et", "y", "e", "de", "van", "von", "der"}  # never the last word of a name
_LONGEST = 5  # words of a name, particles included
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.&-](?=[^\W\d_]))*\.?")
_TRANSFER_START = re.compile(r"^(?:by |inb )?(?:upi|imps|neft|rtgs|mmt|inf)\b", re.IGNORECASE)
_FIELD_LINES = re.compile(rf"{_TRANSFER_START.pattern}|^[^/]+/[^/]*/[^/]*/", re.IGNORECASE)
_BEFORE_NAME = re.compile(
    r"(?:[\s\0:.,/*#+(\[-]|(?:to|from|by|an|von|de|da|di|a|vers|dr|cr|of|recu|received|sent|payment)(?=[\s\0:/-]))*",
    re.IGNORECASE,
)
_BREAKS = re.compile(r"[\0/|;:*#()\[\]]| - |  ")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    folded: str


def find_names(blanked: str, *, keep: Iterable[str] = (), has_account: bool = False) -> list[tuple[int, int]]:
    """Where personal names stand.

    Args:
        blanked: the line with identifiers blanked (`identifiers.find_identifiers`), so that no name runs across one.
        keep: further merchants that are not persons.
        has_account: the line held an IBAN or a payment id: it is a transfer, whatever its words.

    Returns:
        (start, end) pairs, left to right, not overlapping.
    """
    words = vocabulary()
    line = words.merchants.blanked(blanked)
    for merchant in filter(None, keep):
        line = Phrases([merchant]).blanked(line)
    is_card = words.card.any_in(line)
    unbranded = words.person_brands.blanked(line)  # "ZELLE TO PAUL SMITH" is a person, "PAUL SMITH LONDON" a shop
    found = [*_after_strong_cues(line, words, is_card=is_card)]
    if not is_card:
        found += [*_after_weak_cues(unbranded, words), *_fields(unbranded, words)]
        found += _runs(unbranded, words, has_account=has_account)
    return _united(found)


def looks_personal(text: str, *, keep: Iterable[str] = ()) -> bool:
    """Whether a transfer's line still holds words of which one is a known name: the scan after anonymising."""
    words = vocabulary()
    line = words.person_brands.blanked(words.merchants.blanked(text))
    for merchant in filter(None, keep):
        line = Phrases([merchant]).blanked(line)
    return not words.card.any_in(line) and any(_runs(line, words, has_account=False))


def repeated_names(texts: Sequence[str], *, people: Iterable[str]) -> list[list[tuple[int, int]]]:
    """Where names found in some lines stand in all lines, in either order of their words.

    Only names of two words or more that the lists know are looked for: a wrong guess must not spread.
    """
    words = vocabulary()
    wanted: set[tuple[str, ...]] = set()
    for name in people:
        core = [w.folded.rstrip(".") for w in _words(name)]
        core = [w for w in core if len(w) > 1 and w not in words.titles and w not in words.particles]
        if len(core) == 2 and _is_pair(core[0], core[1], words):
            wanted.add(tuple(sorted(core)))
    found: list[list[tuple[int, int]]] = []
    for text in texts:
        tokens = _words(text) if wanted else []
        pairs = pairwise(tokens)
        found.append(
            [(left.start, right.end) for left, right in pairs if tuple(sorted((left.folded, right.folded))) in wanted]
        )
    return found


def _after_strong_cues(line: str, words: Vocabulary, *, is_card: bool) -> Iterator[tuple[int, int]]:
    for _, cue_end in words.strong.spans(line):
        yield from _name_at(line, cue_end, words, needs_known=False)
    for word in _words(line):
        if word.folded.rstrip(".") in words.titles and line[word.end : word.end + 1] == " ":
            for start, end in _name_at(line, word.end, words, needs_known=is_card):
                if BLANK not in line[word.end : start]:
                    yield word.start, end


def _after_weak_cues(line: str, words: Vocabulary) -> Iterator[tuple[int, int]]:
    for cue_start, cue_end in words.weak.spans(line):
        before = _words(line[:cue_start])
        if before and cue_end - cue_start <= 4 and _says_business(before[-1].folded, words):
            continue  # RISTORANTE DA MARIO
        yield from _name_at(line, cue_end, words, needs_known=True)


def _name_at(line: str, position: int, words: Vocabulary, *, needs_known: bool) -> Iterator[tuple[int, int]]:
    """The name that starts after a cue, past punctuation and identifiers."""
    rest = _BEFORE_NAME.match(line, position)
    assert rest is not None
    tokens = _words(line, start=rest.end())
    if not tokens or tokens[0].start != rest.end():
        return
    taken: list[_Word] = []
    core: list[_Word] = []  # without titles, initials and particles: what capitals are compared on
    for token in tokens:
        between = line[taken[-1].end : token.start] if taken else ""
        if taken and (_BREAKS.search(between) or len(taken) >= _LONGEST):
            break
        if "," in between and len(core) > 1:
            break
        if token.folded.rstrip(".") in words.stops and not (taken and len(token.folded) == 1):
            break
        is_core = _is_core(token, words)
        if is_core and core and token.text[0].islower() and not core[-1].text[0].islower():
            break
        if is_core and len(core) >= 2 and core[0].text.isupper() != token.text.isupper():
            break
        if len(core) == 2 and token.folded in words.business and _is_pair(core[0].folded, core[1].folded, words):
            break  # "ZELLE TO JOHN SMITH PLUMBING": the person goes, the trade stays
        taken.append(token)
        core += [token] if is_core else []
    while taken and taken[-1].folded in _JOINERS:
        taken.pop()
    leading = [word for word in _words(line[: rest.end()], start=position) if word.folded in words.particles]
    for start, end in _accepted(taken, line, words, needs_known=needs_known):
        # a preposition before the name may be part of it: VON RAHMANI
        yield (leading[0].start if leading and not _BREAKS.search(line[leading[0].start : start]) else start), end


def _accepted(taken: list[_Word], line: str, words: Vocabulary, *, needs_known: bool) -> Iterator[tuple[int, int]]:
    if not taken:
        return
    after = _words(line, start=taken[-1].end)
    folded = [word.folded.rstrip(".") for word in taken]
    follower = after[0].folded if after and line[taken[-1].end : after[0].start] == " " else ""
    folded_around = (*folded, follower) if needs_known and follower not in words.stops else (*folded,)
    if any(_says_business(word, words) for word in folded_around):
        return
    known = [word for word in folded if _is_known(word, words)]
    if needs_known and not known and not (len(folded) == 2 and _is_listed(folded[0], folded[1], words)):
        return
    if needs_known and len(taken) == 1 and folded[0] not in words.first:
        return
    if not needs_known and not known and all(word in words.common or word in words.particles for word in folded):
        return
    yield taken[0].start, taken[-1].end


def _fields(line: str, words: Vocabulary) -> Iterator[tuple[int, int]]:
    """Fields between slashes or hyphens of an Indian transfer: a name where one of its words is known as one."""
    if not _FIELD_LINES.search(line):
        return
    for match in re.finditer(r"[^/\0-]+", line):
        tokens = _words(line[: match.end()], start=match.start())
        if not 2 <= len(tokens) <= 4 and not _TRANSFER_START.search(line):
            continue
        if 1 <= len(tokens) <= 4 and not any(token.folded in words.stops for token in tokens):
            yield from _accepted(tokens, line, words, needs_known=True)


def _runs(line: str, words: Vocabulary, *, has_account: bool) -> Iterator[tuple[int, int]]:
    """Rows of name-like words: in a transfer where one is known; elsewhere a known pair, unless it starts the line as
    a shop does and more follows."""
    is_transfer = has_account or words.transfer.any_in(line)
    is_personal = has_account or (words.personal.any_in(line) and not _TRANSFER_START.search(line))
    tokens = _words(line)
    for row in _rows_of(tokens, line, words):
        trade = max((i for i, word in enumerate(row) if _says_business(word.folded, words)), default=-1)
        run = row[trade + 1 :]  # of "ACME LOGISTICS INC JACKSON ROBERT" the last two
        core = [word.folded for word in run if _is_core(word, words)]
        if len(core) < 2:
            continue
        pair = any(_is_pair(left, right, words) for left, right in pairwise(core))
        if trade >= 0:
            is_name = is_transfer and pair
        elif is_transfer:
            ordinary = any(word in words.common for word in core)
            is_name = pair or any(_is_known(word, words) for word in core) or (is_personal and not ordinary)
        else:
            whole = line.strip() == line[run[0].start : run[-1].end]
            is_name = pair and len(core) <= 3 and (whole or run[0] is not tokens[0])
        if is_name or _is_last_comma_first(run[:2], line, words):
            yield run[0].start, run[-1].end


def _rows_of(tokens: list[_Word], line: str, words: Vocabulary) -> Iterator[list[_Word]]:
    """Neighbouring words that could make a name together: none a cue, all written alike."""
    row: list[_Word] = []
    for token in tokens:
        is_core = _is_core(token, words)
        like = next((word for word in row if _is_core(word, words)), None)
        is_cue = token.folded.rstrip(".") in words.cue_words and not (len(token.folded) <= 2 and row)
        alike = not is_core or like is None or _writing(like) == _writing(token)
        if row and (is_cue or not alike or not _joined([row[-1], token], line) or len(row) >= _LONGEST):
            yield row
            row = []
        if not is_cue:
            row.append(token)
    if row:
        yield row


def _is_core(word: _Word, words: Vocabulary) -> bool:
    """Whether a word is a name by itself: no title, no initial, no particle."""
    return len(word.text.rstrip(".")) > 1 and word.folded.rstrip(".") not in words.titles | words.particles


def _writing(word: _Word) -> str:
    return "upper" if word.text.isupper() else "lower" if word.text[0].islower() else "title"


def _united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping spans as one."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if united and start < united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _is_last_comma_first(pair: list[_Word], line: str, words: Vocabulary) -> bool:
    """`OYELARAN, IRMA`: the comma says name, listed or not."""
    if len(pair) < 2 or "," not in line[pair[0].end : pair[1].start]:
        return False
    ordinary = words.common | words.stops | words.business | words.particles
    return all(len(word.folded) > 2 and word.folded not in ordinary and word.text[0].isupper() for word in pair)


def _joined(pair: list[_Word], line: str) -> bool:
    return line[pair[0].end : pair[1].start] in (" ", ", ")


def _says_business(word: str, words: Vocabulary) -> bool:
    return (word in words.business and word not in words.stops) or word.endswith(("'s", "’s"))


def _is_listed(left: str, right: str, words: Vocabulary) -> bool:
    return (left in words.first and right in words.last) or (left in words.last and right in words.first)


def _is_pair(left: str, right: str, words: Vocabulary) -> bool:
    if (left in words.common and right in words.common) or len(left) < 2 or len(right) < 2:
        return False
    if left in words.stops or right in words.stops:
        return False
    return _is_listed(left, right, words)


def _is_known(word: str, words: Vocabulary) -> bool:
    if word in words.common or len(word) < 3:
        return False
    parts = word.split("-") if "-" in word else [word]
    return any(part in words.first or part in words.last for part in parts)


def _words(line: str, *, start: int = 0) -> list[_Word]:
    return [_Word(m.group(), m.start(), m.end(), fold(m.group())) for m in _TOKEN.finditer(line, start)]
