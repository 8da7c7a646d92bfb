"""A file's bytes as text, and which format the text is.

%PDF, a picture, a web page, JSON, nothing        refused, each with the format to export instead
UTF-8, UTF-16, Windows-1252, -1250, Latin-2 ...    told apart by their bytes, by the names of known columns, and by
                                                  which alphabet the letters beyond ASCII belong to
those of old Macs and of DOS                      the same, where none of the above is plausible
OFX, CAMT, MT940, QIF, CSV                        told apart by their first lines
"""

import codecs
import re
from pathlib import Path
from typing import Literal

from fintune_kit.bank.statements.columns import is_known_name
from fintune_kit.errors import UserError

Kind = Literal["csv", "ofx", "mt940", "camt", "qif"]

EXPORT = "export the account's transactions as CSV, Excel, OFX, MT940, CAMT or QIF from the bank's website"
_BINARY = (
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"II*\0", "a picture"),
    (b"MM\0*", "a picture"),
    (b"PAR1", "a Parquet file"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ALPHABETS = {
    "cp1252": "äöüß àâæçéèêëîïôœùûüÿ áéíñóúü àèéìíîòóùú ãáâàçéêíõóôúü éëïóöüèê åäöé æøåé áðéíóúýþæö àçèéíïòóúü",
    "cp1250": "ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž áéíóöőúüű ăâîşţșț čćđšž",
    "iso8859-2": "ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž áéíóöőúüű ăâîşţ čćđšž",
    "cp1254": "çğıiöşüâî",
    "cp1257": "ąčęėįšųūž āčēģīķļņšūž äõöüšž",
}
"""Letters beyond ASCII of the languages that an encoding is used for."""
_OTHER_SCRIPTS = ("cp1251", "cp932", "gb18030", "cp949", "cp1253")
_WEST, _EAST = _ALPHABETS["cp1252"], _ALPHABETS["cp1250"]
_OLDER = {"mac_roman": _WEST, "cp850": _WEST, "mac_latin2": _EAST, "cp852": _EAST, "mac_cyrillic": "", "cp866": ""}
"""Encodings of old Macs and of DOS, which some programs still write, with the letters of their languages."""
_CONTROLS_OF_TEXT = b"\t\n\v\f\r\x1a\x1b"
_MAX_CONTROLS = 0.02  # of the bytes: more control characters than that stand in no text
_PLAUSIBLE = 0.5  # fit of a Windows page: below it the older encodings are tried by their letters
_SYMBOLS_OF_LETTERS = re.compile(
    r"(?<=[^\W\d_])[¹²³¼½¾¿¡¢¤¥¦§©«®±¶»¸´](?=[^\W\d_])|[¿³¹](?=[a-z])|(?<=[a-z])[³¹¿]|"
    r"(?<!\w)[©®¥¦¬±¶¼¾](?=[a-z]{2})|(?<!\w)[À-ž](?=-?\d)|"  # of £12.10, read as Polish
    r"[\x80-\x9f]|(?<=[^\W\d_])[†‡‰ˆ‹›„ƒ](?=[^\W\d_])|(?<!\w)[†‡‰ˆƒ](?=[a-z]{2})|[ﬁﬂ]|"
    r"(?<=[a-z])[À-ÞŠŽŒŸ]|(?<=[A-Z])[À-ÞŠŽŒŸ](?=[a-z])"  # of an old Mac's letters, read as Windows': LibellŽ
)
_SHARE_OF_FOREIGN = 0.3  # of the letters: more beyond ASCII is another script


def decoded(raw: bytes, *, path: Path, encoding: str | None = None) -> str:
    """The text of a statement.

    Raises:
        UserError: the file is empty or not text, or its encoding cannot be told or is not the one named.
    """
    if not raw.strip():
        raise UserError(f"{path} is empty; expected a bank's export: {EXPORT}")
    for start, what in _BINARY:
        if raw.startswith(start):
            raise UserError(f"{path} is {what}, expected a statement: {EXPORT}")
    if encoding is None:
        encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), None) or _without_mark(raw, path=path)
    try:
        text = raw.decode(encoding)
    except LookupError:
        raise UserError(f"--encoding {encoding!r} is not an encoding that Python knows; try utf-8 or cp1252") from None
    except UnicodeError:  # `from None`: the exception would carry the file's bytes
        raise UserError(
            f"{path} is not text in {encoding}; name its encoding with --encoding (cp1252, utf-8, utf-16, cp1250 ...)"
        ) from None
    if "\0" in text:
        raise UserError(_binary(path))
    return text.removeprefix("\ufeff")


