"""Work on single rows gives the same results for every division into batches, and in every process."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fintune_kit.conversations import read_conversations
from fintune_kit.data import batches
from fintune_kit.data.batches import TABLE, convert_table
from fintune_kit.data.corpus import Corpus, PackedRows
from fintune_kit.data.stage import Settings, prepare_conversations
from fintune_kit.errors import UserError
from tests.data.rows import conversation


def questions(count):
    answers = ["It rose by 5 per cent.", "I cannot answer that.", None, "Caf\u00c3\u00a9 Ltd gained &amp; more."]
    return pa.table(
        {
            "question": [f"What did share {number} do?" for number in range(count)],
            "answer": [answers[number % 4] for number in range(count)],
        }
    )


def test_each_row_of_a_table_becomes_a_conversation_or_has_its_rule():
    table = questions(4).append_column("row_id", pa.array(["a", "b", "c", "d"]))
    found = convert_table(table, source="shares").to_pylist()
    assert [row["row_id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["rule"] for row in found] == [None, "refusal", "missing_or_empty", None]
    assert found[0]["messages"] == [
        {"role": "user", "content": "What did share 0 do?", "weight": None},
        {"role": "assistant", "content": "It rose by 5 per cent.", "weight": None},
    ]
    assert found[2]["messages"] is None
    assert found[2]["detail"] == "c: column 'answer' is missing or empty"
    assert found[3]["messages"][1]["content"] == "Caf\u00e9 Ltd gained & more."
    assert {row["source"] for row in found} == {"shares"}


def test_however_a_table_is_divided_the_rows_are_the_same():
    table = questions(40)
    parts = [convert_table(table.slice(start, 7)) for start in range(0, 40, 7)]
    assert pa.concat_tables(parts).equals(convert_table(table))
    assert len(set(convert_table(table)["row_id"].to_pylist())) == 40


def test_datasets_runs_the_function_over_processes():
    table = questions(40)
    rows = datasets.Dataset(table).with_format("arrow")
    mapped = rows.map(convert_table, batched=True, batch_size=7, num_proc=2, remove_columns=rows.column_names)
    assert mapped.data.table.select(TABLE.names).to_pylist() == convert_table(table).to_pylist()


ON_RAY = """
import sys
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from fintune_kit.data.batches import TABLE, convert_table

table = pq.read_table(sys.argv[1])
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
blocks = ray.data.from_arrow([table.slice(0, 25), table.slice(25)])
found = blocks.map_batches(convert_table, batch_format="pyarrow", batch_size=7)
pq.write_table(pa.concat_tables(ray.get(found.to_arrow_refs())).cast(TABLE).sort_by("row_id"), sys.argv[2])
"""


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'fintune-kit[ray]'")
def test_a_local_ray_gives_the_same_rows(tmp_path):
    table = questions(40)
    pq.write_table(table, tmp_path / "rows.parquet")
    patient = {"RAY_worker_register_timeout_seconds": "500"}  # a busy machine starts Ray's workers slowly
    command = [sys.executable, "-c", ON_RAY, str(tmp_path / "rows.parquet"), str(tmp_path / "found.parquet")]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | patient)
    found = pq.read_table(tmp_path / "found.parquet")
    assert found.num_rows == 40
    assert found.equals(convert_table(table).sort_by("row_id"))


def test_the_rows_without_a_rule_are_a_source_of_the_stage(tmp_path):
    turns = [
        [
            {"role": role, "content": content, "weight": weight}
            for role, content, weight in (
                ("user", f"Which share rose on day {day}?", None),
                ("assistant", "The first.", 0),
                ("user", "And which fell?", None),
                ("assistant", "The second one fell.", None),
            )
        ]
        for day in range(3)
    ]
    table = convert_table(pa.table({"messages": turns}))
    pq.write_table(table.select(["messages", "task_type", "conversation_id"]), tmp_path / "rows.parquet")
    run([tmp_path / "rows.parquet"], tmp_path / "out")
    kept = [row for split in ("train", "validation") for row in read_conversations(tmp_path / "out", split)]
    assert len(kept) == 3
    assert {tuple(message.get("weight") for message in row.messages) for row in kept} == {(None, 0, None, None)}


def run(sources, out, **options):
    return prepare_conversations(
        sources=[str(source) for source in sources],
        out=out,
        settings=Settings(examples=300, validation_share=0.1, seed=7, max_length=2048),
        encoder=None,
        announce=str,
        **options,
    )


def test_the_bytes_are_the_same_in_one_process_and_in_two(tmp_path, monkeypatch):
    monkeypatch.setattr("fintune_kit.data.convert.batches.BATCH_ROWS", 50)  # the sample is twelve batches
    for processes in (1, 2):
        run(["sample"], tmp_path / str(processes), processes=processes)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@pytest.mark.parametrize("processes", [0, -1])
def test_less_than_one_process_is_a_mistake(tmp_path, processes):
    with pytest.raises(UserError, match=f"processes is {processes}; expected 1 or more"):
        run(["sample"], tmp_path / "out", processes=processes)


def ends(batch, **_):
    os._exit(1)


def test_a_process_that_is_ended_from_outside_is_one_sentence_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "convert_and_judge", ends)
    with pytest.raises(UserError, match=r"one of 2 processes that convert rows was ended, .*: memory may have run out"):
        run(["sample"], tmp_path / "out", processes=2)
    assert not (tmp_path / "out").exists()


IS_KILLED = """
import os, signal
from fintune_kit.data.batches import batch_converter
from fintune_kit.data.convert.batches import Batch
from fintune_kit.data.read.lines import Row

