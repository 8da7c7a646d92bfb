"""What identifiers, dates and amounts look like on a bank line: the patterns that identifiers.py applies in order.

Every one is anchored by what stands around it, so that a part of a longer number never passes for a whole one.
"""

import re


def pattern(*alternatives: str) -> re.Pattern[str]:
    """Any of the alternatives, without regard to case."""
    return re.compile("|".join(f"(?:{alternative})" for alternative in alternatives), re.IGNORECASE)


WORD = r"[^\W\d_]"
MONTH = (
    r"(?:jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|mar(?:ch|s)?|apr(?:il)?|may|mai|june?|july?|juin|aug(?:ust)?|sept?(?:ember)?|"
    r"o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
DATE = pattern(
    r"(?<![\d./-])(?:19|20)\d\d([-/.])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?![\d-])",
    r"(?<![\d./-])(?:0?[1-9]|[12]\d|3[01])([/.])(?:0?[1-9]|1[0-2])(?:\2(?:(?:19|20)?\d\d)?)?(?![\d/-]|\.\d)",
    r"(?<![\d./-])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?:/(?:(?:19|20)?\d\d))?(?![\d/-]|\.\d)",
    r"(?<![\d./-])(?:0[1-9]|[12]\d|3[01])-(?:0[1-9]|1[0-2])-(?:(?:19|20)?\d\d)(?![\d-]| \d{6})",
    rf"(?<![\w./-])(?:0?[1-9]|[12]\d|3[01])[ -]?{MONTH}\b(?:[ -](?:19|20)?\d\d(?!\w))?",
    rf"\b{MONTH} (?:0?[1-9]|[12]\d|3[01])(?:,? (?:19|20)\d\d)?(?!\d)",
    r"(?<![\d:])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?![\d:])",
)
AMOUNT = pattern(
    r"(?<![\w.,/-])[-+]?(?:[$€£₹] ?|Rs\.? ?)?\d{1,3}(?:[,.']\d{2,3})*[.,]\d{2}(?![\w/-]|[.,]\d)",
    r"(?<![\w.,/-])[-+]?(?:[$€£₹] ?|Rs\.? ?)?\d{1,6}[.,]\d{2}(?![\w/-]|[.,]\d)",
    r"(?<![\w.,/-])\d{1,3}(?: \d{3})+,\d{2}(?![\w/-])",
    r"(?:[$€£₹] ?|\bRs\.? ?)\d{1,3}(?:,\d{2,3})+(?![\w.,-])",
    r"(?:[$€£₹] ?|\bRs\.? )\d{1,4}(?![\w-]|[.,]\d)",
    r"(?:@|\brate:?|\bkurs:?) ?\d{1,3}[.,]\d{2,6}(?!\d)",
)
EMAIL = pattern(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
UPI = pattern(r"(?:(?<![A-Za-z])(?-i:[a-z0-9.]+['-]))*[\w.+]+@[a-z][a-z0-9]+\b")
HANDLE = pattern(r"(?<![\w@])@[\w-]{2,}", r"\$[a-z]\w{2,}")
UUID = pattern(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
IBAN_SHAPED = pattern(
    r"(?<![a-z0-9])[a-z]{2}\d{2}(?: [a-z0-9]{4}){2,7}(?: [a-z0-9]{1,3}(?=$|[\0/,;]))?(?![a-z0-9])(?<=\d)",
    r"(?<![a-z0-9])rf\d{2}[a-z0-9]{4,21}(?![a-z0-9])",
)
CARD = re.compile(
    r"(?<![\w-])(?:\d{13,19}|\d{4}(?P<a>[ -])\d{4}(?P=a)\d{4}(?P=a)\d{4}(?:(?P=a)\d{3})?|"
    r"\d{4}(?P<b>[ -])\d{6}(?P=b)\d{5})(?![\w-])"
)
MASKED = pattern(r"(?<![a-z0-9])[\dx*]+(?:[ -][\dx*]+)*(?![a-z])")
NATIONAL = pattern(
    r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",  # SSN
    r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b",  # National Insurance number
    r"\b[A-Z]{5}\d{4}[A-Z]\b",  # PAN
    r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)",  # CPF
    r"(?<![\d-])\d{4} \d{4} \d{4}(?! ?\d)",  # Aadhaar
    r"(?<![\d-])\d{2} \d{3} \d{3} \d{3}(?! ?\d)",  # German tax id
    r"\b\d{8}-?[A-HJ-NP-TV-Z]\b",  # DNI
)
PHONE = pattern(
    r"\+\d[\d ()./-]{6,18}\d",
    r"(?<!\w)(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}(?: ?x ?\d{2,5})?(?!\w)",
    r"(?<!\w)\(0\d{2,5}\) ?\d{3,4} ?\d{3,4}(?!\w)",
    r"(?<![\w.-])(?:1[ .-])?\d{3}([ .-])\d{3}\1\d{4}(?: ?x ?\d{2,5})?(?![\w-])",
    r"(?<![\w.-])0\d{2,4}[ /-]{1,3}\d{5,8}(?![\w-])",
    r"(?<![\w.-])0\d(?:[ .]\d{2}){4}(?![\w-])",
    r"(?<![\w.-])[6-9]\d{4}[ -]?\d{5}(?![\w-])",
)
SUFFIX = (
    "st|street|ave|avenue|rd|road|blvd|boulevard|ln|lane|dr|drive|ct|court|pl|place|ter|terrace|way|hwy|highway|pkwy|parkway|"
    "cir|circle|row|close|crescent|cres|grove|mews|gardens|trail|trl|path|walk|loop|alley|hollow|landing|manor|heights|hts|"
    "turnpike|tpke|expressway|parade|gate|wharf|broadway|chowk|marg|nagar"
)
ADDRESS = pattern(
    rf"(?<![\w#*/])\d{{1,6}}[a-z]? (?:[nsew]{{1,2}}\.? )?(?:{WORD}[\w'.-]* |\d+(?:st|nd|rd|th) ){{1,3}}?"
    rf"(?:{SUFFIX})\b\.?"
    r"(?:,? (?:apt|unit|ste|suite|flat|#)\b\.? ?\w+)?",
    rf"(?<![\w#*/])\d{{1,6}} (?:{WORD}[\w'.-]* ){{1,3}}(?:apt|unit|suite|flat)\b\.? ?\w+",
    rf"\b{WORD}[\w-]*(?:str\.|str(?=\b)|stra(?:ß|ss)e|allee|gasse|straat|laan|plein|gracht|kade|weg) \d{{1,4}}"
    r" ?[a-z]?(?!\w)",
    rf"\b{WORD}+(?: {WORD}+)? (?:strasse|straße|platz|weg|allee|ring|damm|ufer) \d{{1,4}} ?[a-z]?(?!\w)",
    rf"\b(?:am|an der|auf der|im|in der|zum|zur) {WORD}{{3,}} \d{{1,3}} ?[a-z]?(?!\w)",
    rf"(?<!\w)\d{{1,4}}(?: ?(?:bis|ter))?,? (?:rue|avenue|av\.?|bd|boulevard|place|chemin|all[ée]e|impasse|quai|route) "
    rf"(?:(?:de|du|des|la|le|les) |[dl]')*{WORD}[\w'-]*",
    rf"\b(?:calle|c/|avda\.?|avenida|paseo|via|viale|piazza|corso|rua|callej[óo]n) ?"
    rf"(?:(?:de|del|la|los|las) )*{WORD}[\w'-]*(?: {WORD}[\w'-]*){{0,2}},? \d{{1,4}}(?!\w)",
    r"\bp\.? ?o\.? ?box \d+",
    r"\bpostfach \d[\d ]*\d",
    r"\b[a-z]{1,2}\d[a-z\d]? ?\d[abd-hjlnp-uw-z]{2}\b",  # British postcode
)
GROUPS = re.compile(r"(?<![A-Za-z0-9])\(?\d+\)?(?:(?:[./-]{1,2}|\) ?)\(?\d+\)?)*(?![A-Za-z0-9])")
SPACED = re.compile(r"(?<![A-Za-z0-9.,/-])\d{1,6}(?: \d{1,6}){2,}(?![A-Za-z0-9])")
CUED = pattern(
    r"\b(?:ref|reference|conf|confirmation|auth|trace|trn|txn|id|no|nr|num|order|invoice|inv|mandat|mandato|mandate|"
    r"machtiging|mdt|mref|eref|kref|cred|kundennr|kd-nr|ktr|acct|account|konto|check|chq|cheque|utr|rrn|arn|glaeubiger|"
    r"crs|cro)"
    r"(?:[ .:#+/-]|\bno\b|\bnr\b)+(?P<token>(?=[a-z0-9./-]*\d)[a-z0-9]+(?:[./-][a-z0-9]+)*)",
    r"\b(?:ref|conf|auth|mref|eref|trn|txn) ?[#:+] ?(?P<letters>(?-i:[A-Z]{6,}))\b",
)
STARRED = pattern(
    r"(?:amzn mktp|amazon|amz|prime|mktpl|kindle)[\w. ]*\*(?P<token>(?=[a-z0-9]*[a-z])[a-z0-9]{7,12})\b",
    r"\* ?(?P<token2>(?=[a-z0-9]*\d)(?=[a-z0-9]*[a-z])[a-z0-9]{5,})\b",
)
TOKEN = re.compile(r"[^\W_]+")
CHAIN = re.compile(r"[^\W_]+(?:[-/_.:+][^\W_]+)*")
CUE_BEFORE_FOUR = re.compile(r"(?:card|cd|ending|in|debit|no|nr|ref|chk|check|acct|#|\*|x+)[ .:#*]*$", re.IGNORECASE)
CONSONANTS = re.compile(r"[BCDFGHJKLMNPQRSTVWXZ]{4}", re.IGNORECASE)
UNSPEAKABLE = re.compile(r"^(?=[A-Z]{6,}$)(?!.*(?:SCH|GMBH)).*[BCDFGHJKLMNPQRSTVWXZ]{6}")
KEEP_LETTERS = {"upi", "imps", "neft", "sepa", "visa", "card", "iban", "ref", "id", "p2p", "ach", "pos", "eur", "usd"}
