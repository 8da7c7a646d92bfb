"""Packs on disk: written once, checked by name, opened in milliseconds whatever their number.

packed/
    train/  validation/               `datasets` folders with the four columns of `pack.tree`, memory-mapped
    train_packs.parquet ...           a row a pack: examples, supervised_tokens, plain_tokens, written_tokens
    refused.parquet                   row_id, split, reason, tokens: what was not packed, and why
    manifest.json                     tokenizer fingerprint, counts, sizes and SHA-256 of every file
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Examples
from fintune_kit.conversations import SPLITS, Message, batches_of_conversations, count_conversations, find_fault
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.pack.tree import COLUMNS, Arrangement, arrange, write_columns
from fintune_kit.workspace import WRITTEN_BY, check_files, read_manifest, replacing_folder, sha256_of, write_manifest

if TYPE_CHECKING:
    import datasets

_PACKS_AT_ONCE = 256
_TABLE = ("examples", "supervised_tokens", "plain_tokens", "written_tokens")


@dataclass(frozen=True)
class PackedSplit:
    """The packs of one split, and what each holds: int64 [packs] each."""

    rows: "datasets.Dataset"
    examples: NDArray[np.int64]
    supervised_tokens: NDArray[np.int64]
    plain_tokens: NDArray[np.int64]
    """Tokens of the pack's examples, each counted alone; in `max_length`s, the plain sequences that it replaces."""
    written_tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.examples)


@dataclass(frozen=True)
class Packed:
    """A finished folder of packs."""

    train: PackedSplit
    validation: PackedSplit
    manifest: dict[str, Any]


@dataclass
class _Refused:
    row_id: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    tokens: list[int | None] = field(default_factory=list)

    def add(self, row_id: str, split: str, reason: str, tokens: int | None) -> None:
        for column, value in zip(vars(self).values(), (row_id, split, reason, tokens), strict=True):
            column.append(value)


