import hashlib
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.pack.stage import pack_conversations
from fintune_kit.pack.store import open_packed
from fintune_kit.pack.tree import COLUMNS, unpack
from fintune_kit.workspace import write_manifest
from tests.pack.conftest import CONVERSATIONS, conversation

LENGTH = 128


@pytest.fixture
def packed(make_conversations, encoder, tmp_path):
    """A folder of packs."""
    pack_conversations(make_conversations(), encoder=encoder, out=tmp_path / "packed", max_length=LENGTH, seed=1)
    return tmp_path / "packed"


def examples_of(split):
    rows = split.rows.with_format("numpy")
    return sorted(tuple(tokens) for row in rows for tokens, _ in unpack(row))


def test_what_was_written_is_what_the_template_writes(packed, encoder):
    opened = open_packed(packed, fingerprint=encoder.fingerprint, verify=True)
    kept = CONVERSATIONS[:5]
    expected = [encoder.tokenizer.apply_chat_template(m, tokenize=True, return_dict=False) for m in kept]
    assert examples_of(opened.train) == sorted(map(tuple, expected))
    assert examples_of(opened.validation) == sorted(map(tuple, expected[:2]))


def test_columns_are_int32_of_fixed_length(packed):
    rows = open_packed(packed).train.rows
    assert list(rows.features) == list(COLUMNS)
    assert {str(feature) for feature in rows.features.values()} == {f"List(Value('int32'), length={LENGTH})"}
    assert rows.cache_files, "the rows are not memory-mapped from a file"


def test_the_pack_table_counts_what_the_packs_hold(packed):
    train = open_packed(packed).train
    rows = train.rows.with_format("numpy")
    assert len(train) == len(rows) > 1
    for number, row in enumerate(rows):
        found = unpack(row)
        assert train.examples[number] == len(found)
        assert train.plain_tokens[number] == sum(len(tokens) for tokens, _ in found)
        assert train.supervised_tokens[number] == row["loss_weight"].sum()
        assert train.written_tokens[number] == int((row["position_ids"] > 0).sum() + roots(row))
    assert train.plain_tokens.sum() > train.written_tokens.sum(), "nothing was shared"


def roots(row):
    used = row["subtree_end"] > np.arange(1, LENGTH + 1)
    return int(((row["position_ids"] == 0) & used).sum())


