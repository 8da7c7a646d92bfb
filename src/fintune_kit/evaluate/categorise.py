"""Gives a person's own transactions a category of the taxonomy, or none if the model is unsure.

    decided_by
    correction   a person gave the merchant a category: this one always counts, without training
    file         the bank or budget tool wrote a category that means one of ours: this one is kept
    model        the probability of the model's best label is `threshold` or more
    nobody       it is less: the category stays empty, and the best label is only a suggestion

Only the taxonomy's labels are scored, so the model cannot invent a category. The questions share their instruction, so
the trees of `scoring` read it once in each pack. Code adds up the sums, not the model.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fintune_kit.bank.conversations import line_of, single_prompt
from fintune_kit.bank.labels import Suggestion
from fintune_kit.bank.merchants import MerchantLabels, merchant_keys
from fintune_kit.bank.taxonomy import load_taxonomy
from fintune_kit.bank.transactions import Transaction, check_replaceable, save_statement, totals_by_category
from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.errors import MissingInputError
from fintune_kit.evaluate.models import compute_here, load_model
from fintune_kit.evaluate.scoring import Compute, score_choices
from fintune_kit.evaluate.tasks import Question, evenly_chosen
from fintune_kit.evaluate.transactions import transactions_tasks
from fintune_kit.hardware import check_machine, find_machine
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import base_of
from fintune_kit.train.model import check_adapter
from fintune_kit.workspace import Workspace, write_json

THRESHOLD = 0.9
"""The default: below this probability the model abstains. With labelled rows, the threshold is chosen on them."""
TARGET_ACCURACY = 0.98
"""The accuracy that a threshold must reach on the transactions at or above it."""
MAX_CALIBRATION_ROWS = 400
_TEMPERATURES = np.geomspace(0.25, 8, 61)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One transaction's category, and who decided it."""

    category: str
    """One of the taxonomy's labels, or empty."""
    suggestion: str
    """The model's best label; empty if the model was not asked."""
    confidence: float
    """0 to 1; 1 if a person or the file decided."""
    decided_by: Literal["correction", "file", "model", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How log-probabilities become confidence, and which confidence is enough."""

    temperature: float = 1.0
    """Log-probabilities are divided by it."""
    threshold: float = THRESHOLD
    """A confidence of this much or more decides."""
    rows: int = 0
    """Labelled rows on which both were chosen; 0 for the defaults."""
    coverage: float | None = None
    """The share of these rows at or above the threshold."""
    accuracy: float | None = None
    """The share of right labels among those at or above the threshold."""


class Categoriser:
    """A loaded model that gives transactions their categories. It keeps the scores of the lines that it has read."""

    def __init__(self, model: Any, *, encoder: ChatEncoder, compute: Compute) -> None:
        self._model, self._encoder, self._compute = model, encoder, compute
        self._labels = load_taxonomy().names
        self._scores: dict[str, Floats] = {}

    def log_probabilities(self, texts: Sequence[str]) -> Floats:
        """The log-probability of each of the taxonomy's labels, float64 `[texts, labels]`. Equal texts are read once.

        Args:
            texts: from `bank.conversations.line_of`.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._scores]
        questions = [
            Question(
                row_id=str(number), messages=tuple(single_prompt(text)), text=text, target="", options=self._labels
            )
            for number, text in enumerate(new)
        ]
        scores = score_choices(
            self._model, questions, encoder=self._encoder, compute=self._compute, label="categorising"
        )
        self._scores |= {text: score.log_probability for text, score in zip(new, scores, strict=True)}
        return np.array([self._scores[text] for text in texts]).reshape(len(texts), len(self._labels))

    def calibrated_on(self, rows: Sequence[Question]) -> Calibration:
        """Chooses temperature and threshold on the labelled rows from `calibration_rows`."""
        targets = np.array([self._labels.index(row.target) for row in rows])
        return fit_calibration(self.log_probabilities([row.text for row in rows]), targets)

    def decide(
        self, rows: Sequence[Transaction], *, corrections: MerchantLabels | None, calibration: Calibration
    ) -> list[Decision]:
        """A decision for each transaction, in order.

        Args:
            rows: anonymised transactions, as training shows them.
            corrections: a person's categories by merchant.
            calibration: from `calibrated_on`, or chosen by hand.
        """
        given = [_given(row, corrections) for row in rows]
        asked = [index for index, decision in enumerate(given) if decision is None]
        found = probabilities(self.log_probabilities([line_of(rows[index]) for index in asked]), calibration)
        by_model = {index: self._decision(found[at], calibration) for at, index in enumerate(asked)}
        return [by_model[index] if decision is None else decision for index, decision in enumerate(given)]

    def suggest(
        self, rows: Sequence[Transaction], *, corrections: MerchantLabels | None, calibration: Calibration
    ) -> list[Suggestion]:
        """A suggestion for each merchant, the most frequent merchants first. Arguments are those of `decide`."""
        found = probabilities(self.log_probabilities([line_of(row) for row in rows]), calibration)
        members: dict[str, list[int]] = defaultdict(list)
        for index, key in enumerate(merchant_keys([row.description for row in rows])):
            if key:
                members[key].append(index)
        suggestions = []
        for merchant, indices in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
            decision = self._decision(found[indices].mean(axis=0), calibration)
            example = rows[indices[0]]
            given = _given(example, corrections)
            category = given.category if given else decision.category
            suggestions.append(
                Suggestion(
                    merchant, category, decision.suggestion, decision.confidence, len(indices), example.description
                )
            )
        return suggestions

    def _decision(self, shares: Floats, calibration: Calibration) -> Decision:
        best, confidence = self._labels[int(shares.argmax())], float(shares.max())
        if confidence < calibration.threshold:
            return Decision(category="", suggestion=best, confidence=confidence, decided_by="nobody")
        return Decision(category=best, suggestion=best, confidence=confidence, decided_by="model")


