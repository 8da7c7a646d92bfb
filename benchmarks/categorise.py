"""Which category is this line? Merchants that training never showed, in wordings that it never showed either.

    python benchmarks/categorise.py --out results/categorise
    python benchmarks/categorise.py --base QWEN --adapter DIR --questions 100 --out results/categorise

    generator     unseen merchants, as the generator writes lines (its wordings are in the training set)
    other banks   unseen merchants, in the wordings of banks that the generator does not know
    bare          unseen merchants, their names alone
    noise         lines of other banks, cut short, glued, misspelt and without capitals

TF-IDF with a linear SVM learns from `--train` generated lines. The base and the adapter are asked where they are named;
in float32 on the CPU. Half of the unseen merchants calibrate each model (temperature, and a threshold for 98 % right
labels); the other half are the questions. `--lines` adds a set of your own: a CSV with description and category.
"""

import argparse
import csv
import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fintune_kit.bank.conversations import line_of
from fintune_kit.bank.synthetic.generate import synthetic_transactions
from fintune_kit.bank.taxonomy import Merchant, load_taxonomy
from fintune_kit.evaluate.categorise import Calibration, fit_calibration, probabilities
from fintune_kit.evaluate.metrics import calibration, classification, share_interval
from fintune_kit.workspace import versions, write_json, write_text

OTHER_BANKS = (
    "CCD*{M} {n6} {town}",
    "{M} >{town} {n4} {dd}.{mm} {n8}Z{n4}",
    "Visa Purchase {dd}{mon} {M} {town}",
    "INTERAC PURCHASE - {n4} {M}",
    "EFTPOS {M} {town} AU {dd}/{mm}",
    "Card purchase at {Mt} on {dd} {mon}",
    "BKRT {M} VALUE {dd}.{mm}. REF {n8}",
    "MAESTRO {M} {town} {dd}.{mm} {n2}:{n2}",
    "ACHAT TPE {M} {dd}/{mm}",
    "KAUF {M} {town} KARTE {n4}",
    "{n8} PG {M}, {town}",
    "MCDEBIT {n4} {Mt} {town} {n2}",
    "TRANSACTION CB*{n4} {M}",
    "Zakup kartą {M} {town}",
    "DEBITCARDPURCHASE{n6}{M}",
    "To {Mt}",
)
TOWNS = ("SMITHVILLE", "NEUDORF", "PORT ELLIS", "ST CLAIR", "OAKWOOD", "VILLENEUVE")
MONTHS = ("Jan", "Mar", "May", "Jul", "Sep", "Nov")
PLAID = {
    "FOOD_AND_DRINK": ("Food & Dining", "Groceries"),
    "TRANSPORTATION": ("Transport",),
    "RENT_AND_UTILITIES": ("Housing & Utilities",),
    "GENERAL_MERCHANDISE": ("Shopping", "Family & Pets"),
    "MEDICAL": ("Health",),
    "INCOME": ("Income",),
    "ENTERTAINMENT": ("Entertainment", "Subscriptions"),
    "TRAVEL": ("Travel",),
    "BANK_FEES": ("Fees & Cash",),
    "TRANSFER_OUT": ("Transfers", "Savings & Investments"),
    "LOAN_PAYMENTS": ("Loans & Credit",),
    "GENERAL_SERVICES": ("Insurance", "Education"),
    "GOVERNMENT_AND_NON_PROFIT": ("Taxes & Government", "Gifts & Donations"),
    "PERSONAL_CARE": ("Personal Care",),
}
"""Primary categories of Plaid's personal finance categories (PFC v2, whose changes lie in the detailed ones), each with
those of ours that mostly fall into it."""
MCC = {
    "3000-3999, 4500-4799 travel": ("Travel",),
    "4000-4499, 5500-5599 transport and fuel": ("Transport",),
    "4800-4999, 1500-2999 utilities and contractors": ("Housing & Utilities",),
    "5000-5499, 5600-5799 retail": ("Shopping", "Groceries", "Family & Pets"),
    "5800-5814 restaurants": ("Food & Dining",),
    "5815-5818, 7800-7999 entertainment": ("Entertainment", "Subscriptions"),
    "6000-6999 financial": (
        *("Fees & Cash", "Transfers", "Insurance", "Loans & Credit", "Savings & Investments", "Income"),
    ),
    "7200-7299 personal services": ("Personal Care",),
    "8000-8099 medical": ("Health",),
    "8200-8299 education": ("Education",),
    "8398-8699, 9000-9999 organisations and government": ("Taxes & Government", "Gifts & Donations"),
}
"""Groups of merchant category codes (ISO 18245), each with our categories that mostly fall into it."""

