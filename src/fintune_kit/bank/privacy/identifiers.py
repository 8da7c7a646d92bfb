"""Finds accounts, cards, IBANs, national ids, phones, e-mail, UPI ids, references and addresses in a bank line.

    ZELLE TO +1 312 555 0100 CONF# A7K2P9Q  03/17  12.50
             PHONE            REF           kept   kept

Dates, times and amounts are set aside first. In the rest, a run of five or more digits is an identifier, and so is a
token that mixes letters and digits unlike a word. Its kind need not be known: it is better to lose a store number than
to keep a card. IBANs and cards are recognised by their check digits (python-stdnum).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from stdnum import iban, luhn

from fintune_kit.bank.privacy.name_words import BLANK, business_words, numbered_merchants


def _pattern(*alternatives: str) -> re.Pattern[str]:
    """Any of the alternatives, without regard to case."""
    return re.compile("|".join(f"(?:{alternative})" for alternative in alternatives), re.IGNORECASE)


_WORD = r"[^\W\d_]"
_MONTH = (
    r"(?:jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|mar(?:ch|s)?|apr(?:il)?|may|mai|june?|july?|juin|aug(?:ust)?|sept?(?:ember)?|"
    r"o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
_DATE = _pattern(
    r"(?<![\d./-])(?:19|20)\d\d([-/.])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?![\d-])",
    r"(?<![\d./-])(?:0?[1-9]|[12]\d|3[01])([/.])(?:0?[1-9]|1[0-2])(?:\2(?:(?:19|20)?\d\d)?)?(?![\d/-]|\.\d)",
    r"(?<![\d./-])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?:/(?:(?:19|20)?\d\d))?(?![\d/-]|\.\d)",
    r"(?<![\d./-])(?:0[1-9]|[12]\d|3[01])-(?:0[1-9]|1[0-2])-(?:(?:19|20)?\d\d)(?![\d-]| \d{6})",
    rf"(?<![\w./-])(?:0?[1-9]|[12]\d|3[01])[ -]?{_MONTH}\b(?:[ -](?:19|20)?\d\d(?!\w))?",
    rf"\b{_MONTH} (?:0?[1-9]|[12]\d|3[01])(?:,? (?:19|20)\d\d)?(?!\d)",
    r"(?<![\d:])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?![\d:])",
)
_CODES = (
    "usd|eur|gbp|inr|chf|pln|sek|nok|dkk|czk|huf|ron|try|brl|mxn|cad|aud|nzd|sgd|hkd|jpy|cny|rub|zar|ngn|kes|aed|sar"
)
_MONEY = rf"(?:[$€£₹¥₽₺]|\b(?:rs\.?|{_CODES}))"
_AMOUNT = _pattern(
    r"(?<![\w.,/-])[-+]?(?:[$€£₹] ?|Rs\.? ?)?\d{1,3}(?:[,.']\d{2,3})*[.,]\d{2}(?![\w/-]|[.,]\d)",
    r"(?<![\w.,/-])[-+]?(?:[$€£₹] ?|Rs\.? ?)?\d{1,6}[.,]\d{2}(?![\w/-]|[.,]\d)",
    r"(?<![\w.,/-])\d{1,3}(?: \d{3})+,\d{2}(?![\w/-])",
    rf"{_MONEY} ?\d{{1,3}}(?:[,.' ]\d{{2,3}})+(?:[.,]\d{{1,2}})?(?:/-)?(?![\w-]|[.,]\d)",
    rf"{_MONEY} ?\d{{1,7}}(?:[.,]\d{{1,2}})?(?:/-)?(?![\w-]|[.,]\d)",
    rf"(?<![\w.,/-])\d{{1,7}}(?:[.,]\d{{1,2}})? ?(?:{_CODES}|/-)(?!\w)",
    r"(?:@|\brate:?|\bkurs:?) ?\d{1,3}[.,]\d{2,6}(?!\d)",
)
_MAIL_HOSTS = (
    "gmail|googlemail|gmx|web|yahoo|ymail|hotmail|outlook|live|msn|icloud|me|aol|proton|pm|fastmail|mail|mailbox|posteo|"
    "orange|wanadoo|free|laposte|libero|virgilio|tiscali|seznam|wp|onet|o2|interia|rediffmail|yandex|qq|163|126|naver|"
    "t-online|freenet|arcor|bluewin|sapo|uol|terra|comcast|verizon|att|sbcglobal|btinternet|sky|telenet|ziggo|kpn|telia"
)
_EMAIL = _pattern(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z][\w-]+",
    rf"[\w.+-]+ ?@ ?(?:{_MAIL_HOSTS})\w*(?:\.[a-z]{{2,4}})+",
    r"[\w.+-]+ ?[(\[{]at[)\]}] ?[\w-]+(?: ?(?:\.|[(\[{]dot[)\]}]| dot ) ?[\w-]+)+",
    r"[\w.+-]+ at [\w-]+ dot [\w-]+(?: dot [\w-]+)?",
)
_LINK = _pattern(
    r"(?<=paypal\.me/)[\w.-]+", r"(?<=revolut\.me/)[\w.-]+", r"(?<=monzo\.me/)[\w.-]+", r"(?<=cash\.app/)[$\w.-]+"
)
_UPI = _pattern(r"(?:(?<![A-Za-z])(?-i:[a-z0-9.]+['-]))*[\w.+]+@[a-z][a-z0-9]+\b")
_BORN = _pattern(
    r"\b(?:geb(?:\.|oren(?: am)?)?|geburtsdatum|geburtstag|dob|d\.o\.b\.?|born|birth ?dat[ae]|date of birth|"
    r"n[ée]e? le|date de naissance|nacid[oa](?: el)?|fecha de nacimiento|f\.? ?nac\.?|nat[oa] il|data di nascita|"
    r"nascid[oa](?: em)?|data de nascimento|dt\.? nasc\.?|ur\.|data urodzenia|narozen[aáý]?|dat\.? nar\.?|f[øo]dt|"
    r"f[öo]dd|syntynyt|geboortedatum|sz[üu]letett|sz[üu]l\.|do[gğ]um tarihi)[ :.]*"
    r"(?P<born>\d{1,4}(?:[./ -]\d{1,2}[./ -]\d{2,4}|[ -]\w{3,9}[ -]\d{2,4}))",
    r"(?:生年月日|出生日期|생년월일)[ :：]*(?P<born2>\d{2,4}[-/.年]\d{1,2}[-/.月]\d{1,2})",
)
_HANDLE = _pattern(r"(?<![\w@])@[\w-]{2,}", r"\$[a-z]\w{2,}")
_UUID = _pattern(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_IBAN_SHAPED = _pattern(
    r"(?<![a-z0-9])[a-z]{2}\d{2}(?: [a-z0-9]{4}){2,7}(?: [a-z0-9]{1,3}(?=$|[\0/,;]))?(?![a-z0-9])(?<=\d)",
    r"(?<![a-z0-9])rf\d{2}[a-z0-9]{4,21}(?![a-z0-9])",
)
_CARD = re.compile(
    r"(?<![\w-])(?:\d{13,19}|\d{4}(?P<a>[ ._-])\d{4}(?P=a)\d{4}(?P=a)\d{4}(?:(?P=a)\d{3})?|"
    r"\d{4}(?P<b>[ ._-])\d{6}(?P=b)\d{5})(?![\w-])"
)
_MASKED = _pattern(r"(?<![a-z0-9])[\dx*]+(?:[ -][\dx*]+)*(?![a-z])")
_NATIONAL = _pattern(
    r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",  # SSN
    r"\b[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b",  # National Insurance number
    r"\b[A-Z]{5}\d{4}[A-Z]\b",  # PAN
    r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)",  # CPF
    r"(?<![\d-])\d{4} \d{4} \d{4}(?! ?\d)",  # Aadhaar
    r"(?<![\d-])\d{2} \d{3} \d{3} \d{3}(?! ?\d)",  # German tax id
    r"\b\d{8}-?[A-HJ-NP-TV-Z]\b",  # DNI
)
_PLATE = _pattern(
    r"\b(?:ringgo|paybyphone|plate|number ?plate|reg|vrm|vrn|vehicle|dvla|kfz|kennzeichen|matr[ií]cula|targa)[ .:#-]*"
    r"(?P<plate>[a-z]{1,3}[ -]?\d{1,4}[ -]?[a-z]{2,3}|[a-z]{1,3}[ -][a-z]{1,2}[ -]\d{1,4})(?![\w-])"
)
_PHONE = _pattern(
    r"\+\d[\d ()./-]{6,18}\d",
    r"(?<!\w)(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}(?: ?x ?\d{2,5})?(?!\w)",
    r"(?<!\w)\(0\d{2,5}\) ?\d{3,4} ?\d{3,4}(?!\w)",
    r"(?<![\w.-])(?:1[ .-])?\d{3}([ .-])\d{3}\1\d{4}(?: ?x ?\d{2,5})?(?![\w-])",
    r"(?<![\w.-])0\d{2,4}[ /-]{1,3}\d{5,8}(?![\w-])",
    r"(?<![\w.-])0\d(?:[ .]\d{2}){4}(?![\w-])",
    r"(?<![\w.-])[6-9]\d{4}[ -]?\d{5}(?![\w-])",
)
_SUFFIX = (
    "st|street|ave|avenue|rd|road|blvd|boulevard|ln|lane|dr|drive|ct|court|pl|place|ter|terrace|way|hwy|highway|pkwy|parkway|"
    "cir|circle|row|close|crescent|cres|grove|mews|gardens|trail|trl|path|walk|loop|alley|hollow|landing|manor|heights|hts|"
    "turnpike|tpke|expressway|parade|gate|wharf|broadway|chowk|marg|nagar"
)
_NO_STREET = r"(?:at|to|for|from|on|of|in|via|by)\b"
_ADDRESS = _pattern(
    rf"(?<![\w#*/,.])\d{{1,6}}[a-z]? (?:[nsew]{{1,2}}\.? )?(?:(?!{_NO_STREET}){_WORD}[\w'.-]* |\d+(?:st|nd|rd|th) )"
    r"{1,3}?"
    rf"(?:{_SUFFIX})\b\.?"
    r"(?:,? (?:apt|unit|ste|suite|flat|#)\b\.? ?\w+)?",
    rf"(?<![\w#*/])\d{{1,6}} (?:{_WORD}[\w'.-]* ){{1,3}}(?:apt|unit|suite|flat)\b\.? ?\w+",
    rf"\b(?:h\.? ?no|house no|flat(?: no)?|plot(?: no)?|door no|d\.? ?no|room no)[. ]*\d[\w/-]*,? "
    rf"(?:{_WORD}[\w'.-]* ){{0,3}}(?:nagar|colony|layout|road|rd|street|st|cross|main|sector|phase|block|"
    r"apartments?|apts?|residency|towers?|enclave|vihar|puram|society|marg|chowk|villas?|heights)\b",
    rf"\b(?:ul|al|os|pl)\. ?(?:{_WORD}[\w'-]*\.? ){{1,4}}\d{{1,4}} ?[a-z]?(?:[/-]\d{{1,4}})?(?!\w)",
    rf"\b{_WORD}[\w-]*(?:gade|gata|gatan|gaten|vej|veien|v[äa]gen|str[æa]de|plads|torget|torvet?|katu|kuja|utca|"
    r"boulevard(?:en)?|all[eé]n?|v[æa]nget|stien|stigen|gr[äa]nd|backen|brinken|esplanaden) \d{1,4}"
    r" ?[a-z]?(?!\w)",
    r"[\u4e00-\u9fff]{2,}(?:路|街|道|巷)\d+[号號弄]?(?:\d+[室楼])?",
    r"(?:[\u4e00-\u9fff]+[市区町村])?[\u4e00-\u9fff\u30a0-\u30ff]*\d+(?:丁目|番地)[\d番号-]*",
    rf"\b{_WORD}[\w-]*(?:str\.|str(?=\b)|stra(?:ß|ss)e|allee|gasse|straat|laan|plein|gracht|kade|weg) \d{{1,4}}"
    r" ?[a-z]?(?!\w)",
    rf"\b{_WORD}+(?: {_WORD}+)? (?:strasse|straße|gasse|platz|weg|allee|ring|damm|ufer) \d{{1,4}} ?[a-z]?(?!\w)",
    rf"\b(?:am|an der|auf der|im|in der|zum|zur) {_WORD}{{3,}} \d{{1,3}} ?[a-z]?(?!\w)",
    rf"(?<!\w)\d{{1,4}}(?: ?(?:bis|ter))?,? (?:rue|avenue|av\.?|bd|boulevard|place|chemin|all[ée]e|impasse|quai|route) "
    rf"(?:(?:de|du|des|la|le|les) |[dl]')*{_WORD}[\w'-]*",
    rf"\b(?:calle|c/|avda\.?|avenida|paseo|av\.|via|viale|piazza|corso|rua|travessa|largo|callej[óo]n) ?"
    rf"(?:(?:de|del|la|los|las|das|dos|da|do|di|della|delle|dei|degli) )*{_WORD}[\w'-]*(?: {_WORD}[\w'-]*){{0,2}},? "
    r"\d{1,4}(?!\w)",
    r"\bp\.? ?o\.? ?box \d+",
    r"\bpostfach \d[\d ]*\d",
)
_POSTCODE = _pattern(
    r"\b[a-z]{1,2}\d[a-z\d]? ?\d[abd-hjlnp-uw-z]{2}\b",  # British
    r"\b[abceghj-nprstvxy]\d[a-z] ?\d[a-z]\d\b",  # Canadian
)
_FLAT_CUE = re.compile(
    r"\b(?:rent|miete|kaltmiete|loyer|huur|alquiler|affitto|czynsz|address|adresse|anschrift|whg|wohnung|delivery|lieferung)\b",
    re.IGNORECASE,
)
_RENTED = _pattern(  # a street without a word that says street: `NAJEM DLOUHA 14`
    r"\b(?:kaltmiete|miete|loyer|huur|alquiler|affitto|aluguel|renda|czynsz|najem|n[áa]jem(?:n[ée])?|hyra|husleie|"
    rf"husleje|vuokra|kira|chirie)[ :]+(?P<rented>(?:(?!{_MONTH}|whg|wohnung|ref|kenmerk|nr|no\b){_WORD}{{3,}} ){{1,3}}"
    r"\d{1,3} ?[a-z]?)(?![\w.,/-])"
)
_GROUPS = re.compile(r"(?<![A-Za-z0-9])\(?\d+\)?(?:(?:[./-]{1,2}|\) ?)\(?\d+\)?)*(?![A-Za-z0-9])")
_SPACED = re.compile(r"(?<![A-Za-z0-9.,/-])\d{1,6}(?: \d{1,6}){2,}(?![A-Za-z0-9])")
_CUED = _pattern(
    r"\b(?:ref|reference|conf|confirmation|auth|trace|trn|txn|id|no|nr|num|order|invoice|inv|mandat|mandato|mandate|"
    r"machtiging|mdt|mref|eref|kref|cred|kundennr|kd-nr|ktr|acct|account|konto|check|chq|cheque|utr|rrn|arn|glaeubiger|"
    r"crs|cro)"
    r"(?:[ .:#+/-]|\bno\b|\bnr\b)+(?P<token>(?=[a-z0-9./-]*\d)[a-z0-9]+(?:[./-][a-z0-9]+)*)",
    r"\b(?:ref|conf|auth|mref|eref|trn|txn) ?[#:+] ?(?P<letters>(?-i:[A-Z]{6,}))\b",
)
_STARRED = _pattern(
    r"(?:amzn mktp|amazon|amz|prime|mktpl|kindle)[\w. ]*\*(?P<token>(?=[a-z0-9]*[a-z])[a-z0-9]{7,12})\b",
    r"\* ?(?P<token2>(?=[a-z0-9]*\d)(?=[a-z0-9]*[a-z])[a-z0-9]{5,})\b",
)
_TOKEN = re.compile(r"[^\W_]+")
_CHAIN = re.compile(r"[^\W_]+(?:[-/_.:+][^\W_]+)*")
_CUE_BEFORE_FOUR = re.compile(r"(?:card|cd|ending|in|debit|no|nr|ref|chk|check|acct|#|\*|x+)[ .:#*]*$", re.IGNORECASE)
_CONSONANTS = re.compile(r"[BCDFGHJKLMNPQRSTVWXZ]{4}", re.IGNORECASE)
_UNSPEAKABLE = re.compile(r"^(?=[A-Z]{9,}$)(?!.*(?:SCH|GMBH)).*[BCDFGHJKLMNPQRSTVWXZ]{6}")
_FOR_A_WORD = re.compile(r"(?=[a-z]*[aeiouy])[a-z]{3,}[24](?=[a-z]*[aeiouy])[a-z]{3,}", re.IGNORECASE)  # FIT4LESS
_KEEP_LETTERS = {"upi", "imps", "neft", "sepa", "visa", "card", "iban", "ref", "id", "p2p", "ach", "pos", "eur", "usd"}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters of a line that identify somebody: `text[start:end]`."""

    start: int
    end: int
    kind: str