def calibration_rows(folder: Path) -> list[Question]:
    """At most `MAX_CALIBRATION_ROWS` labelled transactions of merchants that are not in the training data.

    Args:
        folder: a folder that `bank.conversations.to_conversations` wrote.

    Raises:
        MissingInputError: the folder is missing or unfinished.
        UserError: it holds no such transaction.
    """
    questions = transactions_tasks(folder, train=(), max_generated=1)[0].questions
    return [questions[index] for index in evenly_chosen(len(questions), max_chosen=MAX_CALIBRATION_ROWS)]


def open_categoriser(
    recipe: Recipe,
    workspace: Workspace,
    *,
    adapter: Path | None = None,
    base: str | Path | None = None,
    or_base: bool = False,
) -> Categoriser:
    """Loads the model that answers.

    adapter given                the adapter, on `base` or on the recipe's base
    only base given              the base alone
    neither                      the workspace's adapter; without one, an error, or the base alone with `or_base`

    Raises:
        MissingInputError: no adapter was found, and the base alone was not asked for.
        UserError: the base or the adapter cannot be loaded.
    """
    machine = find_machine()
    check_machine(machine)
    compute = compute_here(recipe, machine)
    folder = adapter
    if adapter is None and base is None:
        folder = _adapter_in(workspace, or_base=or_base)
    if folder is not None:
        check_adapter(folder)
    source = base or base_of(recipe, workspace)
    model = load_model(recipe, base=source, adapter=folder, compute=compute)
    return Categoriser(model, encoder=ChatEncoder.load(recipe.tokenizer or source), compute=compute)


def _adapter_in(workspace: Workspace, *, or_base: bool) -> Path | None:
    try:
        return workspace.existing("adapter")
    except MissingInputError:
        if or_base:
            return None
        raise


def probabilities(log_probabilities: Floats, calibration: Calibration) -> Floats:
    """The probability of each label among all labels, `[rows, labels]`, at the calibration's temperature."""
    if len(log_probabilities) == 0:
        return log_probabilities
    scaled = log_probabilities / calibration.temperature
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fit_calibration(log_probabilities: Floats, targets: NDArray[np.int64]) -> Calibration:
    """The temperature with the smallest mean loss, and the smallest threshold with 98 % right labels above it.

    One more wrong label is counted than there is. Without it, the threshold would be the luckiest of many on these
    rows, and on new rows fewer than 98 % would be right. So at least 49 right labels must lie above a threshold. If no
    threshold reaches 98 %, the model always abstains.

    Args:
        log_probabilities: `[rows, labels]`.
        targets: `[rows]`, the index of the right label.
    """
    index = np.arange(len(targets))
    candidates = [Calibration(temperature=float(temperature)) for temperature in _TEMPERATURES]
    losses = [-np.log(probabilities(log_probabilities, c)[index, targets] + 1e-12).mean() for c in candidates]
    best = candidates[int(np.argmin(losses))]
    shares = probabilities(log_probabilities, best)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == targets
    order = np.argsort(-confidence, kind="stable")
    wrong, passed = np.cumsum(~right[order]), np.arange(1, len(order) + 1)
    ends = np.append(confidence[order][1:] < confidence[order][:-1], True)  # equal confidences pass together
    enough = np.flatnonzero(((wrong + 1) / (passed + 1) <= 1 - TARGET_ACCURACY + 1e-12) & ends)
    if len(enough) == 0:
        return replace(best, threshold=1.01, rows=len(targets), coverage=0.0)
    last = int(enough[-1])
    return replace(
        best,
        threshold=float(confidence[order][last]),
        rows=len(targets),
        coverage=(last + 1) / len(order),
        accuracy=float(1 - wrong[last] / passed[last]),
    )


