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

from fintune_kit.bank.privacy.name_words import BLANK, BRAND, Phrases, Vocabulary, fold, vocabulary

_JOINERS = {"and", "&", "und", "et", "y", "e", "de", "van", "von", "der"}  # never the last word of a name
_LONGEST = 5  # words of a name, particles included
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.&-](?=[^\W\d_]))*\.?")
_TRANSFER_START = re.compile(r"^(?:by |inb )?(?:upi|imps|neft|rtgs|mmt|inf)\b", re.IGNORECASE)
_FIELD_LINES = re.compile(rf"{_TRANSFER_START.pattern}|^[^/]+/[^/]*/[^/]*/", re.IGNORECASE)
_BEFORE_NAME = re.compile(
    r"(?:[\s\0:.,/*#+(\[-]|(?:to|til|till|para|od|do|from|by|an|von|de|da|di|a|vers|dr|cr|of|recu|received|sent|payment|"
    r"från|fra|fran|aan|naar|dla|na rzecz|"
    r"enviad[oa]|recebid[oa]|recibid[oa]|gesendet|erhalten|sendt|modtaget|skickat|mottaget|wyslano|otrzymano)(?=[\s\0:/-]))*",
    re.IGNORECASE,
)
_HYPHEN_FIELDS = re.compile(r"^(?:upi|imps|neft|rtgs|ach|mmt)[ -]*-", re.IGNORECASE)
_PAYPAL = re.compile(r"paypal ?\*", re.IGNORECASE)
_FAMILY_NAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林郑谢罗梁宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙"
    "史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤張劉陳楊黃趙吳孫馬鄭謝羅許韓馮鄧"
)
_COMPOUND_NAMES = "欧阳|歐陽|司马|司馬|上官|诸葛|諸葛|夏侯|皇甫|尉迟|慕容|令狐|司徒|公孙|公孫|东方|長孫|长孙"
_HAN_NAME = re.compile(
    r"(?:转账|轉帳|转给|汇款|匯款|收款人|付款人|来自|向|给|給|户名|戶名|to|from|/|-)[ :：-]*"
    rf"(?P<name>(?:{_COMPOUND_NAMES}|[{_FAMILY_NAMES}])[\u4e00-\u9fff]{{1,3}})(?![\u4e00-\u9fff])",
    re.IGNORECASE,
)
_HAN_BUSINESS = re.compile("店行司超市餐厅馆銀银医院学校酒站场城园部局社所厂".join("[]"))
_HANGUL_NAME = re.compile(
    r"(?:이체|송금|입금|출금|받는분|보낸분|to|from)[ :]*"
    r"(?P<name>[김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하곽성차주우구나민진지엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모장남궁]"
    r"[\uac00-\ud7a3]{1,2})(?![\uac00-\ud7a3])",
    re.IGNORECASE,
)
_KANA_NAME = re.compile(
    r"(?:振込|振込み|(?<!口座)(?<!自動)振替|フリコミ|ﾌﾘｺﾐ|送金)[ *＊:：　]*"  # a direct debit names no person
    r"(?![^ ]*(?:カ[)）]|ｶ\)|株式|会社|ユ[)）]|ﾕ\)))"
    r"(?P<name>(?:[\u30a0-\u30ff\uff66-\uff9f]{2,7}[ 　]?[\u30a0-\u30ff\uff66-\uff9f]{1,7}|"
    r"[\u4e00-\u9fff]{2,3}[ 　]?[\u4e00-\u9fff\u3040-\u309f]{1,4}))"
)
_VOWELS = set("aeiouy")
_BREAKS = re.compile(r"[\0\1/|;:*#()\[\]]| - |  ")
_LONGEST_SINGLE = 10  # letters of a name that stands alone and is not known
_TRADE_ENDINGS = (
    "tech", "soft", "mart", "corp", "pharma", "fintech", "finserv", "infra", "telecom", "bank", "kart", "cabs", "foods",
    "systems", "labs", "electronics", "werke", "kasse", "markt", "haus", "shop", "store", "stores", "bazar", "bazaar",
    "dienst", "service", "services", "motors", "airways", "airlines", "express", "logistics", "energie", "energy",
    "strom", "versicherung", "agentur", "technik", "systeme", "zentrum", "center", "centre", "gaz", "net", "tel",
    "works", "ware", "media", "gruppe", "group", "laget", "bolaget", "verket", "vaerket", "selskab", "forening",
    "kassan", "kassen", "etaten", "myndigheten", "verband", "verbund", "verwaltung",
)  # fmt: skip
_SURNAME_ENDINGS = (
    "wski", "wska", "nski", "nska", "icki", "icka", "czyk", "wicz", "sson", "dottir", "ovic", "evic", "enko", "opoulos",
    "opoulou", "ishvili",
)  # fmt: skip
_ADJECTIVES_OF_PLACES = ("warsz", "krak", "pols", "slas", "pozna", "gdan", "lubel", "wrocl", "mazow")
"""Polish ones end as surnames do."""
_AND = {"and", "und", "et", "y", "e", "och", "og"}


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
    line = words.merchants.blanked(blanked, by=BRAND)
    for merchant in filter(None, keep):
        line = Phrases([merchant]).blanked(line, by=BRAND)
    line = _without_surname_merchants(_fields_apart(line), words)
    is_card = words.card.any_in(line)
    # "ZELLE TO PAUL SMITH" is a person, "PAUL SMITH LONDON" a shop.
    unbranded = words.person_brands.blanked(line, by=BRAND)
    found = [*_after_strong_cues(line, words, is_card=is_card)]
    if not is_card:
        found += [*_after_weak_cues(unbranded, words), *_fields(unbranded, words)]
        found += _runs(unbranded, words, has_account=has_account)
        found += [*_glued(line, words), *_east_asian(line)]
    return _united(found)


