"""Files of a few kilobytes that unpack to more than any machine has. Here they stop at small limits."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fintune_kit.data.read.files import read_rows
from fintune_kit.errors import UserError

LONG = "x" * 100_000


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch):
    monkeypatch.setattr("fintune_kit.bounds.MIN_BYTES", 1_000_000)
    monkeypatch.setattr("fintune_kit.bounds.MAX_RATIO", 2)
    monkeypatch.setattr("fintune_kit.bounds.MIN_ROWS", 1000)


def shared_value(rows: int) -> pa.Table:
    """Rows that all point to one long text."""
    column = pa.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int32), pa.array([LONG]))
    return pa.table({"text": column})


def parquet(path: Path, rows: int) -> None:
    pq.write_table(shared_value(rows).cast(pa.schema({"text": pa.string()})), path, compression="zstd")


def parquet_of_a_dictionary(path: Path, rows: int) -> None:
    pq.write_table(shared_value(rows), path, compression="zstd")


def parquet_in_gzip(path: Path, rows: int) -> None:
    pq.write_table(shared_value(1).take([0] * rows), path, use_dictionary=False, compression="none")
    path.write_bytes(gzip.compress(path.read_bytes()))


def arrow(path: Path, rows: int) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, shared_value(1).schema, options=options) as writer:
        writer.write_table(shared_value(rows))


def lines_in_gzip(path: Path, rows: int) -> None:
    path.write_bytes(gzip.compress(f'{{"text": "{LONG}"}}\n'.encode() * rows))


def json_in_gzip(path: Path, rows: int) -> None:
    path.write_bytes(gzip.compress(json.dumps([{"text": LONG}] * rows).encode()))


WRITERS = {
    "a.parquet": parquet,
    "b.parquet": parquet_of_a_dictionary,
    "c.parquet": parquet_in_gzip,
    "a.arrow": arrow,
    "a.jsonl": lines_in_gzip,
    "a.json": json_in_gzip,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_small_file_that_unpacks_to_much_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name):
    path = tmp_path / name
    WRITERS[name](path, 3)
    assert [row.values for row in read_rows(path)] == [{"text": LONG}] * 3
    WRITERS[name](path, 200)
    assert path.stat().st_size < 50_000, "a large file may unpack to much"
    read = []
    sentence = r"unpacks to ([0-9,]+) bytes or more; allowed are 1,000,000: .* set FINTUNE_READ_LIMIT=10"
    with pytest.raises(UserError, match=sentence) as refused:
        read.extend(read_rows(path))
    assert len(read) < 15
    if name == "c.parquet":
        found = int(re.search(sentence, str(refused.value))[1].replace(",", ""))
        assert found < 2_000_000, "the gzip was unpacked as a whole first"
    monkeypatch.setenv("FINTUNE_READ_LIMIT", "100")
    assert len(list(read_rows(path))) == 200


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv", "a.jsonl"])
def test_rows_are_counted_however_short_they_are(tmp_path, name):
    path = tmp_path / name
    nothing = pa.table({"a": pa.nulls(2000)})
    if name == "a.parquet":
        pq.write_table(nothing, path)
    elif name == "a.arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, nothing.schema) as writer:
            writer.write_table(nothing)
    else:
        path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 2000 if name == "a.csv" else b"{}\n" * 2000))
    with pytest.raises(UserError, match=r"unpacks to [0-9,]+ rows or more; allowed are 1,000:"):
        list(read_rows(path))


def test_a_row_group_of_large_values_is_unpacked_a_row_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    parquet(path, 9)
    sizes = []
    whole = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda self, **how: sizes.append(how["batch_size"]) or whole(self, **how)
    )
    monkeypatch.setattr("fintune_kit.data.read.table_rows.BATCH_BYTES", 250_000)
    assert len(list(read_rows(path))) == 9
    assert sizes == [2]


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1e9", "9" * 400])
def test_a_limit_that_is_not_a_number_above_0_is_refused(tmp_path, monkeypatch, limit):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    monkeypatch.setenv("FINTUNE_READ_LIMIT", limit)
    with pytest.raises(UserError, match=r"FINTUNE_READ_LIMIT is .*; expected a number above 0, as in 10"):
        list(read_rows(tmp_path / "a.jsonl"))
