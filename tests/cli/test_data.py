"""The output of `fintune-kit data`, and its processes."""

from pathlib import Path
from typing import Any

import pytest

from fintune_kit.cli.data import print_funnel
from fintune_kit.cli.main import main
from fintune_kit.data import stage

FUNNEL = [
    {"rule": "read", "says": "rows read", "refused": 0, "left": 1_200},
    {"rule": "unreadable", "says": "a line or row that cannot be read", "refused": 0, "left": 1_200},
    {"rule": "roles", "says": "turns that do not alternate", "refused": 150, "left": 1_050},
    {"rule": "not_selected", "says": "passes, and others were chosen", "refused": 50, "left": 1_000},
]


def test_only_rules_that_refused_a_row_get_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_funnel(FUNNEL)
    assert capsys.readouterr().out.splitlines() == [
        "    1,200 rows read",
        "    1,050 left       -150  turns that do not alternate",
        "    1,000 left        -50  passes, and others were chosen",
        "          1 other rules refused no row; report.json names all of them",
    ]


@pytest.mark.usefixtures("workspace")
def test_with_two_processes_the_command_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    converter = stage.batch_converter

    def recorded(processes: int, **given: Any) -> Any:
        used.append(processes)
        return converter(processes, **given)

    monkeypatch.setattr(stage, "batch_converter", recorded)
    monkeypatch.setattr("fintune_kit.cli.data.count_cores", lambda: 2)
    monkeypatch.setattr("fintune_kit.data.convert.batches.BATCH_ROWS", 50)  # the sample is twelve batches
    assert main(["data", "--source", "sample", "--out", str(tmp_path / "one")]) == 0
    assert main(["data", "--source", "sample", "--out", str(tmp_path / "two"), "--processes", "2"]) == 0
    assert used == [1, 2]
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_more_processes_than_cores_are_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fintune_kit.cli.data.count_cores", lambda: 2)
    assert main(["data", "--source", "sample", "--processes", "3"]) == 2
    error = capsys.readouterr().err
    assert error == "error: --processes 3 was given; expected at most 2, the cores here: give fewer\n"
    assert not workspace.exists()
