"""A statement becomes categorised rows: by corrections, by the file, by a model that is sure, or not at all."""

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from fintune_kit.bank.conversations import line_of, to_conversations
from fintune_kit.bank.merchants import MerchantLabels
from fintune_kit.bank.synthetic.generate import generate_statements
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction, read_statement
from fintune_kit.cli.main import main
from fintune_kit.evaluate.categorise import (
    Calibration,
    Categoriser,
    calibration_rows,
    category_report,
    explain_categories,
    fit_calibration,
    probabilities,
)
from fintune_kit.evaluate.models import load_model
from fintune_kit.evaluate.scoring import Compute
from tests.evaluate.world import World

BANK = """Date,Description,Amount,Currency
2024-03-01,ZELLE TO MARIA GONZALEZ CONF# A7K2P9Q,-120.00,USD
2024-03-02,SQ *BLUE BOTTLE 0423 OAKLAND CA,-6.50,USD
2024-03-03,POS BLUE BOTTLE 0511 OAKLAND CA,-3.25,USD
2024-03-04,NETFLIX.COM,-11.99,USD
"""
COMPUTE = Compute(device="cpu", length=512)
ALWAYS, NEVER = Calibration(threshold=0.0), Calibration(threshold=1.01)


@pytest.fixture
def categoriser(model: object, encoder: object) -> Categoriser:
    """A fresh one for each test: it keeps the scores of the lines that it has read."""
    return Categoriser(model, encoder=encoder, compute=COMPUTE)


@pytest.fixture(scope="module")
def model(world: World) -> object:
    return load_model(world.recipe, base=world.base, adapter=world.adapter, compute=COMPUTE)


@pytest.fixture
def run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("FINTUNE_RECIPE", "smoke")
    monkeypatch.setenv("FINTUNE_WORKSPACE", str(tmp_path / "workspace"))
    (tmp_path / "bank.csv").write_text(BANK, encoding="utf-8")
    return lambda verb, *words: main(
        ["transactions", verb, str(tmp_path / "bank.csv"), "--base", str(world.base), *map(str, words)]
    )


def row(description: str, amount: str = "-1.00", category: str = "") -> Transaction:
    return Transaction(
        account="",
        date="2024-03-01",
        description=description,
        amount=Decimal(amount),
        currency="USD",
        category=category,
    )


