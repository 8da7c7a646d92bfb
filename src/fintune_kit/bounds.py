"""How much one file may unpack to. A file of a thousand bytes can otherwise fill the memory of any machine.

    the file's size     bytes that it may unpack to     rows that it may hold
    912 bytes           512 MiB                         1,000,000
    50 MB               5 GB                            12,500,000

`FINTUNE_READ_LIMIT` multiplies both.
"""

from dataclasses import dataclass
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.workspace import read_limit

MIN_BYTES, MAX_RATIO = 512 * 2**20, 100
"""Text packs to a tenth of its size or so; a hundredth is a file that repeats itself."""
MIN_ROWS, BYTES_A_ROW = 1_000_000, 4
"""A million rows take some hundred megabytes of memory, however short they are."""


@dataclass
class Bounds:
    """Counts what a file unpacks to, and stops at its limits."""

    path: Path
    size: int
    """Bytes of the file on disk."""
    bytes: int = 0
    rows: int = 0

    @classmethod
    def of(cls, path: Path) -> "Bounds":
        """Those of a file on disk."""
        return cls(path, path.stat().st_size)

    @property
    def max_bytes(self) -> int:
        """The bytes that the file may unpack to."""
        return int(max(MIN_BYTES, MAX_RATIO * self.size) * read_limit())

    @property
    def max_rows(self) -> int:
        """The rows that the file may hold."""
        return int(max(MIN_ROWS, self.size // BYTES_A_ROW) * read_limit())

    def add(self, *, bytes: int = 0, rows: int = 0) -> None:  # noqa: A002 - the name of the field
        """Counts more bytes and rows. It is called before they are held in memory, where their number is known.

        Raises:
            UserError: these are more than the file may have.
        """
        self.bytes += bytes
        self.rows += rows
        for found, allowed, what in ((self.bytes, self.max_bytes, "bytes"), (self.rows, self.max_rows, "rows")):
            if found > allowed:
                raise UserError(
                    f"{self.path} has {self.size:,} bytes and unpacks to {found:,} {what} or more; allowed are "
                    f"{allowed:,}: check where it comes from, and if it is right, set FINTUNE_READ_LIMIT=10 to allow "
                    f"ten times as much"
                )