Scores = NDArray[np.float64]
Model = Callable[[Sequence[str]], Scores]


class Line(NamedTuple):
    """One question: a line as a prompt shows it, with its amount, and the right category."""

    text: str
    category: str


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="folder of a base model")
    parser.add_argument("--adapter", type=Path, help="folder of an adapter for --base")
    parser.add_argument("--lines", type=Path, help="CSV with the columns description and category")
    parser.add_argument("--questions", type=int, default=400, help="of each set, at most")
    parser.add_argument("--train", type=int, default=20_000, help="generated lines that the SVM learns from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/categorise"))
    given = parser.parse_args()
    if given.adapter and not given.base:
        parser.error("--adapter needs --base")
    sets = question_sets(count=given.questions, seed=given.seed, own=given.lines)
    held = question_sets(count=given.questions, seed=given.seed + 1, own=None, calibrating=True)["other banks"]
    # Folders by their names: results say nothing about the machine.
    said = {k: v.name if isinstance(v, Path) and k != "out" else str(v) for k, v in vars(given).items()}
    record: dict[str, Any] = {"versions": versions(), "arguments": said}
    models = {"TF-IDF + linear SVM": trained_svm(count=given.train, seed=given.seed + 2)}
    if given.base:
        models |= real_models(given.base, given.adapter)
    record["models"] = {name: measured(model, sets=sets, held=held, seed=given.seed) for name, model in models.items()}
    write_json(given.out.with_suffix(".json"), record)
    write_text(given.out.with_suffix(".md"), table(record))
    print(table(record))


def question_sets(*, count: int, seed: int, own: Path | None, calibrating: bool = False) -> dict[str, list[Line]]:
    """At most `count` lines a set, of one half of the unseen merchants, their categories in turn."""
    rng = random.Random(seed)  # noqa: S311 (invented lines, not a secret)
    merchants = [merchant for merchant in unseen_merchants() if is_for_calibration(merchant.name) == calibrating]
    names = {merchant.name for merchant in merchants}
    rows = [r for r in synthetic_transactions(count=40 * count, seed=seed + 7) if r.merchant in names]
    chosen = in_turn([(m.category, m) for m in rng.sample(merchants, len(merchants))], count=count)
    other = [Line(f"{other_bank(merchant.name, rng)} {price(rng)}", merchant.category) for merchant in chosen]
    sets = {
        "generator": in_turn([(r.category, Line(line_of(r), r.category)) for r in rows], count=count),
        "other banks": other,
        "bare": [Line(f"{merchant.name.title()} {price(rng)}", merchant.category) for merchant in chosen],
        "noise": [Line(noisy(line.text, rng), line.category) for line in other],
    }
    return sets | ({"own": own_lines(own)[:count]} if own else {})


def is_for_calibration(merchant: str) -> bool:
    """Half of the merchants calibrate, the other half are asked about; the name decides."""
    return hashlib.sha256(merchant.encode()).digest()[0] % 2 == 0


def unseen_merchants() -> list[Merchant]:
    """The merchants that no training line shows, and small businesses whose first word none shows."""
    taxonomy = load_taxonomy()
    groups = [group for category in taxonomy.categories for group in category.groups]
    chains = [merchant for group in groups for merchant in group.merchants if merchant.split == "unseen"]
    return chains + [
        Merchant(name=f"{word} {noun}", category=group.category, regions=("us",), split="unseen")
        for group in groups
        for number, noun in enumerate(group.local)
        for word in (taxonomy.local_words["unseen"][number % len(taxonomy.local_words["unseen"])],)
    ]