def personal_names(text: str, *, keep: Iterable[str] = ()) -> list[tuple[int, int]]:
    """Where a transfer's line still holds words of which one is a known name: the scan after anonymising."""
    words = vocabulary()
    line = words.person_brands.blanked(words.merchants.blanked(text, by=BRAND), by=BRAND)
    for merchant in filter(None, keep):
        line = Phrases([merchant]).blanked(line, by=BRAND)
    return [] if words.card.any_in(line) else list(_runs(line, words, has_account=False))


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


def _fields_apart(line: str) -> str:
    """A transfer whose fields are joined by hyphens, `UPI-RAMESH KUMAR-...`, with the hyphens blanked."""
    return line.replace("-", BLANK) if _HYPHEN_FIELDS.match(line) else line


def _without_surname_merchants(line: str, words: Vocabulary) -> str:
    """The line without merchants such as `ZABKA`, but with them where a first name or an initial stands beside."""
    for start, end in words.surname_merchants.spans(line):
        left, right = _words(line[:start])[-1:], _words(line, start=end)[:1]
        beside = [word for word in left if line[word.end : start].strip(" ,.") == ""]
        beside += [word for word in right if line[end : word.start].strip(" ,.") == ""]
        named = any(_is_person_beside(word, words) for word in beside)
        line = line if named else line[:start] + BRAND * (end - start) + line[end:]
    return line


def _is_person_beside(word: _Word, words: Vocabulary) -> bool:
    folded = word.folded.rstrip(".")
    return len(folded) == 1 or folded in words.titles or (folded in words.first and folded not in words.common)


def _glued(line: str, words: Vocabulary) -> Iterator[tuple[int, int]]:
    """First and last name written as one, in a transfer or after `PAYPAL *`: `kavithamurugan`."""
    if not (words.transfer.any_in(line) or _PAYPAL.search(line)):
        return
    for word in _words(line):
        text = word.folded
        if len(text) < 8 or not text.isalpha() or text in words.glued_merchants or text in words.business:
            continue
        if text in words.first or text in words.last or not (word.text.isupper() or word.text.islower()):
            continue
        halves = [(text[:cut], text[cut:]) for cut in range(4, len(text) - 3)]
        if any(_are_halves_of_a_name(left, right, words) for left, right in halves):
            yield word.start, word.end


def _are_halves_of_a_name(left: str, right: str, words: Vocabulary) -> bool:
    """A first and a last name, or two first names: a father's is a last name in the south of India."""
    if any(half in words.common or half in words.business for half in (left, right)):
        return False
    return _is_pair(left, right, words) or (left in words.first and right in words.first)