def plain_characters(text: str) -> str:
    """The text with digits, dashes and spaces of any script as ASCII, character for character."""
    if text.isascii():
        return text
    return "".join(character if character.isascii() else _plain(character) for character in text)


def find_identifiers(text: str, *, keep: Iterable[str] = ()) -> tuple[list[Span], str]:
    """Identifiers of a line, left to right, and the line with them (and its dates and amounts) blanked.

    Args:
        text: the line.
        keep: words of merchants. They are not identifiers, even if they look like one.

    Returns:
        The spans, and the blanked line: of the same length, so that names are looked for in it at valid positions.
    """
    line, spans = plain_characters(text), []
    kept: list[tuple[str | None, Finder]] = [
        (None, _matches(re.compile(re.escape(words), re.IGNORECASE))) for words in keep if words
    ]
    for kind, finder in (*kept, *_FINDERS):
        for start, end in list(finder(line)):
            if BLANK in line[start:end]:
                continue
            line = line[:start] + BLANK * (end - start) + line[end:]
            if kind is not None:
                spans.append(Span(start, end, _refined(kind, text[start:end])))
    return sorted(spans), line


def dates_and_amounts(text: str) -> list[Span]:
    """Where dates, times, amounts and rates stand, left to right (kinds DATE and AMOUNT)."""
    line = plain_characters(text)
    spans = [Span(*span, "DATE") for span in _dates(line)]
    spans += [
        Span(start, end, "AMOUNT")
        for start, end in _amounts(line)
        if all(end <= date.start or date.end <= start for date in spans)
    ]
    return sorted(spans)