def in_turn(pairs: Sequence[tuple[str, Any]], *, count: int) -> list[Any]:
    """At most `count` items, one of each category after the other."""
    queues: dict[str, list[Any]] = {}
    for category, item in pairs:
        queues.setdefault(category, []).append(item)
    depth = max(map(len, queues.values()), default=0)
    return [queues[name][i] for i in range(depth) for name in sorted(queues) if i < len(queues[name])][:count]


def other_bank(name: str, rng: random.Random) -> str:
    """A line about a merchant in a wording of `OTHER_BANKS`."""
    digits = {f"n{n}": f"{rng.randrange(10**n):0{n}d}" for n in (2, 4, 6, 8)}
    return rng.choice(OTHER_BANKS).format(
        M=name,
        Mt=name.title(),
        town=rng.choice(TOWNS),
        dd=f"{rng.randint(1, 28):02d}",
        mm=f"{rng.randint(1, 12):02d}",
        mon=rng.choice(MONTHS),
        **digits,
    )


def price(rng: random.Random) -> str:
    """An amount that says nothing."""
    return f"${rng.lognormvariate(3.2, 0.7):,.2f}"


def noisy(text: str, rng: random.Random) -> str:
    """The line as tills and exports spoil it: one or two faults of five."""
    line, _, amount = text.rpartition(" ")
    for fault in rng.sample(range(5), rng.randint(1, 2)):
        at = rng.randrange(1, max(2, len(line) - 1))
        line = (
            line[: max(22, len(line) - 8)],  # cut at the end, as a field of fixed width does
            line.replace(" ", "", 1),
            line.lower(),
            line[:at] + line[at + 1 :],
            f"{line} {rng.randrange(10**7)}",
        )[fault]
    return f"{line} {amount}"


def own_lines(path: Path) -> list[Line]:
    """The labelled lines of a CSV; labels are read through the taxonomy's aliases, others are left out."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [(row["description"], load_taxonomy().category_of(row["category"])) for row in csv.DictReader(stream)]
    return [Line(text, category) for text, category in rows if category]


def trained_svm(*, count: int, seed: int) -> Model:
    """TF-IDF of words and of letters with a linear SVM, on generated lines of the merchants of the training side."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    rows = [row for row in synthetic_transactions(count=count, seed=seed) if row.split == "train"]
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=60_000),
    )
    pipeline = make_pipeline(features, LinearSVC(C=0.3))
    pipeline.fit([line_of(row) for row in rows], [row.category for row in rows])
    known = [load_taxonomy().names.index(name) for name in pipeline.classes_]

    def scores(texts: Sequence[str]) -> Scores:
        found = pipeline.decision_function(texts)
        # A category that no training line had is never the answer.
        all_labels = np.full((len(texts), len(load_taxonomy().names)), found.min() - 1.0)
        all_labels[:, known] = found
        return all_labels

    return scores


def real_models(base: Path, adapter: Path | None) -> dict[str, Model]:
    """The base, and the adapter where there is one: log-probability of each label, in float32 on the CPU."""
    from fintune_kit.chat.encoder import ChatEncoder
    from fintune_kit.evaluate.categorise import Categoriser
    from fintune_kit.evaluate.models import answering_as
    from fintune_kit.evaluate.scoring import Compute
    from fintune_kit.train.model import load_adapter, load_base

    compute = Compute(device="cpu", length=1024)
    model = load_base(base, dtype="float32", quantization="none", device="cpu", head_chunk=compute.head_chunk)
    model = load_adapter(model, adapter) if adapter else model
    encoder = ChatEncoder.load(base)

    def asked(who: str) -> Model:
        categoriser = Categoriser(model, encoder=encoder, compute=compute)

        def scores(texts: Sequence[str]) -> Scores:
            with answering_as(who, model):
                return categoriser.log_probabilities(texts)

        return scores

    return {who: asked(who) for who in ("base", *(("adapter",) if adapter else ()))}


