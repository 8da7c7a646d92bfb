"""Damaged files lose the damaged row, never the file; and each loss is named with its line."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fintune_kit.data.read.files import format_of, read_rows
from fintune_kit.data.read.lines import MAX_LINE, UnreadableFileError


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def values(path: Path) -> list[object]:
    return [row.values for row in read_rows(path)]


def faults(path: Path) -> list[tuple[str, str]]:
    return [(row.location, row.fault) for row in read_rows(path) if row.fault]


def test_the_format_is_told_by_the_name_with_or_without_gz():
    assert format_of(Path("a/ROWS.CSV.gz")) == ".csv"
    assert format_of(Path("rows.jsonl")) == ".jsonl"
    assert format_of(Path("rows.txt")) is None


def test_a_damaged_line_of_jsonl_is_named_and_the_others_are_read(tmp_path: Path):
    path = written(tmp_path, "a.jsonl", b'{"a": 1}\nnot json\n[2]\n\n{"a": 3}\n{"a": ')
    assert [v for v in values(path) if v] == [{"a": 1}, {"a": 3}]
    assert [location for location, _ in faults(path)] == ["line 2", "line 3", "line 6"]
    assert faults(path)[1][1] == "found a list, expected an object with columns"


def test_a_line_of_17_million_characters_is_refused_without_the_rest(tmp_path: Path):
    path = written(tmp_path, "a.jsonl", b'{"a": "' + b"x" * (MAX_LINE + 10) + b'"}\n{"a": 1}\n')
    assert [v for v in values(path) if v] == [{"a": 1}]
    assert faults(path)[0][0] == "line 1"
    assert "expected at most 16,777,216" in faults(path)[0][1]


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1, "a": 2}'], ids=["deep", "huge number", "twice"]
)
def test_json_that_python_cannot_take_is_a_refused_row(tmp_path: Path, line: bytes):
    path = written(tmp_path, "a.jsonl", line + b'\n{"a": 1}\n')
    assert [v for v in values(path) if v] == [{"a": 1}]
    assert len(faults(path)) == 1


def test_the_bytes_of_other_encodings_are_read(tmp_path: Path):
    assert values(written(tmp_path, "bom.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n')) == [{"a": 1}]
    assert values(written(tmp_path, "utf16.jsonl", '{"a": "é"}\n'.encode("utf-16"))) == [{"a": "é"}]
    (latin,) = read_rows(written(tmp_path, "latin.jsonl", b'{"a": "caf\xe9"}\n'))
    assert latin.values == {"a": "café"}
    assert latin.note == "not UTF-8, read as Windows-1252"


def test_a_json_file_may_be_a_list_an_object_around_one_or_json_lines(tmp_path: Path):
    assert values(written(tmp_path, "a.json", b'[{"a": 1}, {"a": 2}]')) == [{"a": 1}, {"a": 2}]
    assert values(written(tmp_path, "b.json", b'{"data": [{"a": 1}]}')) == [{"a": 1}]
    assert values(written(tmp_path, "c.json", b'{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]


def test_a_list_in_one_long_line_is_read_whole(tmp_path: Path):
    row = b'{"a": "' + b"x" * 1_000_000 + b'"}'
    assert len(values(written(tmp_path, "a.json", b"[" + b",".join([row] * 18) + b"]"))) == 18


def test_a_truncated_list_keeps_what_came_before(tmp_path: Path):
    path = written(tmp_path, "a.json", b'[{"a": 1}, {"a": 2}, {"a":')
    assert [v for v in values(path) if v] == [{"a": 1}, {"a": 2}]
    assert faults(path)[0][0] == "line 1"


def test_a_damaged_element_costs_itself_only(tmp_path: Path):
    path = written(tmp_path, "a.json", b'[\n  {"a": 1},\n  {"a": {"b": 2 "c": 3}},\n  {"a": 4}\n]')
    assert [v for v in values(path) if v] == [{"a": 1}, {"a": 4}]
    assert faults(path)[0][0] == "line 3"


@pytest.mark.parametrize(
    "content", [b'{"a": {"0": 1}}', b"3", b"hello", b""], ids=["object", "number", "text", "empty"]
)
def test_a_json_file_without_rows_says_what_it_holds(tmp_path: Path, content: bytes):
    with pytest.raises(UnreadableFileError, match="expected"):
        list(read_rows(written(tmp_path, "a.json", content)))


def test_csv_with_bom_crlf_semicolons_and_quotes(tmp_path: Path):
    path = written(tmp_path, "a.csv", b'\xef\xbb\xbfq;a\r\n"one\r\ntwo";"say ""hi"""\r\nx;y\r\n')
    assert values(path) == [{"q": "one\ntwo", "a": 'say "hi"'}, {"q": "x", "a": "y"}]


def test_a_ragged_csv_row_and_an_open_quote_are_named(tmp_path: Path):
    path = written(tmp_path, "a.csv", b'q,a\n1,2\n3\n4,5,6\n7,8\n"open,9\n')
    assert [v for v in values(path) if v] == [{"q": "1", "a": "2"}, {"q": "7", "a": "8"}]
    assert faults(path)[:2] == [
        ("line 3", "1 fields, expected 2 as in the header"),
        ("line 4", "3 fields, expected 2 as in the header"),
    ]
    assert faults(path)[2][0] == "line 6"