row = Row("row 1", {"question": "What is EBIT?", "answer": "Earnings before interest and taxes."})
batch = Batch(file="a", source="a", rows=[row], row_ids=["a#1"])
with batch_converter(2, mapping=None, system_prompt=None) as convert_all:
    (converted,) = convert_all([batch])
    print(len(converted.corpus.conversations), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_processes_end_when_their_parent_is_killed():
    """They hold the same output, so its end is read only after all of them have ended."""
    parent = [sys.executable, "-c", IS_KILLED]
    done = subprocess.run(parent, stdout=subprocess.PIPE, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n")


def test_the_size_of_a_batch_changes_nothing(tmp_path, monkeypatch):
    run(["sample"], tmp_path / "whole")
    monkeypatch.setattr("fintune_kit.data.convert.batches.BATCH_ROWS", 50)
    run(["sample"], tmp_path / "parts")
    for name in ("train.parquet", "validation.parquet", "rejected.parquet", "report.json", "manifest.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_no_more_batches_are_read_than_wait():
    read = []

    class Pool:
        def submit(self, function, batch):
            return Done(function(batch))

    class Done:
        def __init__(self, value):
            self.result = lambda: value

    def endless():
        for number in range(100):
            read.append(number)
            yield number

    found = batches._in_order(Pool(), lambda number: 2 * number, endless(), ahead=4)
    assert [next(found), next(found), next(found)] == [0, 2, 4]
    assert read == [0, 1, 2, 3, 4, 5]


def test_an_unknown_role_is_a_mistake():
    with pytest.raises(UserError, match="names the role 'asker'"):
        convert_table(questions(1), mapping={"asker": "question"})


def test_packed_rows_come_back_at_their_indices():
    rows = PackedRows(["a", "b"])
    rows.extend(PackedRows())
    rows.extend(PackedRows(["c", "\u00e9", "e"]))
    assert len(rows) == 5
    assert rows.texts_at([0, 1, 3, 4]) == {0: "a", 1: "b", 3: "\u00e9", 4: "e"}


def test_a_corpus_grows_by_another_one_with_its_findings():
    corpus, other = Corpus([conversation("one", "1")], ["x"]), Corpus([conversation("two", "2")], ["y"])
    other.row_findings = {"refusal": {0: "says no"}}
    corpus.extend(other)
    corpus.extend(other)
    assert corpus.origins == ["x", "y", "y"]
    assert corpus.row_findings == {"refusal": {1: "says no", 2: "says no"}}
    corpus.refuse("refusal", {1: "first"})
    corpus.refuse("near_duplicate", {1: "second", 2: "second"})
    assert corpus.refused == {1: ("refusal", "first"), 2: ("near_duplicate", "second")}
