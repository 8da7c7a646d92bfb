"""The sources that the user names, found and read: a file, a folder of files, a hub dataset, or `sample`.

    data.csv            all of it, pooled with the other sources
    data.csv=5000       5,000 of the chosen conversations come from it (or all, if it has fewer)
    data.csv*0.3        a weight: the rows that the counts leave are shared by weight (unmarked: 1)
    owner/name          a dataset on the hub
    owner/name:config@revision    one of its configs, at a revision

A path that exists under its whole name is that path, even with a `=` or `*` in it. In a folder and in a hub dataset,
files and splits for evaluation are left out (see `splits`). Each of them is announced.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from fintune_kit.data.read.files import FORMATS, format_of, read_rows
from fintune_kit.data.read.hub import hub_rows, open_hub
from fintune_kit.data.read.lines import Row, UnreadableFileError, as_unicode
from fintune_kit.data.read.splits import left_out
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.workspace import sample_folder, sha256_of

SAMPLE = "sample"
SAMPLE_FILE = "sujet_sample.csv"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?(@[\w./-]+)?")
_MARK = re.compile(r"(?P<location>.+?)(?:=(?P<count>[0-9_]+)|\*(?P<weight>[0-9]*\.?[0-9]+))")


@dataclass(frozen=True)
class Source:
    """One source, and how much of the selection it may fill."""

    name: str
    """Unique among a run's sources, and free of this machine's paths: each row id begins with it."""
    location: str
    """A path, or a hub id."""
    is_hub: bool = False
    count: int | None = None
    weight: float | None = None


@dataclass
class SourceFile:
    """The rows of one file (or hub dataset), or why none could be read."""

    source: Source
    name: str
    rows: Iterable[Row]
    """Read while they are iterated over, once."""
    fault: str | None = None
    sha256: str = ""


def parse_sources(texts: Iterable[str]) -> list[Source]:
    """The sources that the user wrote.

    Raises:
        UserError: a mark is wrong, or a name is neither a path nor a hub id.
        MissingInputError: a path does not exist.
    """
    sources: list[Source] = []
    for text in texts:
        location, count, weight = _split_mark(text)
        path, is_hub = _locate(location)
        name = as_unicode(location if is_hub or location == SAMPLE else path.name)
        taken = {source.name for source in sources}
        unique = name if name not in taken else next(n for i in range(2, 10**6) if (n := f"{name}({i})") not in taken)
        sources.append(
            Source(name=unique, location=location if is_hub else str(path), is_hub=is_hub, count=count, weight=weight)
        )
    if not sources:
        raise UserError("no source was named; expected a file, a folder or a hub id: add --source SRC")
    return sources


def _split_mark(text: str) -> tuple[str, int | None, float | None]:
    match = None if Path(text).expanduser().exists() else _MARK.fullmatch(text)
    if match is None:
        return text, None, None
    count = int(match["count"]) if match["count"] else None
    weight = float(match["weight"]) if match["weight"] else None
    if count == 0 or weight == 0:
        raise UserError(f"source {text!r} asks for nothing of it; expected a count or weight above 0: leave it out")
    return match["location"], count, weight


def _locate(location: str) -> tuple[Path, bool]:
    """The path of a source, and whether it is a hub id instead."""
    if location == SAMPLE:
        return sample_folder() / SAMPLE_FILE, False
    path = Path(location).expanduser()
    if path.is_file() and format_of(path) is None:
        raise UserError(f"{path} has no known ending; expected one of {', '.join(FORMATS)} (or with .gz): rename it")
    if path.exists():
        return path, False
    if _HUB_ID.fullmatch(location) and format_of(path) is None:
        return path, True
    raise MissingInputError(
        f"source {location!r} was not found; expected a file ({', '.join(FORMATS)}, also .gz), a folder of them or a "
        "hub id such as owner/name: check the path given to --source or FINTUNE_SOURCE"
    )


def read_source(source: Source) -> Iterator[SourceFile]:
    """Each file of a source with its rows; the files of a folder in the order of their names.

    Raises:
        UserError: the folder holds no file of rows, or the hub dataset cannot be loaded.
    """
    if source.is_hub:
        yield from _hub_files(source)
        return
    root = Path(source.location)
    paths = {path.relative_to(root).as_posix(): path for path in _files_of(root)}
    skipped = left_out(list(paths)) if root.is_dir() else set()
    for relative, path in paths.items():
        name = source.name if path == root else as_unicode(f"{source.name}/{relative}")
        if relative in skipped:
            yield SourceFile(source, name, [], fault=LEFT_OUT)
            continue
        try:
            yield SourceFile(source, name, _begun(read_rows(path)), sha256=sha256_of(path))
        except UnreadableFileError as error:
            yield SourceFile(source, name, [], fault=str(error), sha256=sha256_of(path))
        except OSError as error:
            yield SourceFile(source, name, [], fault=f"{path} cannot be read ({error.strerror or error})")


def _begun(rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows, the first of them read: a file that cannot be read at all says so before any row is used."""
    first = list(islice(rows, 1))
    return chain(first, _until_damage(rows))


def _until_damage(rows: Iterator[Row]) -> Iterator[Row]:
    """One unreadable row stands for all that follows a damage."""
    try:
        yield from rows
    except (UnreadableFileError, OSError) as error:
        yield Row("after the last row that could be read", None, fault=str(error))


LEFT_OUT = "it is for evaluation, and the source has other rows to train on: name it with --source to read it too"
"""The fault of a file or split that is left out."""


def _hub_files(source: Source) -> Iterator[SourceFile]:
    address, _, revision = source.location.partition("@")
    name, _, config = address.partition(":")
    splits = open_hub(name, config=config or None, revision=revision or None, streaming=True)
    skipped = left_out(list(splits))
    for split in splits:
        file = source.name if len(splits) == len(skipped) + 1 and split not in skipped else f"{source.name}/{split}"
        if split in skipped:
            yield SourceFile(source, file, [], fault=LEFT_OUT)
        else:
            yield SourceFile(source, file, _begun(hub_rows(name, splits[split])))


def _files_of(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    files = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and format_of(path) and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not files:
        raise MissingInputError(f"folder {root} holds no file of rows; expected {', '.join(FORMATS)} (also .gz) in it")
    return files
