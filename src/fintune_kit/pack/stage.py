"""Stage 2 from end to end: conversations in, packs on disk.

conversations/  ->  tokens  ->  prefix tree  ->  packs  ->  packed/      (see `store` for its files)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Examples
from fintune_kit.conversations import (
    MAX_OPTION_CHARACTERS,
    SPLITS,
    Conversation,
    Message,
    batches_of_conversations,
    closed_questions,
    count_conversations,
    find_fault,
    fold_label,
)
from fintune_kit.errors import UserError
from fintune_kit.pack.mix import compose
from fintune_kit.pack.store import Refused, write_split
from fintune_kit.pack.tree import Arrangement, arrange, count_head_positions
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import tokenizer_of
from fintune_kit.workspace import Workspace, check_files, read_manifest, replacing_folder, sha256_of, write_manifest

_INPUTS = tuple(f"conversations/{split}.parquet" for split in SPLITS)


def pack(
    recipe: Recipe,
    workspace: Workspace,
    *,
    conversations: Path | None = None,
    tokenizer: str | Path | None = None,
    out: Path | None = None,
    max_length: int | None = None,
    share_prefixes: bool | None = None,
    mix: bool | None = None,
) -> dict[str, Any]:
    """Packs a workspace's conversations. Values that are not given come from the recipe and the workspace.

    Returns:
        The manifest of `packed/`.

    Raises:
        MissingInputError: the conversations are missing or unfinished.
        UserError: their files have changed, or no example is left to train on.
    """
    manifest = pack_conversations(
        conversations or workspace.existing("conversations"),
        encoder=ChatEncoder.load(tokenizer or tokenizer_of(recipe, workspace)),
        out=out or workspace.folder("packed"),
        max_length=recipe.pack.max_length if max_length is None else max_length,
        share_prefixes=recipe.pack.share_prefixes if share_prefixes is None else share_prefixes,
        mix=recipe.pack.mix if mix is None else mix,
        seed=recipe.seed,
    )
    if out is None:
        given = {
            "tokenizer": None if tokenizer is None else str(tokenizer),
            "pack.max_length": max_length,
            "pack.share_prefixes": share_prefixes,
            "pack.mix": mix,
        }
        given = {name: value for name, value in given.items() if value is not None}
        workspace.keep(recipe.changed(given, origin="pack"), stage="packed")
    return manifest


def pack_conversations(
    conversations: Path,
    *,
    encoder: ChatEncoder,
    out: Path,
    max_length: int,
    share_prefixes: bool = True,
    mix: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Packs both splits of a `conversations/` folder into `out`, and returns the manifest.

    An example is never cut: one of more than `max_length` tokens is refused, on disk with its reason.

    Args:
        mix: whether each pack is to hold a mix of tasks and labels; else there are as few packs as possible.

    Raises:
        MissingInputError: `conversations` is missing or unfinished.
        UserError: its files have changed, or no example is left to train on.
    """
    check_files(conversations, read_manifest(conversations, stage="conversations"), stage="conversations")
    refused = Refused()
    splits = _read_splits(conversations, encoder=encoder, max_length=max_length, refused=refused)
    strata = _strata_of(splits)
    options: dict[str, Any] = {"max_length": max_length, "share_prefixes": share_prefixes}
    arrangements = {
        "train": arrange(splits["train"].examples, strata=strata["train"], mix=mix, seed=seed, **options),
        "validation": _task_by_task(splits["validation"], **options),
    }
    with replacing_folder(out) as folder:
        names = _write_splits(folder, splits, arrangements, strata, encoder=encoder, max_length=max_length)
        refused.write(folder / "refused.parquet")
        write_manifest(
            folder,
            stage="packed",
            inputs={name: sha256_of(conversations / name.split("/")[1]) for name in _INPUTS},
            counts={split: _count(splits[split], made, max_length=max_length) for split, made in arrangements.items()},
            **options,
            mix=mix,
            seed=seed,
            strata=names,
            tokenizer={"fingerprint": encoder.fingerprint, "pad_id": encoder.pad_id, "end_id": encoder.end_id},
            sizes=_sizes(folder),
        )
    return read_manifest(out, stage="packed")


@dataclass
class _Split:
    """The examples of a split that are packed, and what its strata are made of."""

    examples: Examples
    conversations: int
    """Rows of the split, packed or not."""
    questions: list[tuple[str, str]] = field(default_factory=list)
    """Task type and system prompt of each example."""
    answers: list[str] = field(default_factory=list)
    """The answer of each example, cut if it is too long for an option."""


