"""The spellings after --source, and the files that are read."""

from pathlib import Path
from typing import Any

import pytest

from fintune_kit.data.read.hub import open_hub
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
    assert [(file.name, len(list(file.rows))) for file in files] == [
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


def files_of(folder: Path) -> list[tuple[str, int]]:
    return [
        (file.name, len(list(file.rows))) for source in parse_sources([str(folder)]) for file in read_source(source)
    ]


def test_of_a_folder_only_the_rows_to_train_on_are_read(tmp_path: Path):
    folder = tmp_path / "set"
    for name in ("train.jsonl", "valid.jsonl", "data/test-00000.jsonl", "latest.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"q": 1}\n')
    assert files_of(folder) == [
        ("set/data/test-00000.jsonl", 0),
        ("set/latest.jsonl", 1),
        ("set/train.jsonl", 1),
        ("set/valid.jsonl", 0),
    ]
    left_out = next(file for file in read_source(parse_sources([str(folder)])[0]) if file.name == "set/valid.jsonl")
    assert "it is for evaluation" in str(left_out.fault)


def test_a_folder_with_nothing_but_evaluation_files_is_read(tmp_path: Path):
    (tmp_path / "test.jsonl").write_text('{"q": 1}\n')
    assert [rows for _, rows in files_of(tmp_path)] == [1]


def test_a_hub_dataset_is_split_as_a_folder_is(monkeypatch: pytest.MonkeyPatch):
    import datasets

    asked: list[Any] = []

    def load(name: str, config: str | None, *, revision: str | None, streaming: bool) -> Any:
        asked.append((name, config, revision, streaming))
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
        )
        rows = datasets.Dataset.from_dict({"text": ["a"], "label": [1]}, features=features)
        return {"train": rows, "test": rows}

    monkeypatch.setattr(datasets, "load_dataset", load)
    (source,) = parse_sources(["owner/name:small@v1=5"])
    train, test = read_source(source)
    assert asked == [("owner/name", "small", "v1", True)]
    assert (train.name, [row.values for row in train.rows]) == ("owner/name:small@v1", [{"text": "a", "label": "yes"}])
    assert (test.name, test.rows) == ("owner/name:small@v1/test", [])
    assert "it is for evaluation" in str(test.fault)


def test_a_hub_dataset_with_several_configs_names_them(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"q": 1}\n')
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: easy\n  data_files: a.jsonl\n- config_name: hard\n  data_files: a.jsonl\n---\n"
    )
    with pytest.raises(UserError, match=r"expected one of its configs: write .*:CONFIG") as error:
        open_hub(str(tmp_path))
    assert "easy" in str(error.value)
    assert "hard" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(open_hub(str(tmp_path), config="easy")["train"]) == 1