def _plain(character: str) -> str:
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    if category in ("Pd", "Cf"):  # a zero-width character inside a number must not hide it
        return "-"
    if unicodedata.east_asian_width(character) == "F":
        return unicodedata.normalize("NFKC", character)[:1]
    return "*" if character in "•●∗" else character


Finder = Callable[[str], Iterable[tuple[int, int]]]


def _matches(pattern: re.Pattern[str]) -> Finder:
    return lambda line: ((match.start(), match.end()) for match in pattern.finditer(line) if match.group())


def _named_groups(pattern: re.Pattern[str]) -> Finder:
    return lambda line: (match.span(match.lastgroup) for match in pattern.finditer(line) if match.lastgroup)


def _dates(line: str) -> Iterator[tuple[int, int]]:
    return ((match.start(), match.end()) for match in _DATE.finditer(line))


def _amounts(line: str) -> Iterator[tuple[int, int]]:
    return ((match.start(), match.end()) for match in _AMOUNT.finditer(line))


def _merchants_with_digits(line: str) -> Iterator[tuple[int, int]]:
    """`BET365`, `24 HOUR FITNESS`: the digits are the name."""
    return numbered_merchants().spans(line)


def _addresses(line: str) -> Iterator[tuple[int, int]]:
    """Streets with their numbers. `4411 ELM STREET DINER` is a terminal's number and a diner: the number goes."""
    told = _FLAT_CUE.search(line)
    for match in _ADDRESS.finditer(line):
        following = _TOKEN.search(line, match.end())
        number = re.match(r"\d{4,}", match.group())
        is_shop = following is not None and following.group().casefold() in business_words()
        yield (match.start(), match.start() + number.end()) if number and is_shop and not told else match.span()


