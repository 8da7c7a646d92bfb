"""Packs on disk. They are written once, checked by their sizes, and opened in milliseconds even if there are many.

packed/
    train/  validation/            `datasets` folders with the five columns of `pack.tree`, memory-mapped
    train_packs.parquet ...        a row a pack: examples, supervised_tokens, plain_tokens, written_tokens, and
                                   `strata`, how many of its examples belong to each stratum
    refused.parquet                row_id, split, reason, tokens: the examples that were not packed
    manifest.json                  tokenizer fingerprint, names of the strata, counts, SHA-256 of every file
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from fintune_kit.chat.examples import IGNORE, Examples
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.pack.tree import COLUMNS, Arrangement, write_columns
from fintune_kit.workspace import WRITTEN_BY, check_files, read_manifest

if TYPE_CHECKING:
    import datasets

_PACKS_AT_ONCE = 256
_COUNTS = ("examples", "supervised_tokens", "plain_tokens", "written_tokens")
_REFUSED = pa.schema([("row_id", pa.string()), ("split", pa.string()), ("reason", pa.string()), ("tokens", pa.int64())])


@dataclass(frozen=True)
class PackedSplit:
    """The packs of one split in training order, and what each holds: int64 [packs] each."""

    rows: "datasets.Dataset"
    examples: NDArray[np.int64]
    supervised_tokens: NDArray[np.int64]
    plain_tokens: NDArray[np.int64]
    """Tokens of the pack's examples, each counted alone. Ordinary packs would need this many positions."""
    written_tokens: NDArray[np.int64]
    strata: NDArray[np.int64]
    """[packs, strata] examples of each stratum; `Packed.strata` names them."""

    def __len__(self) -> int:
        return len(self.examples)


@dataclass(frozen=True)
class Packed:
    """A finished folder of packs."""

    train: PackedSplit
    validation: PackedSplit
    manifest: dict[str, Any]

    @property
    def strata(self) -> list[tuple[str, str]]:
        """Task type and label of each stratum; the label is empty where the question is open."""
        return [(task_type, label) for task_type, label in self.manifest["strata"]]

    def examples_by_task(self) -> tuple[NDArray[np.int64], list[str]]:
        """How many examples of each task the training packs hold, int64 [packs, tasks], and the names of the tasks."""
        tasks = list(dict.fromkeys(task_type for task_type, _ in self.strata))
        columns = np.array([tasks.index(task_type) for task_type, _ in self.strata], np.int64)
        counts = np.zeros((len(self.train), len(tasks)), np.int64)
        np.add.at(counts.T, columns, self.train.strata.T)
        return counts, tasks


@dataclass
class Refused:
    """Conversations that are not packed, as columns."""

    row_id: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    tokens: list[int | None] = field(default_factory=list)

    def add(self, row_id: str, *, split: str, reason: str, tokens: int | None = None) -> None:
        """Notes one of them; `tokens` is None if they were not counted."""
        for column, value in zip(vars(self).values(), (row_id, split, reason, tokens), strict=True):
            column.append(value)

    def write(self, path: Path) -> None:
        """Writes them as Parquet."""
        pq.write_table(pa.table(vars(self), schema=_REFUSED), path)


