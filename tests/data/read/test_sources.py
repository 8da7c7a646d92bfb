"""What a user may write after --source."""

from pathlib import Path

import pytest

from fintune_kit.data.read.sources import parse_sources, read_source
from fintune_kit.errors import MissingInputError, UserError


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n')
    return path


def test_counts_and_weights(rows: Path):
    plain, counted, weighted = parse_sources([str(rows), f"{rows}=5_000", f"{rows}*0.3"])
    assert (plain.count, plain.weight) == (None, None)
    assert (counted.count, weighted.weight) == (5000, 0.3)


def test_a_source_named_twice_has_two_names(rows: Path):
    assert [source.name for source in parse_sources([str(rows)] * 3)] == [
        "rows.jsonl",
        "rows.jsonl(2)",
        "rows.jsonl(3)",
    ]


def test_a_path_that_exists_is_that_path_whatever_its_signs(tmp_path: Path):
    path = tmp_path / "rows=5.jsonl"
    path.write_text("{}\n")
    (source,) = parse_sources([str(path)])
    assert (source.location, source.count) == (str(path), None)


def test_a_hub_id_is_told_from_a_missing_file():
    (source,) = parse_sources(["owner/name@v1.0=100"])
    assert (source.location, source.is_hub, source.count) == ("owner/name@v1.0", True, 100)
    with pytest.raises(MissingInputError, match=r"'data/rows.csv' was not found; expected a file"):
        parse_sources(["data/rows.csv"])


@pytest.mark.parametrize("mark", ["=0", "*0"])
def test_asking_for_nothing_is_a_mistake(rows: Path, mark: str):
    with pytest.raises(UserError, match="asks for nothing"):
        parse_sources([f"{rows}{mark}"])


def test_a_file_of_no_known_format_is_a_mistake(tmp_path: Path):
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(UserError, match="no known ending; expected one of"):
        parse_sources([str(tmp_path / "rows.txt")])


def test_a_folder_is_read_in_the_order_of_its_names_and_one_bad_file_costs_itself(tmp_path: Path):
    folder = tmp_path / "set"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.csv").write_text("a,a\n1,2\n")
    (folder / "a.jsonl").write_text('{"q": 1}\n')
    (folder / "deep" / "c.jsonl").write_text('{"q": 2}\n')
    (folder / "README.md").write_text("not rows")
    (folder / ".hidden.jsonl").write_text('{"q": 3}\n')
    files = [file for source in parse_sources([str(folder)]) for file in read_source(source)]
    assert [(file.name, len(file.rows)) for file in files] == [
        ("set/a.jsonl", 1),
        ("set/b.csv", 0),
        ("set/deep/c.jsonl", 1),
    ]
    assert "names the column 'a' twice" in str(files[1].fault)


def test_a_folder_without_rows_is_a_mistake(tmp_path: Path):
    (source,) = parse_sources([str(tmp_path)])
    with pytest.raises(MissingInputError, match="holds no file of rows"):
        list(read_source(source))


def test_a_hub_dataset_without_a_connection_is_one_sentence():
    (source,) = parse_sources(["fintune-kit-tests/no-such-dataset"])
    with pytest.raises(UserError, match="could not be loaded") as error:
        list(read_source(source))
    assert "\n" not in str(error.value)
    assert "expected a public dataset" in str(error.value)