def statement_kind(text: str, *, path: Path) -> Kind:
    """The format of a statement's text; CSV is what is left.

    Raises:
        UserError: it is a web page or JSON.
    """
    start = text[:8000].lstrip().casefold()
    if start.startswith(("<!doctype html", "<html")):
        raise UserError(f"{path} is a web page, expected a statement: {EXPORT}")
    if start.startswith(("{", "[")) and '"' in start and not start.startswith("{1:"):
        raise UserError(f"{path} is JSON, expected a statement: {EXPORT}")
    if start.startswith(("!type:", "!account", "!option:", "!clear:")):
        return "qif"
    if "ofxheader" in start or "<ofx>" in start:
        return "ofx"
    if "camt.05" in start or "<bktocstmr" in start:
        return "camt"
    if re.search(r"^:(?:20|25|28C?):", text[:8000], re.MULTILINE) and re.search(r"^:6[012]", text, re.MULTILINE):
        return "mt940"
    return "csv"


def _without_mark(raw: bytes, *, path: Path) -> str:
    """The encoding of a file that does not say it."""
    sample = raw[:4000]
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
        if zeros.count(0) > 0.3 * max(1, len(zeros)):
            return encoding
    controls = sum(byte < 0x20 and byte not in _CONTROLS_OF_TEXT for byte in sample)
    if controls > _MAX_CONTROLS * len(sample):
        raise UserError(_binary(path))
    if _decodes(raw, "utf-8") is not None:
        return "utf-8"
    encodings = (*_ALPHABETS, *_OTHER_SCRIPTS, *_OLDER)
    named = {name: _known_names(text) for name in encodings if (text := _decodes(raw, name))}
    best = max(named, key=lambda name: named[name], default=None)
    if best and named[best] > named.get("cp1252", 0):
        return best
    fits = {name: _fit(text, _ALPHABETS[name]) for name in _ALPHABETS if (text := _decodes(raw, name))}
    if max(fits.values(), default=0.0) < _PLAUSIBLE:
        fits |= {name: _fit(text, letters) for name, letters in _OLDER.items() if (text := _decodes(raw, name))}
    best = max(fits, key=lambda name: fits[name], default=None)
    if best is None or fits[best] <= 0:
        raise UserError(
            f"the encoding of {path} cannot be told: it is neither UTF-8 nor a plausible Windows code page; name it "
            "with --encoding (cp1252, cp1250, cp1251, shift_jis, gb18030 ...)"
        )
    return best


def _binary(path: Path) -> str:
    return f"{path} holds binary data, expected a statement as text: {EXPORT}"


def _decodes(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _known_names(text: str) -> int:
    """How many cells of the first lines are names of columns that need letters beyond ASCII."""
    cells = [cell.strip(' "') for line in text.splitlines()[:30] for cell in re.split(r"[,;\t|]", line)]
    return sum(is_known_name(cell) for cell in cells if cell and not cell.isascii())


def _fit(text: str, alphabets: str) -> float:
    """Share of the letters beyond ASCII that one language has, less what stands where no sign can; 0 is implausible."""
    letters = [character for character in text.casefold() if character.isalpha()]
    beyond = [character for character in letters if not character.isascii()]
    if len(beyond) > _SHARE_OF_FOREIGN * max(1, len(letters)):
        return 0.0
    if not beyond:
        return 0.5 if not _SYMBOLS_OF_LETTERS.search(text) else 0.1
    found = (sum(letter in alphabet for letter in beyond) for alphabet in alphabets.split())
    covered = max(found, default=0) / len(beyond)
    return covered - len(_SYMBOLS_OF_LETTERS.findall(text)) / len(beyond)
