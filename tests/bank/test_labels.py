"""A person's labels: read through aliases, faults named by line and never quoted, corrections never replaced."""

from pathlib import Path

import pytest

from fintune_kit.bank.labels import Suggestion, read_labels, write_suggestions
from fintune_kit.errors import MissingInputError, UserError

HUBER = Suggestion("huber", "", "Groceries", 0.41, 2, 'HUBER "KOELN", =1')


def test_what_is_written_is_read_once_the_person_has_filled_it_in(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_suggestions(path, [Suggestion("aldi", "Groceries", "Groceries", 0.99, 9, "ALDI 12"), HUBER])
    assert read_labels(path).category_of("HUBER KOELN") is None
    path.write_text(path.read_text().replace('"huber",""', '"huber","Coffee Shops"'))
    labels = read_labels(path)
    assert labels.category_of("KARTE HUBER") == "Food & Dining"
    assert labels.category_of("ALDI 99") == "Groceries"


@pytest.mark.parametrize(
    "text", ["merchant;category\nhuber;restaurants\n", "\ufeffcategory,merchant\nrestaurants,huber\n"]
)
def test_a_file_of_two_columns_by_hand_will_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / "own.csv").category_of("HUBER") == "Food & Dining"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "merchant,category\naldi,Groceries\nirma,Things of Aunt Mary\n",
            r"line 3 of .*own.csv: .*transactions taxonomy",
        ),
        ("merchant,category\nirma,Groceries\nirma,Health\n", r"line 3 of .*second category"),
        ("shop,label\nirma,Groceries\n", "lacks the columns merchant and category"),
    ],
)
def test_a_fault_is_named_by_its_line_and_not_quoted(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as failure:
        read_labels(tmp_path / "own.csv")
    assert "irma" not in str(failure.value)
    assert "Aunt" not in str(failure.value)


def test_corrections_are_never_replaced_and_a_missing_file_names_its_author(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="may hold somebody's corrections"):
        write_suggestions(tmp_path / "labels.csv", [HUBER])
    assert (tmp_path / "labels.csv").read_text(encoding="utf-8") == "mine"
    with pytest.raises(MissingInputError, match="`fintune-kit transactions label` writes one"):
        read_labels(tmp_path / "nowhere.csv")