@pytest.mark.parametrize("rows_at_once", [2, 4096])
def test_no_row_vanishes(make_conversations, encoder, tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr("fintune_kit.conversations._ROWS_AT_ONCE", rows_at_once)
    no_answer = [{"role": "user", "content": "hello"}]
    folder = make_conversations([*CONVERSATIONS, no_answer])
    manifest = pack_conversations(folder, encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)
    counts = manifest["counts"]["train"]
    assert (counts["rows"], counts["examples"], counts["refused"]) == (7, 5, 2)
    refused = pq.read_table(tmp_path / "packed" / "refused.parquet").to_pylist()
    refused.sort(key=lambda row: row["tokens"] is not None)
    assert [row["row_id"] for row in refused] == ["train.csv#6", "train.csv#5"]
    assert refused[0]["reason"] == "the last message has role 'user', expected 'assistant'"
    assert refused[0]["tokens"] is None
    assert refused[1]["tokens"] > LENGTH
    assert refused[1]["reason"] == f"{refused[1]['tokens']} tokens, more than max_length 128"


def test_the_manifest_says_what_was_saved(packed, encoder):
    manifest = open_packed(packed).manifest
    counts = manifest["counts"]["train"]
    train = open_packed(packed).train
    assert counts["packs"] == len(train)
    assert counts["plain_tokens"] == train.plain_tokens.sum()
    assert counts["written_tokens"] == train.written_tokens.sum()
    weights = np.asarray(train.rows.with_format("numpy")["loss_weight"][:])
    assert counts["head_positions"] == (weights > 0).sum()
    assert counts["fill"] == pytest.approx(train.written_tokens.sum() / (len(train) * LENGTH), abs=1e-6)
    assert counts["repeated_tokens"] >= counts["min_repeated_tokens"] >= 0
    assert counts["plain_packs"] > counts["packs"] >= counts["min_packs"]
    assert counts["plain_sequences_per_pack"] == pytest.approx(counts["plain_packs"] / counts["packs"], abs=1e-6)
    assert manifest["tokenizer"]["fingerprint"] == encoder.fingerprint
    assert set(manifest["inputs"]) == {"conversations/train.parquet", "conversations/validation.parquet"}


def test_without_sharing_every_token_is_written(make_conversations, encoder, tmp_path):
    manifest = pack_conversations(
        make_conversations(), encoder=encoder, out=tmp_path / "packed", max_length=LENGTH, share_prefixes=False
    )
    counts = manifest["counts"]["train"]
    assert counts["written_tokens"] == counts["plain_tokens"]
    assert counts["packs"] == counts["plain_packs"]


def test_the_same_inputs_and_seed_give_the_same_bytes(make_conversations, encoder, tmp_path):
    folder = make_conversations()
    digests = []
    for name in ("once", "again"):
        pack_conversations(folder, encoder=encoder, out=tmp_path / name, max_length=LENGTH, seed=1)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        assert len(files) == 10
        digests.append([(p.relative_to(tmp_path / name), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files])
    assert digests[0] == digests[1]


def test_packs_from_before_answers_were_shared_count_each_token_once(packed):
    expected = np.asarray(open_packed(packed).train.rows.with_format("numpy")["shift_labels"][:]) != -100
    for split in ("train", "validation"):
        rows = datasets.load_from_disk(str(packed / split)).remove_columns("loss_weight")
        rows.save_to_disk(str(packed / f"{split}-old"))
        shutil.rmtree(packed / split)
        (packed / f"{split}-old").rename(packed / split)
    manifest = json.loads((packed / "manifest.json").read_text())
    manifest["sizes"] = {}
    (packed / "manifest.json").write_text(json.dumps(manifest))
    rows = open_packed(packed).train.rows
    assert list(rows.features) == list(COLUMNS)
    assert str(rows.features["loss_weight"]) == f"List(Value('int32'), length={LENGTH})"
    assert np.array_equal(rows.with_format("numpy")["loss_weight"][:], expected)
    assert expected.any()


def test_an_empty_validation_split_is_kept_empty(make_conversations, encoder, tmp_path):
    pack_conversations(make_conversations(validation=[]), encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)
    opened = open_packed(tmp_path / "packed", verify=True)
    assert len(opened.validation) == len(opened.validation.rows) == 0
    assert opened.manifest["counts"]["validation"]["fill"] == 0


def test_nothing_to_train_on_is_refused_and_nothing_is_left(make_conversations, encoder, tmp_path):
    folder = make_conversations([conversation("long " * 200, "x")])
    with pytest.raises(
        UserError, match=r"none of the 1 rows of .*train\.parquet fits into 128 tokens; raise max_length"
    ):
        pack_conversations(folder, encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)
    assert not (tmp_path / "packed").exists()
    assert not (tmp_path / "packed.partial").exists()


def test_unfinished_conversations_are_refused(tmp_path, encoder):
    with pytest.raises(MissingInputError, match="01_data"):
        pack_conversations(tmp_path / "nowhere", encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)


def test_conversations_without_a_split_are_refused(make_conversations, encoder, tmp_path):
    folder = make_conversations()
    (folder / "validation.parquet").unlink()
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    with pytest.raises(MissingInputError, match=r"validation\.parquet is missing; run notebooks/01_data"):
        pack_conversations(folder, encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)


def test_changed_conversations_are_refused(make_conversations, encoder, tmp_path):
    folder = make_conversations()
    change(folder / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet has changed"):
        pack_conversations(folder, encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)


def test_conversations_without_the_columns_are_refused(make_conversations, encoder, tmp_path):
    folder = make_conversations()
    table = pq.read_table(folder / "train.parquet").drop_columns(["row_id"])
    pq.write_table(table, folder / "train.parquet")
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    with pytest.raises(UserError, match="has no column row_id"):
        pack_conversations(folder, encoder=encoder, out=tmp_path / "packed", max_length=LENGTH)


def change(path: Path) -> None:
    """One byte in the middle, the size kept."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_wrong_tokenizer_is_refused(packed):
    with pytest.raises(UserError, match=r"were made with tokenizer .*expected 000000000000"):
        open_packed(packed, fingerprint="0" * 64)


def test_a_truncated_file_is_refused_by_name(packed):
    path = packed / "train" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"train/data-00000-of-00001\.arrow has \d+ bytes, expected"):
        open_packed(packed)


def test_a_changed_file_is_refused_by_name_when_verified(packed):
    change(packed / "train" / "data-00000-of-00001.arrow")
    open_packed(packed)  # sizes alone do not show it
    with pytest.raises(UserError, match=r"data-00000-of-00001\.arrow has changed"):
        open_packed(packed, verify=True)


def test_a_missing_file_is_refused_by_name(packed):
    (packed / "validation_packs.parquet").unlink()
    with pytest.raises(MissingInputError, match=r"validation_packs\.parquet is missing"):
        open_packed(packed)


def test_a_folder_without_manifest_is_unfinished(packed):
    (packed / "manifest.json").unlink()
    with pytest.raises(MissingInputError, match="02_pack"):
        open_packed(packed)


def test_the_manifest_holds_no_path_of_this_machine(packed, tmp_path):
    assert str(tmp_path) not in json.dumps(open_packed(packed).manifest)