@pytest.mark.parametrize(
    ("rows", "fault"), [(3_000, "unexpected end of data"), (12_000, "a quote is open for 10,000 lines")]
)
def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path, rows: int, fault: str):
    lines = [b"q,a", *(b"question %d,answer" % number for number in range(2, rows + 2))]
    lines[5] = b'"question 6,answer'
    path = written(tmp_path, "a.csv", b"\n".join(lines))
    assert faults(path) == [("line 6", f"not CSV: {fault}")]
    assert len([row for row in values(path) if row]) == rows - 1


def test_a_cell_of_two_thousand_lines_is_one_cell(tmp_path: Path):
    report = "\n".join(f"line {number}, of a report" for number in range(2_000))
    path = written(tmp_path, "a.csv", f'q,a\n"{report}",Yes\nnext,No\n'.encode())
    assert values(path) == [{"q": report, "a": "Yes"}, {"q": "next", "a": "No"}]


def test_a_quote_in_the_wrong_place_costs_its_own_line(tmp_path: Path):
    path = written(tmp_path, "a.csv", b'q,a\n1,"open\n2,3\n"4","5"\n6,"7\n8"\n')
    (fault,) = faults(path)
    assert fault[0] == "line 2"
    assert [row for row in values(path) if row] == [
        {"q": "2", "a": "3"},
        {"q": "4", "a": "5"},
        {"q": "6", "a": "7\n8"},
    ]


def test_tabs_separate_a_tsv_even_where_commas_are_more(tmp_path: Path):
    assert values(written(tmp_path, "a.tsv", b"a,b,c\td\n1\t2\n")) == [{"a,b,c": "1", "d": "2"}]


def test_a_column_named_twice_is_an_error_of_the_file(tmp_path: Path):
    with pytest.raises(UnreadableFileError, match="names the column 'a' twice in line 1"):
        list(read_rows(written(tmp_path, "a.csv", b"a,a\n1,2\n")))
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(UnreadableFileError, match="names the column 'a' twice"):
        list(read_rows(tmp_path / "b.parquet"))


def test_parquet_is_read_also_compressed_and_damage_is_said(tmp_path: Path):
    pq.write_table(pa.table({"a": ["x", None], "b": [[1], []]}), tmp_path / "a.parquet")
    expected = [{"a": "x", "b": [1]}, {"a": None, "b": []}]
    assert values(tmp_path / "a.parquet") == expected
    assert values(written(tmp_path, "b.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))) == expected
    with pytest.raises(UnreadableFileError, match="not readable as Parquet"):
        list(read_rows(written(tmp_path, "c.parquet", b"PAR1 and no more")))


def test_a_compressed_file_that_breaks_off_keeps_its_lines(tmp_path: Path):
    whole = gzip.compress(b"".join(b'{"a": %d}\n' % number for number in range(5000)))
    assert len(values(written(tmp_path, "whole.jsonl.gz", whole))) == 5000
    rows = list(read_rows(written(tmp_path, "cut.jsonl.gz", whole[: len(whole) // 2])))
    assert len(rows) > 1000
    assert [row.values for row in rows[:3]] == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert rows[-1].fault == "the compressed file ends too early"


def test_two_compressed_members_are_one_file(tmp_path: Path):
    both = gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n')
    assert values(written(tmp_path, "a.jsonl.gz", both)) == [{"a": 1}, {"a": 2}]


def test_the_content_and_not_the_name_says_whether_a_file_is_compressed(tmp_path: Path):
    assert values(written(tmp_path, "a.jsonl", gzip.compress(b'{"a": 1}\n'))) == [{"a": 1}]
    assert values(written(tmp_path, "b.jsonl.gz", b'{"a": 1}\n')) == [{"a": 1}]
    pq.write_table(pa.table({"a": [1]}), tmp_path / "c.json")
    assert values(tmp_path / "c.json") == [{"a": 1}]


@pytest.mark.parametrize(("head", "name"), [(b"PK\x03\x04", "a zip archive"), (b"\x28\xb5\x2f\xfd", "Zstandard")])
def test_a_file_that_must_be_unpacked_first_says_so(tmp_path: Path, head: bytes, name: str):
    with pytest.raises(UnreadableFileError, match=f"is {name}, expected .jsonl or gzip: unpack it"):
        list(read_rows(written(tmp_path, "a.jsonl", head + b"\x00" * 50)))


def test_ndjson_is_json_lines(tmp_path: Path):
    assert format_of(Path("rows.ndjson.gz")) == ".ndjson"
    assert values(written(tmp_path, "a.ndjson", b'{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]


def test_a_bare_list_of_turns_is_one_row(tmp_path: Path):
    turns = b'[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]'
    expected = [{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}]
    assert values(written(tmp_path, "a.jsonl", turns + b"\n")) == expected
    assert values(written(tmp_path, "b.json", turns)) == expected
    assert values(written(tmp_path, "c.json", b"[" + turns + b", " + turns + b"]")) == expected * 2


def test_class_numbers_are_read_as_the_names_in_the_metadata(tmp_path: Path):
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
    }
    schema = pa.schema([("text", pa.string()), ("label", pa.float64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    table = pa.table({"text": list("abcde"), "label": [0.0, 1.0, None, -1.0, 7.0]}, schema=schema)
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "b.arrow"):
        assert [row["label"] for row in values(tmp_path / name)] == ["bad", "good", None, None, 7.0]


def test_the_first_line_of_excel_names_the_delimiter(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\nquestion;answer\r\nA, B or C?;B\r\n")
    assert [row.values for row in read_rows(path)] == [{"question": "A, B or C?", "answer": "B"}]