def honest_model(count: int, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a model whose probabilities are true, and the right labels: `[count, 4]` and `[count]`."""
    scores = rng.normal(scale=6, size=(count, 4))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return scores, (shares.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)


def test_a_category_outside_the_taxonomy_is_impossible_and_equal_lines_are_read_once(
    categoriser: Categoriser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    from fintune_kit.evaluate import categorise

    def counting(model: object, questions: list, **values: object) -> list:
        asked.append(len(questions))
        return original(model, questions, **values)

    original = categorise.score_choices
    monkeypatch.setattr(categorise, "score_choices", counting)
    decisions = categoriser.decide([row("A SHOP"), row("A SHOP"), row("B SHOP")], corrections=None, calibration=ALWAYS)
    assert asked == [2]
    assert decisions[0] == decisions[1]
    assert {decision.category for decision in decisions} <= set(load_taxonomy().names)
    assert all(1 / 20 <= decision.confidence <= 1 for decision in decisions)
    categoriser.decide([row("B SHOP"), row("C SHOP")], corrections=None, calibration=NEVER)
    assert asked == [2, 1], "a line that was read before is not read again"


def test_corrections_win_then_the_file_then_a_sure_model_and_else_nobody(categoriser: Categoriser) -> None:
    rows = [row("SQ *BLUE BOTTLE", category="Travel"), row("AIR", category="Travel"), row("OTHER")]
    corrections = MerchantLabels({"blue bottle": "Groceries"})
    unsure = categoriser.decide(rows, corrections=corrections, calibration=NEVER)
    assert [(d.category, d.decided_by) for d in unsure] == [
        ("Groceries", "correction"),
        ("Travel", "file"),
        ("", "nobody"),
    ]
    assert unsure[2].suggestion in load_taxonomy().names
    sure = categoriser.decide(rows, corrections=corrections, calibration=ALWAYS)
    assert (sure[2].category, sure[2].decided_by) == (unsure[2].suggestion, "model")


def test_nothing_is_asked_where_everything_is_known(categoriser: Categoriser) -> None:
    (only,) = categoriser.decide([row("X", category="Travel")], corrections=None, calibration=ALWAYS)
    assert only.decided_by == "file"


def test_a_merchant_is_suggested_once_with_its_number_of_lines(categoriser: Categoriser) -> None:
    rows = [row("SQ *WILLOWMERE BAKES 0423"), row("WILLOWMERE BAKES"), row("NETFLIX.COM")]
    found = categoriser.suggest(rows, corrections=MerchantLabels({"netflix.com": "Subscriptions"}), calibration=NEVER)
    assert [(s.merchant, s.category, s.lines) for s in found] == [
        ("willowmere bakes", "", 2),
        ("netflix.com", "Subscriptions", 1),
    ]
    assert found[0].suggestion in load_taxonomy().names


def test_the_temperature_makes_confidence_true_and_the_threshold_keeps_98_in_100() -> None:
    scores, targets = honest_model(2_000, rng=np.random.default_rng(0))
    boastful = fit_calibration(3 * scores, targets)  # three times too sure
    assert boastful.temperature == pytest.approx(3, rel=0.2)
    confidence = probabilities(3 * scores, boastful).max(axis=1)
    right = scores.argmax(axis=1) == targets
    assert confidence.mean() == pytest.approx(right.mean(), abs=0.03)
    passed = confidence >= boastful.threshold
    assert passed.any()
    assert right[passed].mean() >= 0.98
    assert boastful.coverage == pytest.approx(passed.mean())


def test_98_in_100_are_right_on_rows_that_the_threshold_was_not_chosen_on() -> None:
    """A threshold without a margin is the luckiest of many: 0.977 of the fresh labels are right then."""
    rng = np.random.default_rng(1)
    fresh, targets = honest_model(50_000, rng=rng)
    accuracies, coverages = [], []
    for _ in range(60):
        calibration = fit_calibration(*honest_model(400, rng=rng))
        shares = probabilities(fresh, calibration)
        passed = shares.max(axis=1) >= calibration.threshold
        coverages.append(passed.mean())
        accuracies.append((shares.argmax(axis=1) == targets)[passed].mean())
    assert np.mean(accuracies) >= 0.98
    assert np.mean(coverages) > 0.5, "a model that always abstains is never wrong"


def test_48_right_labels_are_too_few_to_choose_a_threshold_on_and_49_are_enough() -> None:
    scores = np.tile([9.0, 0.0], (49, 1))
    assert fit_calibration(scores[:48], np.zeros(48, np.int64)).coverage == 0.0
    enough = fit_calibration(scores, np.zeros(49, np.int64))
    assert (enough.coverage, enough.accuracy) == (1.0, 1.0)


def test_a_model_that_is_never_right_always_abstains() -> None:
    scores = np.tile([5.0, 0.0], (10, 1))
    found = fit_calibration(scores, np.ones(10, np.int64))
    assert (found.threshold, found.coverage, found.accuracy) == (1.01, 0.0, None)


def test_totals_are_added_by_code_and_what_is_open_stands_apart(categoriser: Categoriser) -> None:
    rows = [row("A", "-0.10", "Travel"), row("A", "-0.20", "Travel"), row("B", "-5.00")]
    decisions = categoriser.decide(rows, corrections=None, calibration=NEVER)
    report = category_report(rows, decisions, calibration=NEVER)
    assert report["totals"] == {"USD": {"": "-5.00", "Travel": "-0.30"}}
    assert report["decided_by"] == {"file": 2, "nobody": 1}
    assert any("(left open)" in line and "-5.00" in line for line in explain_categories(report))


def test_a_banks_file_becomes_categorised_rows_without_its_secrets(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corrections.csv").write_text("merchant,category\nblue bottle,Coffee Shops\n", encoding="utf-8")
    out = tmp_path / "out.csv"
    assert run("categorise", "--out", out, "--corrections", tmp_path / "corrections.csv", "--threshold", "0") == 0
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["decided_by"] for r in rows] == ["model", "correction", "correction", "model"]
    assert [r["category"] for r in rows[1:3]] == ["Food & Dining"] * 2
    report = json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))
    sums = [Decimal(total) for total in report["totals"]["USD"].values()]
    assert sum(sums) == Decimal("-141.74")
    printed = capsys.readouterr()
    for secret in ("GONZALEZ", "A7K2P9Q"):
        assert secret not in out.read_text(encoding="utf-8") + json.dumps(report) + printed.out + printed.err
    assert "BLUE BOTTLE" not in printed.out + printed.err
    first = out.read_bytes()
    assert run("categorise", "--out", out, "--corrections", tmp_path / "corrections.csv", "--threshold", "0") == 0
    assert out.read_bytes() == first, "the same statement gives the same file"
    assert len(read_statement(out)) == 4, "it is a statement of ours"


def test_labels_that_a_person_corrected_become_conversations(run: Callable[..., int], tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    assert run("label", "--out", labels, "--threshold", "1") == 0
    text = labels.read_text(encoding="utf-8")
    assert '"blue bottle",""' in text
    text = text.replace('"blue bottle",""', '"blue bottle","restaurants"')
    labels.write_text(text.replace('"netflix.com",""', '"netflix.com","Subscriptions"'), encoding="utf-8")
    bank = tmp_path / "bank.csv"
    assert main(["transactions", "anonymise", str(bank), "--out", str(tmp_path / "clean.csv")]) == 0
    words = ["--labels", str(labels), "--out", str(tmp_path / "out")]
    assert main(["transactions", "conversations", str(tmp_path / "clean.csv"), *words]) == 0
    train, unseen = (
        (tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("train.jsonl", "unseen_merchants.jsonl")
    )
    assert ("BLUE BOTTLE" in train) != ("BLUE BOTTLE" in unseen)
    assert ("NETFLIX" in train) != ("NETFLIX" in unseen)


def test_confidence_is_calibrated_on_rows_of_unseen_merchants(categoriser: Categoriser, tmp_path: Path) -> None:
    generate_statements(count=900, seed=3, out=tmp_path / "statements")
    to_conversations(tmp_path / "statements", out=tmp_path / "transactions", seed=1, evaluation_rows=30)
    found = categoriser.calibrated_on(calibration_rows(tmp_path / "transactions"))
    assert found.rows == 30
    assert found.threshold > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--corrections", "nowhere.csv"], "nowhere.csv is missing"),
        (["--threshold", "2"], "--threshold"),
        (["--calibrate-on", "nowhere"], "nowhere"),
        (["--base", "no/such/base"], "no/such/base"),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_is_written(
    words: list[str], sentence: str, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "--base":
        code = main(
            ["transactions", "categorise", str(tmp_path / "bank.csv"), *words, "--out", str(tmp_path / "out.csv")]
        )
    else:
        code = run("categorise", "--out", tmp_path / "out.csv", *words)
    assert code == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert "BLUE BOTTLE" not in said.out + said.err
    assert not list(tmp_path.glob("out*"))


def test_a_file_that_is_not_ours_is_refused_before_a_model_is_loaded(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("categorise", "--out", tmp_path / "bank.csv") == 2
    assert "the file that is read" in capsys.readouterr().err
    assert (tmp_path / "bank.csv").read_text(encoding="utf-8") == BANK


def test_a_line_is_shown_to_the_model_as_in_training() -> None:
    assert line_of(row("SHOP", "-6.5")) == "SHOP $6.50"