def _read_splits(conversations: Path, *, encoder: ChatEncoder, max_length: int, refused: Refused) -> dict[str, _Split]:
    """Both splits. Raises UserError if no example is left to train on."""
    splits = {
        split: _read_examples(conversations, split, encoder=encoder, max_length=max_length, refused=refused)
        for split in SPLITS
    }
    if len(splits["train"].examples) == 0:
        raise UserError(
            f"none of the {splits['train'].conversations} rows of {conversations}/train.parquet fits into {max_length} "
            "tokens; raise max_length, or prepare shorter conversations"
        )
    return splits


def _write_splits(
    folder: Path,
    splits: Mapping[str, _Split],
    arrangements: Mapping[str, Arrangement],
    strata: Mapping[str, list[tuple[str, str]]],
    *,
    encoder: ChatEncoder,
    max_length: int,
) -> list[tuple[str, str]]:
    """Writes the packs of both splits. Returns the names of the strata, in the order of the columns that count them."""
    names = sorted({stratum for of_split in strata.values() for stratum in of_split})
    for split, arrangement in arrangements.items():
        write_split(
            folder,
            split,
            examples=splits[split].examples,
            arrangement=arrangement,
            composition=compose(arrangement.packs(), strata[split], names=names),
            max_length=max_length,
            pad_id=encoder.pad_id,
            fingerprint=encoder.fingerprint,
        )
    return names


def _strata_of(splits: Mapping[str, _Split]) -> dict[str, list[tuple[str, str]]]:
    """Task type and label of each example, by split; the label is empty where the question is open."""
    train = splits["train"]
    closed = closed_questions(zip(train.questions, train.answers, strict=True))
    return {
        split: [
            (question[0], fold_label(answer) if question in closed else "")
            for question, answer in zip(read.questions, read.answers, strict=True)
        ]
        for split, read in splits.items()
    }


def _read_examples(folder: Path, split: str, *, encoder: ChatEncoder, max_length: int, refused: Refused) -> _Split:
    """The examples of a split that fit into a pack; the others are noted in `refused`."""
    read = _Split(Examples.of([]), count_conversations(folder, split))
    waiting: list[Conversation] = []

    def _batches() -> Iterator[Sequence[list[Message]]]:
        for conversations in batches_of_conversations(folder, split):
            waiting[:] = []
            for conversation in conversations:
                if fault := find_fault(conversation.messages or []):
                    refused.add(conversation.row_id, split=split, reason=fault)
                else:
                    waiting.append(conversation)
            yield [conversation.messages for conversation in waiting]
            bar.update(len(conversations))

    kept: list[Examples] = []
    with tqdm(total=read.conversations, desc=f"tokens of {split}", unit=" rows") as bar:
        for examples in encoder.encode_batches(_batches()):
            fits = examples.lengths() <= max_length
            for conversation, length, is_short in zip(waiting, examples.lengths().tolist(), fits.tolist(), strict=True):
                if is_short:
                    read.questions.append((conversation.task_type, conversation.system))
                    read.answers.append(conversation.answer[: MAX_OPTION_CHARACTERS + 1])
                else:
                    reason = f"{length} tokens, more than max_length {max_length}"
                    refused.add(conversation.row_id, split=split, reason=reason, tokens=length)
            kept.append(examples.take(np.flatnonzero(fits)))
    read.examples = Examples.concatenate(kept)
    return read


def _task_by_task(read: _Split, *, max_length: int, share_prefixes: bool) -> Arrangement:
    """Packs of one task each, so that the loss of a task is the loss of its packs."""
    parts = []
    for task in dict.fromkeys(task for task, _ in read.questions):
        own = np.array([index for index, (name, _) in enumerate(read.questions) if name == task])
        examples = read.examples.take(own)
        parts.append((own, arrange(examples, max_length=max_length, share_prefixes=share_prefixes)))
    return Arrangement.join(parts)


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _count(read: _Split, arrangement: Arrangement, *, max_length: int) -> dict[str, Any]:
    examples = read.examples
    written = int((examples.lengths()[arrangement.members] - arrangement.shared).sum())
    packs = len(arrangement)
    plain_packs = len(arrange(examples, max_length=max_length, share_prefixes=False))
    return {
        "rows": read.conversations,
        "examples": len(examples),
        "refused": read.conversations - len(examples),
        "supervised_tokens": int(examples.supervised.sum()),
        "head_positions": count_head_positions(examples, arrangement),
        "plain_tokens": len(examples.tokens),
        "written_tokens": written,
        "packs": packs,
        "min_packs": arrangement.min_packs,
        "repeated_tokens": written - arrangement.tree,  # paths that are written again where a tree is cut
        "min_repeated_tokens": arrangement.min_tokens - arrangement.tree,
        "plain_packs": plain_packs,
        "fill": round(written / (packs * max_length), 6) if packs else 0.0,
        "plain_sequences_per_pack": round(plain_packs / packs, 6) if packs else 0.0,
    }