def _east_asian(line: str) -> Iterator[tuple[int, int]]:
    """Names in Han, Hangul or kana after the words of a transfer: two to four signs that begin with a family name."""
    for match in _HAN_NAME.finditer(line):
        if not _HAN_BUSINESS.search(match.group("name")):
            yield match.span("name")
    for match in (*_HANGUL_NAME.finditer(line), *_KANA_NAME.finditer(line)):
        yield match.span("name")


def _after_strong_cues(line: str, words: Vocabulary, *, is_card: bool) -> Iterator[tuple[int, int]]:
    for cues, min_unknown in ((words.strong, 1), (words.middle, 2)):
        for _, cue_end in cues.spans(line):
            yield from _name_at(line, cue_end, words, needs_known=False, min_unknown=min_unknown)
    for word in _words(line):
        if word.folded.rstrip(".") in words.titles and line[word.end : word.end + 1] == " ":
            for start, end in _name_at(line, word.end, words, needs_known=is_card):
                if BLANK not in line[word.end : start]:
                    yield word.start, end


def _after_weak_cues(line: str, words: Vocabulary) -> Iterator[tuple[int, int]]:
    for cue_start, cue_end in words.weak.spans(line):
        before = _words(line[:cue_start])
        if before and cue_end - cue_start <= 4 and _says_business(before[-1], words):
            continue  # RISTORANTE DA MARIO
        yield from _name_at(line, cue_end, words, needs_known=True)


def _name_at(
    line: str, position: int, words: Vocabulary, *, needs_known: bool, min_unknown: int = 1
) -> Iterator[tuple[int, int]]:
    """The name that starts after a cue, past punctuation and identifiers; an unknown one has `min_unknown` words."""
    rest = _BEFORE_NAME.match(line, position)
    assert rest is not None
    tokens = _words(line, start=rest.end())
    if not tokens or tokens[0].start != rest.end():
        return
    taken: list[_Word] = []
    core: list[_Word] = []  # without titles, initials and particles: their capitals are compared
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
        if len(core) == 2 and _says_business(token, words) and _is_pair(core[0].folded, core[1].folded, words):
            break  # "ZELLE TO JOHN SMITH PLUMBING": the person goes, the trade stays
        if _says_business(token, words) and _is_couple(taken, words):
            break
        taken.append(token)
        core += [token] if is_core else []
    while taken and taken[-1].folded in _JOINERS:
        taken.pop()
    leading = [word for word in _words(line[: rest.end()], start=position) if word.folded in words.particles]
    for start, end in _accepted(taken, line, words, needs_known=needs_known, min_unknown=min_unknown):
        # a preposition before the name may be part of it: VON RAHMANI
        yield (leading[0].start if leading and not _BREAKS.search(line[leading[0].start : start]) else start), end


def _accepted(
    taken: list[_Word], line: str, words: Vocabulary, *, needs_known: bool, min_unknown: int = 1
) -> Iterator[tuple[int, int]]:
    if not taken:
        return
    after = _words(line, start=taken[-1].end)
    folded = [word.folded.rstrip(".") for word in taken]
    follower = after[0].folded if after and line[taken[-1].end : after[0].start] == " " else ""
    is_open = needs_known and follower and follower not in words.stops and not _is_couple(taken, words)
    around = [*taken, after[0]] if is_open else taken
    if any(_says_business(word, words) for word in around):
        return
    pair = any(_is_pair(left, right, words) for left, right in pairwise(folded))
    if _beside_brand(line, taken) and not pair:
        return
    known = [word for word in folded if _is_known(word, words)]
    if needs_known:
        first = [word for word in known if word in words.first]
        is_name = pair or bool(first) or (len(known) > 0 and len(folded) > 1)
        is_name = is_name or _has_initials(taken, words) or _is_couple(taken, words)
    else:
        ordinary = all(word in words.common or word in words.particles for word in folded)
        enough = len(folded) >= min_unknown and (len(folded) > 1 or len(folded[0]) <= _LONGEST_SINGLE)
        is_name = bool(known) or (not ordinary and enough)
    if is_name or (len(folded) == 2 and _is_listed(folded[0], folded[1], words)):
        yield taken[0].start, taken[-1].end


