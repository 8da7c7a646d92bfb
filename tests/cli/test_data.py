"""The output of `fintune-kit data`."""

import pytest

from fintune_kit.cli.data import print_funnel

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