def measured(model: Model, *, sets: dict[str, list[Line]], held: Sequence[Line], seed: int) -> dict[str, Any]:
    """The figures of one model on each set, calibrated on the held-back merchants."""
    names = load_taxonomy().names
    targets = np.array([names.index(line.category) for line in held])
    calibrated = fit_calibration(model([line.text for line in held]), targets)
    return {
        "temperature": calibrated.temperature,
        "threshold": calibrated.threshold,
        "calibration_rows": len(held),
        "sets": {
            name: figures(model([line.text for line in lines]), lines, calibrated=calibrated, seed=seed)
            for name, lines in sets.items()
        },
    }


def figures(scores: Scores, lines: Sequence[Line], *, calibrated: Calibration, seed: int) -> dict[str, Any]:
    """Accuracy, macro-F1, coverage, calibration error and validity of one model on one set.

    Args:
        scores: `[lines, labels]`, in the order of the taxonomy.
        lines: the questions.
        calibrated: from other merchants.
        seed: of the resampling.
    """
    names = load_taxonomy().names
    shares = probabilities(scores, calibrated)
    confidence = shares.max(axis=1)
    answers = [names[index] for index in shares.argmax(axis=1)]
    targets = [line.category for line in lines]
    right = np.array(answers) == np.array(targets)
    passed = confidence >= calibrated.threshold
    found = classification(targets, answers, seed=seed)
    order = np.argsort(-confidence, kind="stable")
    best = np.flatnonzero(np.cumsum(right[order]) / np.arange(1, len(right) + 1) >= 0.98)
    return {
        **{key: found[key] for key in ("n", "accuracy", "accuracy_interval", "macro_f1", "macro_f1_interval")},
        "coverage": float(passed.mean()),
        "accuracy_when_sure": float(right[passed].mean()) if passed.any() else None,
        "interval_when_sure": share_interval(int(right[passed].sum()), int(passed.sum())) if passed.any() else None,
        "best_coverage_at_98": (int(best[-1]) + 1) / len(right) if len(best) else 0.0,
        "calibration_error": calibration(confidence.tolist(), right.tolist())["expected_error"],
        "valid": float(np.isin(answers, names).mean()),
        **{f"accuracy_{key}": grouped(targets, answers, groups) for key, groups in (("plaid", PLAID), ("mcc", MCC))},
    }


def grouped(targets: Sequence[str], answers: Sequence[str], groups: dict[str, tuple[str, ...]]) -> float:
    """Share of answers in the right group."""
    of = {category: group for group, categories in groups.items() for category in categories}
    return float(np.mean([of[target] == of[answer] for target, answer in zip(targets, answers, strict=True)]))


def table(record: dict[str, Any]) -> str:
    """The figures for a reader."""
    head = (
        "| model | set | n | accuracy (95 %) | macro-F1 (95 %) | sure: coverage, right | best coverage at 98 % | "
        "calibration error | valid | Plaid | MCC |"
    )
    rows = []
    for model, result in record["models"].items():
        for name, f in result["sets"].items():
            sure = "never" if f["accuracy_when_sure"] is None else f"{f['coverage']:.2f}, {f['accuracy_when_sure']:.3f}"
            accuracy, macro = (
                f"{f[key]:.3f} ({f[key + '_interval'][0]:.2f} to {f[key + '_interval'][1]:.2f})"
                for key in ("accuracy", "macro_f1")
            )
            rows.append(
                f"| {model} | {name} | {f['n']} | {accuracy} | {macro} | {sure} | {f['best_coverage_at_98']:.2f} | "
                f"{f['calibration_error']:.3f} | {f['valid']:.0%} | {f['accuracy_plaid']:.3f} | "
                f"{f['accuracy_mcc']:.3f} |"
            )
    shown = " ".join(f"--{key} {value}" for key, value in record["arguments"].items() if value != "None")
    return "\n".join(
        [
            "# Categories of unseen merchants",
            "",
            f"```\npython benchmarks/categorise.py {shown}\n```",
            "",
            "`sure` is above a threshold that was chosen on other merchants, for 98 % right labels. `best coverage` is",
            "chosen on the questions themselves, so it flatters. Plaid and MCC: the answer is in the right group.",
            "",
            head,
            "|" + "---|" * 11,
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