def _ibans(line: str) -> Iterator[tuple[int, int]]:
    """Account numbers whose check digits hold, with or without spaces."""
    for match in _IBAN_START.finditer(line):
        characters = [i for i in range(match.start(), min(len(line), match.start() + 48)) if line[i].isalnum()]
        for length in range(min(34, len(characters)), 14, -1):
            start, end = characters[0], characters[length - 1] + 1
            inner = line[start:end]
            if (
                len(inner) - length > 9
                or (end < len(line) and line[end].isalnum())
                or not re.fullmatch(r"[\w -]+", inner)
            ):
                continue
            # a wrong national check digit inside still leaves an account number
            if iban.is_valid(inner.replace(" ", "").replace("-", ""), check_country=False):
                yield start, end
                break


def _cards(line: str) -> Iterator[tuple[int, int]]:
    """13 to 19 digits, in groups or not, whose Luhn digit holds."""
    for match in _CARD.finditer(line):
        digits = "".join(character for character in match.group() if character.isdigit())
        if digits[0] in "23456" and luhn.is_valid(digits):
            yield match.span()


def _masked_numbers(line: str) -> Iterator[tuple[int, int]]:
    """Numbers that the bank has masked in part: the digits that are left still tell an account."""
    for match in _MASKED.finditer(line):
        text = match.group()
        masks = sum(character in "xX*" for character in text)
        digits = sum(character.isdigit() for character in text)
        if masks + digits >= 4 and digits >= 2 and (masks >= 2 or (masks == 1 and text[0] in "xX*" and digits >= 4)):
            start = match.start() + len(text) - len(text.lstrip(" -"))
            yield start, match.start() + len(text.rstrip(" -*"))