def write_split(
    folder: Path,
    split: str,
    *,
    examples: Examples,
    arrangement: Arrangement,
    composition: NDArray[np.int64],
    max_length: int,
    pad_id: int,
    fingerprint: str,
) -> None:
    """Writes the packs of a split, and the table of what each holds.

    Args:
        arrangement: which examples lie in which pack; the packs are written in its order.
        composition: `[packs, strata]` examples of each stratum.
        max_length: positions in a pack.
        pad_id: of positions that stay empty.
        fingerprint: of the tokenizer, from which the data set's own is made.
    """
    import datasets

    features = datasets.Features({name: datasets.List(datasets.Value("int32"), length=max_length) for name in COLUMNS})
    tables = [features.arrow_schema.empty_table()]
    for first in tqdm(range(0, len(arrangement), _PACKS_AT_ONCE), desc=f"packs of {split}", unit=f"x{_PACKS_AT_ONCE}"):
        last = min(first + _PACKS_AT_ONCE, len(arrangement))
        columns = write_columns(examples, arrangement, first=first, last=last, max_length=max_length, pad_id=pad_id)
        arrays = [pa.FixedSizeListArray.from_arrays(columns[name].reshape(-1), max_length) for name in COLUMNS]
        tables.append(pa.Table.from_arrays(arrays, schema=features.arrow_schema))
    # A fingerprint of our own: the default one reads all rows again, and may change with how `datasets` pickles them.
    table = datasets.table.InMemoryTable(pa.concat_tables(tables))
    info = datasets.DatasetInfo(features=features)
    rows = datasets.Dataset(table, info=info, fingerprint=f"{split}-{fingerprint[:16]}")
    rows.save_to_disk(str(folder / split), num_shards=1)  # an empty split too needs its file
    table_of_packs: dict[str, Any] = {**_count_by_pack(examples, arrangement), "strata": composition.tolist()}
    schema = pa.schema([*((name, pa.int64()) for name in _COUNTS), ("strata", pa.list_(pa.int64()))])
    pq.write_table(pa.table(table_of_packs, schema=schema), folder / f"{split}_packs.parquet")


def open_packed(folder: Path, *, fingerprint: str | None = None, verify: bool = False) -> Packed:
    """Opens finished packs, memory-mapped. Sizes are checked always, every byte (SHA-256) with `verify`.

    Args:
        fingerprint: `ChatEncoder.fingerprint` of the tokenizer that the packs will be used with.

    Raises:
        MissingInputError: the folder is missing or unfinished.
        UserError: a file is missing, truncated or changed, or the packs were made with another tokenizer.
    """
    manifest = read_manifest(folder, stage="packed")
    made_with = manifest["tokenizer"]["fingerprint"]
    if fingerprint is not None and fingerprint != made_with:
        raise UserError(
            f"the packs in {folder} were made with tokenizer {made_with[:12]}, expected {fingerprint[:12]}, the "
            "model's: pack again with the model's tokenizer"
        )
    for name, size in manifest["sizes"].items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            raise MissingInputError(
                f"{path} is missing, though its manifest lists it; run {WRITTEN_BY['packed']} again"
            )
        if found != size:
            raise UserError(f"{path} has {found} bytes, expected {size}; run {WRITTEN_BY['packed']} again")
    if verify:
        check_files(folder, manifest, stage="packed")
    return Packed(_open_split(folder, "train", manifest), _open_split(folder, "validation", manifest), manifest)


def _open_split(folder: Path, split: str, manifest: dict[str, Any]) -> PackedSplit:
    import datasets

    table = pq.read_table(folder / f"{split}_packs.parquet")
    strata = np.array(table["strata"].to_pylist(), np.int64).reshape(len(table), len(manifest["strata"]))
    rows = datasets.load_from_disk(str(folder / split))
    if "loss_weight" not in rows.column_names:
        rows = _counting_each_token_once(rows)
    return PackedSplit(rows, **{name: table[name].to_numpy() for name in _COUNTS}, strata=strata)


def _counting_each_token_once(rows: "datasets.Dataset") -> "datasets.Dataset":
    """Packs that were written before answers were shared, with the column that they lack."""
    import datasets

    labels = np.asarray(rows.with_format("numpy")["shift_labels"][:])
    features = datasets.Features({"loss_weight": rows.features["shift_labels"]})
    weights = datasets.Dataset.from_dict({"loss_weight": (labels != IGNORE).astype(np.int32)}, features=features)
    return datasets.concatenate_datasets([rows, weights], axis=1)


def _count_by_pack(examples: Examples, arrangement: Arrangement) -> dict[str, NDArray[np.int64]]:
    lengths = examples.lengths()[arrangement.members]
    supervised = np.concatenate([[0], np.cumsum(examples.supervised)])
    of_examples = (supervised[examples.offsets[1:]] - supervised[examples.offsets[:-1]])[arrangement.members]
    values = (np.ones(len(lengths), np.int64), of_examples, lengths, lengths - arrangement.shared)
    return {name: arrangement.sum_by_pack(value) for name, value in zip(_COUNTS, values, strict=True)}