def save_categorised(
    out: Path,
    rows: Sequence[Transaction],
    decisions: Sequence[Decision],
    *,
    calibration: Calibration,
    sources: Sequence[Path],
) -> dict[str, Any]:
    """Writes each transaction with its category, its confidence and `decided_by`, and a report beside the file.

    Args:
        out: the CSV file; the report goes beside it as `<name>.report.json`.
        rows: the transactions.
        decisions: one for each transaction, from `Categoriser.decide`.
        calibration: the one that the decisions were made with.
        sources: the files that the transactions come from; none of them is replaced.

    Returns:
        The report; see `category_report`.

    Raises:
        UserError: `out` is one of the sources, a folder, or a file that we did not write.
    """
    for source in sources:
        check_replaceable(out, source=source)
    decided = [(decision.suggestion, f"{decision.confidence:.3f}", decision.decided_by) for decision in decisions]
    save_statement(out, with_categories(rows, decisions), source=sources[0], decided=decided)
    report = category_report(rows, decisions, calibration=calibration)
    write_json(out.with_suffix(".report.json"), report)
    return report


def with_categories(rows: Sequence[Transaction], decisions: Sequence[Decision]) -> list[Transaction]:
    """The transactions with the category that was decided for each; empty where nobody decided."""
    return [replace(row, category=decision.category) for row, decision in zip(rows, decisions, strict=True)]


def category_report(
    rows: Sequence[Transaction], decisions: Sequence[Decision], *, calibration: Calibration
) -> dict[str, Any]:
    """Counts by `decided_by`, and totals by currency and category. Open transactions have the category ''."""
    sums = totals_by_category(with_categories(rows, decisions))
    return {
        "transactions": len(rows),
        "decided_by": dict(sorted(Counter(decision.decided_by for decision in decisions).items())),
        "calibration": {
            "temperature": round(calibration.temperature, 4),
            "threshold": round(calibration.threshold, 4),
            "rows": calibration.rows,
            "coverage": calibration.coverage,
            "accuracy": calibration.accuracy,
        },
        "totals": {
            currency: {name: str(sums[currency][name]) for name in sorted(sums[currency])} for currency in sorted(sums)
        },
    }


def explain_categories(report: Mapping[str, Any]) -> list[str]:
    """A report as sentences and a table for the terminal. It holds counts and sums, but no transaction."""
    calibration, decided = report["calibration"], report["decided_by"]
    said = [f"{report['transactions']:,} transactions: {', '.join(f'{n:,} by {who}' for who, n in decided.items())}"]
    if calibration["rows"]:
        right = "none was reached" if calibration["accuracy"] is None else f"{calibration['accuracy']:.1%} right"
        said.append(
            f"confidence is enough from {calibration['threshold']:.2f}, chosen on {calibration['rows']:,} rows of "
            f"unseen merchants ({right} at {calibration['coverage']:.0%} coverage)"
        )
    else:
        said.append(
            f"confidence is enough from {calibration['threshold']:.2f}; this value was not measured for this model: "
            "name a folder that `fintune-kit transactions conversations` wrote with --calibrate-on"
        )
    for currency, sums in report["totals"].items():
        said.append(currency or "without a currency")
        said += [f"  {name or '(left open)':<26}{Decimal(value):>14,.2f}" for name, value in sums.items()]
    return said


def _given(row: Transaction, corrections: MerchantLabels | None) -> Decision | None:
    """The decision of a person or of the file; None if the model must be asked."""
    corrected = corrections.category_of(row.description) if corrections else None
    if corrected:
        return Decision(category=corrected, suggestion="", confidence=1.0, decided_by="correction")
    if row.category in load_taxonomy().names:
        return Decision(category=row.category, suggestion="", confidence=1.0, decided_by="file")
    return None