def _has_initials(taken: Sequence[_Word], words: Vocabulary) -> bool:
    """`P OLLERENSHAW`, `A. B. QUENNELL`, `PRATIKSHA M`: one word of four letters or more, and single capitals."""
    initials = [word for word in taken if len(word.folded.rstrip(".")) == 1 and word.text.isupper()]
    long = [word for word in taken if word not in initials]
    return (
        1 <= len(initials) <= 2  # three single letters are an acronym
        and len(long) == 1
        and len(long[0].folded) >= 4
        and long[0].text[0].isupper()
        and long[0].folded not in words.common
    )


def _is_couple(taken: Sequence[_Word], words: Vocabulary) -> bool:
    """`Peter und Annegret Stölzinger`: a first name, a word for `and`, and one to three words in capitals."""
    folded = [word.folded for word in taken]
    return (
        3 <= len(taken) <= 5
        and folded[0] in words.first
        and folded[1] in _AND
        and all(word.text[0].isupper() and word.folded not in words.common for word in taken[2:])
    )


def _beside_brand(line: str, taken: Sequence[_Word]) -> bool:
    """Whether words touch a known merchant: they are its branch or its town."""
    return line[: taken[0].start].rstrip(" -").endswith(BRAND) or line[taken[-1].end :].lstrip(" -").startswith(BRAND)


def _fields(line: str, words: Vocabulary) -> Iterator[tuple[int, int]]:
    """Fields between slashes or hyphens of an Indian transfer: a name where one of its words is known as one."""
    if not _FIELD_LINES.search(line):
        return
    for match in re.finditer(r"[^/\0\1-]+", line):
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
        trade = max((i for i, word in enumerate(row) if _says_business(word, words)), default=-1)
        run = row[trade + 1 :]  # of "ACME LOGISTICS INC JACKSON ROBERT" the last two
        core = [word.folded for word in run if _is_core(word, words)]
        if len(core) < 2:
            continue
        pair = any(_is_pair(left, right, words) for left, right in pairwise(core))
        if trade >= 0:
            is_name = is_transfer and pair
        elif is_transfer:
            ordinary = any(word in words.common for word in core)
            known = any(_is_known(word, words) for word in core) and not _beside_brand(line, run)
            is_name = pair or known or (is_personal and not ordinary)
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
    folded = word.folded.rstrip(".")
    return len(word.text.rstrip(".")) > 1 and folded not in words.titles and folded not in words.particles


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


def _says_business(word: _Word, words: Vocabulary) -> bool:
    """Whether a word cannot be part of a person's name: a trade, a legal form, an acronym, a known merchant's head."""
    folded = word.folded.rstrip(".")
    if (folded in words.business and folded not in words.stops) or folded.endswith(("'s", "’s")):
        return True
    if len(folded) > 5 and folded.endswith("s") and folded[:-1] in words.business and not _is_known(folded, words):
        return True
    if folded in words.heads or (len(folded) > 6 and folded.endswith(_TRADE_ENDINGS) and not _is_known(folded, words)):
        return True
    return "&" in word.text or _is_acronym(word)


def _is_acronym(word: _Word) -> bool:
    """Whether nobody could speak the word: `HDFC`, `Tsnpdcl`. A short one in small letters may be somebody's name."""
    folded = word.folded.rstrip(".")
    has_no_vowel = folded.isascii() and folded.isalpha() and not set(folded) & _VOWELS
    return has_no_vowel and len(folded) > (2 if word.text.isupper() else 4)


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
    return any(part in words.first or part in words.last or _ends_as_surname(part) for part in parts)


def _ends_as_surname(word: str) -> bool:
    return len(word) >= 7 and word.endswith(_SURNAME_ENDINGS) and not word.startswith(_ADJECTIVES_OF_PLACES)


def _words(line: str, *, start: int = 0) -> list[_Word]:
    return [_Word(m.group(), m.start(), m.end(), fold(m.group())) for m in _TOKEN.finditer(line, start)]