def _digit_groups(line: str) -> Iterator[tuple[int, int]]:
    """Runs of digits joined by punctuation, and longer rows of groups joined by blanks."""
    for match in _SPACED.finditer(line):
        groups = match.group().split(" ")
        if sum(map(len, groups)) >= 7 and (len(groups) >= 4 or min(map(len, groups)) >= 2):
            yield match.span()
    for match in _GROUPS.finditer(line):
        count = sum(character.isdigit() for character in match.group())
        is_year = re.fullmatch(r"(?:19[5-9]|20[0-4])\d", match.group()) is not None
        if count >= 5 or (count == 4 and (not is_year or _CUE_BEFORE_FOUR.search(line[: match.start()]))):
            yield match.span()


def _mixed_tokens(line: str) -> Iterator[tuple[int, int]]:
    """Tokens that mix letters and digits as no word does; of a merchant with a number after it, the number."""
    for chain in _CHAIN.finditer(line):
        pieces = list(_TOKEN.finditer(line, *chain.span()))
        texts = [piece.group() for piece in pieces]
        parts = [_id_part(text) for text in texts]
        if all(text.isdigit() or (text.isalpha() and part is None) for text, part in zip(texts, parts, strict=True)):
            continue  # plain numbers are for _digit_groups
        for number in (*range(1, len(texts)), *reversed(range(len(texts) - 1))):
            if parts[number] is None and _belongs(texts, parts, number):
                parts[number] = (0, len(texts[number]))
        spans = [(p.start() + part[0], p.start() + part[1]) for p, part in zip(pieces, parts, strict=True) if part]
        yield from _merged(spans)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans with one character between them become one."""
    start = end = -2
    for left, right in spans:
        if left > end + 1:
            if start >= 0:
                yield start, end
            start = left
        end = right
    if start >= 0:
        yield start, end


def _id_part(text: str) -> tuple[int, int] | None:
    """Which characters of one token are an identifier: all, the digits after a name, or none."""
    digits = sum(character.isdigit() for character in text)
    if digits == 0:
        return (0, len(text)) if _UNSPEAKABLE.search(text) else None
    if digits == len(text):
        return (0, len(text)) if digits >= 4 else None
    if match := re.fullmatch(rf"({_WORD}{{4,}})(\d{{3,}})", text):  # SHELL12345
        return match.span(2)
    if _FOR_A_WORD.fullmatch(text):
        return None
    if re.fullmatch(rf"\d{{2,4}}{_WORD}{{6,}}", text) and not _CONSONANTS.search(text):
        return None  # 1800FLOWERS
    changes = sum(left.isdigit() != right.isdigit() for left, right in pairwise(text))
    if digits >= 3 or (digits == 2 and (changes >= 2 or len(text) >= 8) and len(text) >= 4):
        return 0, len(text)
    is_code = (changes == 2 and len(text) >= 6) or (len(text) >= 8 and text.isupper())
    return (0, len(text)) if digits == 1 and is_code else None


def _belongs(texts: list[str], parts: list[tuple[int, int] | None], number: int) -> bool:
    """Whether a piece that looks innocent is part of the identifier that it hangs on: `ABCD` in ABCD-12F4-7788."""
    neighbours = [texts[i] for i in (number - 1, number + 1) if 0 <= i < len(texts) and parts[i] is not None]
    text = texts[number]
    if not neighbours or text.casefold() in _KEEP_LETTERS:
        return False
    if any(character.isdigit() for character in text):
        return True
    return 3 <= len(text) <= 6 and any(len(other) == len(text) and not other.isdigit() for other in neighbours)


def _refined(kind: str, text: str) -> str:
    """CARD where the check digit of a card holds, REF for what is only a number."""
    digits = "".join(character for character in plain_characters(text) if character.isdigit())
    if kind in ("REF", "PHONE") and 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn.is_valid(digits):
        return "CARD"
    return kind


_FINDERS: tuple[tuple[str | None, Finder], ...] = (
    (None, _merchants_with_digits),
    ("EMAIL", _matches(_EMAIL)),
    ("UPI", _matches(_UPI)),
    ("HANDLE", _matches(_LINK)),
    ("HANDLE", _matches(_HANDLE)),
    ("REF", _matches(_UUID)),
    ("IBAN", _ibans),
    ("REF", _matches(_IBAN_SHAPED)),
    ("CARD", _cards),
    ("CARD", _masked_numbers),
    ("ID", _matches(_NATIONAL)),
    ("ID", _named_groups(_PLATE)),
    ("PHONE", _matches(_PHONE)),
    ("DATE", _named_groups(_BORN)),
    (None, _dates),
    ("ADDRESS", _addresses),
    ("ADDRESS", _named_groups(_RENTED)),
    ("ADDRESS", _matches(_POSTCODE)),
    (None, _amounts),
    ("REF", _named_groups(_CUED)),
    ("REF", _named_groups(_STARRED)),
    ("REF", _mixed_tokens),
    ("REF", _digit_groups),
)
"""In the order of trust: a later finder does not see the spans of an earlier one. The spans of None are kept."""
