"""The lines of a file, in any encoding and of any length, damaged or not; and `Row`, which each of them becomes.

A row that cannot be read (a line that is not JSON, too many fields, a line of 50 MB) is a row too. It has a fault and
the line where it stands, so that rows read = rows kept + rows refused.
"""

import codecs
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fintune_kit.bounds import Bounds

MAX_LINE = 16 * 1024 * 1024
"""Characters in a line or a field. A longer one is not a row of text, and holding it would cost too much memory."""
MAX_RAW = 2_000
"""Characters of an unreadable row that are kept to look at."""
_ESCAPED = re.compile("[\udc80-\udcff]")


class UnreadableFileError(Exception):
    """A whole file that cannot be read. The message says what was found, what was expected and what to do."""


@dataclass(slots=True)
class Row:
    """One row as it stands in a file: its values, or what is wrong with it."""

    location: str
    """`line 17` or `row 17`, counted from 1."""
    values: dict[str, Any] | None
    fault: str | None = None
    raw: str | None = None
    """The first characters of an unreadable row."""
    note: str | None = None
    """How the row was read, if this was unusual (another encoding)."""


class Lines:
    """The lines of a stream as `str`, decoded one at a time; `number` is the number of the last line, from 1.

    Bytes that are not UTF-8 are read as Windows-1252, the most frequent other encoding; `not_utf8` holds the numbers of
    these lines. Lines over `MAX_LINE` are skipped; `overlong` holds their numbers with their lengths.
    """

    def __init__(self, stream: io.RawIOBase | io.BytesIO) -> None:
        self._stream = stream
        self._text = _text_of(stream)
        self.number = 0
        self.not_utf8: set[int] = set()
        self.overlong: dict[int, int] = {}

    @property
    def broken(self) -> str | None:
        """Why the content of a compressed file ends too early; None if it is whole."""
        return self._stream.broken if isinstance(self._stream, Unzipped) else None

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MAX_LINE and not line.endswith("\n"):
            self.overlong[self.number] = len(line) + self._skip_rest()
            return "\n"
        if not line.isascii() and _ESCAPED.search(line):
            self.not_utf8.add(self.number)
            line = _as_windows_1252(line)
        return line

    def _skip_rest(self) -> int:
        skipped = 0
        while part := self._text.readline(MAX_LINE):
            skipped += len(part)
            if part.endswith("\n"):
                break
        return skipped


class Unzipped(io.RawIOBase):
    """The content of a gzip file, up to where it is damaged. (Python's own reader loses what it has read by then.)

    Reading raises `UserError` where the content grows beyond its bounds.
    """

    def __init__(self, path: Path, *, bounds: Bounds) -> None:
        self._bounds = bounds
        self._file = path.open("rb")
        self._inflate = zlib.decompressobj(wbits=31)
        self._waiting = b""
        self.broken: str | None = None

    def readable(self) -> bool:
        """True: `io.BufferedReader` asks for it."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer with unpacked bytes. Returns their number: 0 at the end, or at a damage."""
        content = b""
        while not content and self.broken is None:
            if not self._waiting and not (taken := self._file.read(1 << 16)):
                self.broken = None if self._inflate.eof else "the compressed file ends too early"
                break
            content = self._inflated(self._waiting or taken, room=len(buffer))
        self._bounds.add(bytes=len(content))
        buffer[: len(content)] = content
        return len(content)

    def _inflated(self, packed: bytes, *, room: int) -> bytes:
        if self._inflate.eof:  # another member follows
            self._inflate = zlib.decompressobj(wbits=31)
        try:
            content = self._inflate.decompress(packed, room)
        except zlib.error as error:
            self.broken = f"the compressed file is damaged ({error})"
            return b""
        self._waiting = self._inflate.unconsumed_tail or self._inflate.unused_data
        return content

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def whole_text(stream: io.RawIOBase) -> tuple[str, bool]:
    """All text of a stream, with lines of any length; and whether some of it was not UTF-8."""
    with _text_of(stream) as reader:
        text = reader.read()
    if text.isascii() or not _ESCAPED.search(text):
        return text, False
    lines = (_as_windows_1252(line) if _ESCAPED.search(line) else line for line in text.splitlines(keepends=True))
    return "".join(lines), True


def _text_of(stream: io.RawIOBase | io.BytesIO) -> TextIO:
    """A reader of text without the marks of UTF-8 and UTF-16. Bytes that cannot be decoded become lone surrogates."""
    buffered = io.BufferedReader(stream)
    head = buffered.peek(4)[:4]
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding, errors = ("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")
    return io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline=None)


def _as_windows_1252(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def as_unicode(text: str) -> str:
    """The text without lone surrogates, which no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def overlong_row(location: str, length: int) -> Row:
    """The row that stands for a line over the limit."""
    return Row(location, None, fault=f"a line of {length:,} characters, expected at most {MAX_LINE:,}")


def encoding_note(not_utf8: bool) -> str | None:
    """The note of a row that was not UTF-8."""
    return "not UTF-8, read as Windows-1252" if not_utf8 else None


def repeated_names(names: Iterable[str]) -> list[str]:
    """The names that stand more than once in a header or an object, in the order in which they first appear."""
    return [name for name, count in Counter(names).items() if count > 1]