def pack_conversations(
    conversations: Path, *, encoder: ChatEncoder, out: Path, max_length: int, share_prefixes: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Packs both splits of a `conversations/` folder into `out`, and returns the manifest.

    An example is never cut: one of more than `max_length` tokens is refused, on disk with its reason.

    Raises:
        MissingInputError: `conversations` is missing or unfinished.
        UserError: its files have changed, or no example is left to train on.
    """
    check_files(conversations, read_manifest(conversations, stage="conversations"), stage="conversations")
    refused, counts, inputs = _Refused(), {}, {}
    with replacing_folder(out) as folder:
        for split in SPLITS:
            source = conversations / f"{split}.parquet"
            if not source.is_file():
                raise MissingInputError(f"{source} is missing; run {WRITTEN_BY['conversations']} again")
            inputs[f"conversations/{source.name}"] = sha256_of(source)
            examples, rows = _read_examples(
                conversations, split=split, encoder=encoder, max_length=max_length, refused=refused
            )
            if split == "train" and len(examples) == 0:
                raise UserError(
                    f"none of the {rows} rows of {source} fits into {max_length} tokens; raise max_length, or prepare "
                    "shorter conversations"
                )
            arrangement = arrange(examples, max_length=max_length, share_prefixes=share_prefixes, seed=seed)
            _write_split(
                folder, split, examples=examples, arrangement=arrangement, max_length=max_length, encoder=encoder
            )
            counts[split] = _count(examples, arrangement, rows=rows, max_length=max_length)
        pq.write_table(pa.table(vars(refused), schema=_REFUSED_SCHEMA), folder / "refused.parquet")
        sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        write_manifest(
            folder,
            stage="packed",
            inputs=inputs,
            counts=counts,
            max_length=max_length,
            share_prefixes=share_prefixes,
            seed=seed,
            tokenizer={"fingerprint": encoder.fingerprint, "pad_id": encoder.pad_id, "end_id": encoder.end_id},
            sizes=sizes,
        )
    return read_manifest(out, stage="packed")


_REFUSED_SCHEMA = pa.schema(
    [("row_id", pa.string()), ("split", pa.string()), ("reason", pa.string()), ("tokens", pa.int64())]
)


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
    return Packed(_open_split(folder, "train"), _open_split(folder, "validation"), manifest)


def _open_split(folder: Path, split: str) -> PackedSplit:
    import datasets

    table = pq.read_table(folder / f"{split}_packs.parquet")
    rows = datasets.load_from_disk(str(folder / split))
    return PackedSplit(rows, **{name: table[name].to_numpy() for name in _TABLE})


def _read_examples(
    folder: Path, *, split: str, encoder: ChatEncoder, max_length: int, refused: _Refused
) -> tuple[Examples, int]:
    """The examples of a split that fit, and its number of rows."""
    rows = count_conversations(folder, split)
    named: list[str] = []

    def batches() -> Iterator[Sequence[list[Message]]]:
        for conversations in batches_of_conversations(folder, split):
            sound = []
            for conversation in conversations:
                fault = find_fault(conversation.messages or [])
                if fault:
                    refused.add(conversation.row_id, split, fault, None)
                else:
                    sound.append(conversation.messages)
                    named.append(conversation.row_id)
            yield sound
            bar.update(len(conversations))

    kept: list[Examples] = []
    with tqdm(total=rows, desc=f"tokens of {split}", unit=" rows") as bar:
        for examples in encoder.encode_batches(batches()):
            row_ids = named[-len(examples) :] if len(examples) else []
            kept += [_drop_long(examples, row_ids, split=split, max_length=max_length, refused=refused)]
    return Examples.concatenate(kept), rows


def _drop_long(
    examples: Examples, row_ids: Sequence[str], *, split: str, max_length: int, refused: _Refused
) -> Examples:
    lengths = examples.lengths()
    fits = lengths <= max_length
    for index in np.flatnonzero(~fits).tolist():
        reason = f"{lengths[index]} tokens, more than max_length {max_length}"
        refused.add(row_ids[index], split, reason, int(lengths[index]))
    keep = np.repeat(fits, lengths)
    return Examples(examples.tokens[keep], examples.supervised[keep], np.concatenate([[0], np.cumsum(lengths[fits])]))


def _write_split(
    folder: Path, split: str, *, examples: Examples, arrangement: Arrangement, max_length: int, encoder: ChatEncoder
) -> None:
    import datasets

    features = datasets.Features({name: datasets.List(datasets.Value("int32"), length=max_length) for name in COLUMNS})
    tables = [features.arrow_schema.empty_table()]
    for first in tqdm(range(0, len(arrangement), _PACKS_AT_ONCE), desc=f"packs of {split}", unit=f"x{_PACKS_AT_ONCE}"):
        last = min(first + _PACKS_AT_ONCE, len(arrangement))
        columns = write_columns(
            examples, arrangement, first=first, last=last, max_length=max_length, pad_id=encoder.pad_id
        )
        arrays = [pa.FixedSizeListArray.from_arrays(columns[name].reshape(-1), max_length) for name in COLUMNS]
        tables.append(pa.Table.from_arrays(arrays, schema=features.arrow_schema))
    # A fingerprint of our own: the default one reads all rows again, and may change with how `datasets` pickles them.
    fingerprint = f"{split}-{encoder.fingerprint[:16]}"
    table = datasets.table.InMemoryTable(pa.concat_tables(tables))
    rows = datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=fingerprint)
    rows.save_to_disk(str(folder / split), num_shards=1)  # an empty split too needs its file
    pq.write_table(pa.table(_pack_table(examples, arrangement)), folder / f"{split}_packs.parquet")


def _pack_table(examples: Examples, arrangement: Arrangement) -> dict[str, NDArray[np.int64]]:
    lengths = examples.lengths()[arrangement.members]
    supervised = np.concatenate([[0], np.cumsum(examples.supervised)])
    taught = (supervised[examples.offsets[1:]] - supervised[examples.offsets[:-1]])[arrangement.members]
    values = (np.ones(len(lengths), np.int64), taught, lengths, lengths - arrangement.shared)
    return {name: arrangement.sum_by_pack(value) for name, value in zip(_TABLE, values, strict=True)}


def _count(examples: Examples, arrangement: Arrangement, *, rows: int, max_length: int) -> dict[str, Any]:
    plain, written = (
        len(examples.tokens),
        int(arrangement.sum_by_pack(examples.lengths()[arrangement.members] - arrangement.shared).sum()),
    )
    packs = len(arrangement)
    plain_packs = len(arrange(examples, max_length=max_length, share_prefixes=False))
    return {
        "rows": rows,
        "examples": len(examples),
        "refused": rows - len(examples),
        "supervised_tokens": int(examples.supervised.sum()),
        "plain_tokens": plain,
        "written_tokens": written,
        "packs": packs,
        "fewest_packs": arrangement.fewest,
        "plain_packs": plain_packs,
        "fill": round(written / (packs * max_length), 6) if packs else 0.0,
        "plain_sequences_per_pack": round(plain_packs / packs, 6) if packs else 0.0,
    }
