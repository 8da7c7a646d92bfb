"""Writes privacy_lines.jsonl: 2,000 bank lines with every identifier and merchant marked, to measure the detector.

    {"text": "ZELLE TO IRMA OYELARAN 4471 ...", "spans": [[9, 23, "NAME"], ...], "merchant": null}

Its names, merchants and templates (privacy_lines.toml) were written for this file alone, before the detector. Run it
to write the lines again; the same seed gives the same bytes. `score` is what the test and the benchmark report.
"""

import json
import random
import tomllib
from collections import Counter
from pathlib import Path

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

HERE = Path(__file__).parent
LINES = HERE / "privacy_lines.jsonl"
WORDINGS = HERE / "privacy_wordings.jsonl"
"""Whole lines in ten wordings, each with the secrets that must go and the words that must stay; four sets."""
TUNED, SECOND, BLIND, WORLD = (HERE / f"privacy_{name}.toml" for name in ("lines", "second", "blind", "world"))
COUNT = 2_000
SEED = 61


class Line:
    """Text under construction, with what it marks."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.text, self.spans, self.merchant = rng, "", [], None

    def add(self, text: str, kind: str | None = None) -> "Line":
        start = len(self.text)
        self.text += text
        if kind == "MERCHANT":
            self.merchant = [start, len(self.text)]
        elif kind:
            self.spans.append([start, len(self.text), kind])
        return self


def digits(rng, n):
    return str(rng.randrange(1, 10)) + "".join(rng.choice("0123456789") for _ in range(n - 1))


def mixed(rng, n):
    while True:
        text = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=n))
        if sum(c.isdigit() for c in text) >= 2 and any(c.isalpha() for c in text):
            return text


def card(rng):
    prefix, length = rng.choice([("4", 16), ("52", 16), ("6011", 16), ("37", 15), ("2221", 16)])
    bare = prefix + "".join(rng.choice("0123456789") for _ in range(length - 1 - len(prefix)))
    full = bare + luhn.calc_check_digit(bare)
    if length == 15:
        return rng.choice([full, f"{full[:4]} {full[4:10]} {full[10:]}"])
    groups = [full[i : i + 4] for i in range(0, 16, 4)]
    return rng.choice(
        [
            full,
            " ".join(groups),
            "-".join(groups),
            f"{full[:6]}******{full[-4:]}",
            f"XXXX-XXXX-XXXX-{full[-4:]}",
            f"xxxx{full[-4:]}",
            f"*{full[-4:]}",
        ]
    )


def iban(rng):
    country, bban = rng.choice(
        [
            ("DE", digits(rng, 18)),
            ("FR", digits(rng, 23)),
            ("ES", digits(rng, 20)),
            ("AT", digits(rng, 16)),
            ("PT", digits(rng, 21)),
            ("GB", "NWBK" + digits(rng, 14)),
            ("NL", "RABO" + digits(rng, 10)),
            ("IE", "AIBK" + digits(rng, 14)),
        ]
    )
    check = mod_97_10.calc_check_digits(bban + country)
    whole = country + check + bban
    return rng.choice([whole, " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))])


def national_id(rng):
    d = lambda n: digits(rng, n)  # noqa: E731
    return rng.choice(
        [
            f"{rng.randrange(100, 660):03d}-{rng.randrange(10, 99)}-{d(4)}",
            f"{rng.choice('ABCEHJ')}{rng.choice('ABCEHJ')} {d(2)} {d(2)} {d(2)} {rng.choice('ABCD')}",
            f"{''.join(rng.choices('ABCDEFGHJK', k=3))}P{rng.choice('KLMN')}{d(4)}{rng.choice('QRST')}",
            f"{d(4)} {d(4)} {d(4)}",
            f"{d(3)}.{d(3)}.{d(3)}-{d(2)}",
            f"{d(8)}{rng.choice('TRWAGMYFP')}",
            f"{d(2)} {d(3)} {d(3)} {d(3)}",
        ]
    )


def phone(rng):
    d = lambda n: digits(rng, n)  # noqa: E731
    return rng.choice(
        [
            f"({rng.choice(['206', '415', '718'])}) {d(3)}-{d(4)}",
            f"+1 {rng.choice(['312', '646'])} {d(3)} {d(4)}",
            f"+44 7{d(3)} {d(6)}",
            f"07{d(3)} {d(6)}",
            f"+49 176 {d(8)}",
            f"0{rng.choice(['171', '30', '221'])}/{d(7)}",
            f"+91-9{d(4)}-{d(5)}",
            f"9{d(9)}",
            f"06 {d(2)} {d(2)} {d(2)} {d(2)}",
            f"{rng.choice(['800', '888'])}-{d(3)}-{d(4)}",
        ]
    )


def reference(rng):
    d = lambda n: digits(rng, n)  # noqa: E731
    return rng.choice(
        [
            d(rng.randrange(6, 21)),
            mixed(rng, rng.randrange(7, 18)),
            f"{d(3)}-{d(7)}-{d(7)}",
            f"{mixed(rng, 4)}-{mixed(rng, 4)}-{d(4)}",
            f"{d(2)}-{d(2)}-{d(2)} {d(8)}",
            f"RF{d(2)} {d(4)} {d(4)} {d(4)}",
            mixed(rng, 8).lower(),
            f"{d(8)}-{d(4)}-4{d(3)}-a{d(3)}-{d(12)}",
        ]
    )


def name(rng):
    first, last = rng.choice(rng.words["first"]), rng.choice(rng.words["last"])
    if rng.random() < 0.1:
        last = rng.choice(rng.words["particles"]) + last
    style = rng.randrange(10)
    if style < 5:
        text = f"{first} {last}"
    elif style == 5:
        text = f"{last}, {first}"
    elif style == 6:
        text = f"{first} {rng.choice('ABCDEFGHJKLMRST')}. {last}"
    elif style == 7:
        text = f"{rng.choice(['MR', 'MRS', 'MS', 'Dr.', 'Herr', 'Frau', 'Mme'])} {first[0]} {last}"
    elif style == 8:
        text = f"{last} {first}"
    else:
        text = f"{first} {rng.choice(rng.words['first'])} {last}"
    return text.upper() if rng.random() < 0.6 else text


def account_email(rng):
    first, last = (
        rng.choice(rng.words["first"]).lower(),
        "".join(c for c in rng.choice(rng.words["last"]).lower() if c.isalpha()),
    )
    hosts = ["fastmail.com", "gmx.net", "yahoo.co.in", "proton.me", "orange.fr"]
    return f"{first}{rng.choice(['.', '_', ''])}{last}{rng.choice(['', '', digits(rng, 2)])}@{rng.choice(hosts)}"


def vpa(rng):
    first = rng.choice(rng.words["first"]).lower()
    return rng.choice(
        [
            f"{first}{digits(rng, 3)}@{rng.choice(['okaxis', 'ybl', 'ibl', 'axl'])}",
            f"9{digits(rng, 9)}@{rng.choice(['paytm', 'upi', 'apl'])}",
            f"{first}.{rng.choice(rng.words['last']).lower().split('-')[0]}@oksbi",
        ]
    )


def address(rng):
    return rng.choice(rng.words["streets"]) if rng.random() < 0.5 else rng.choice(rng.words["streets"]).upper()


def merchant(rng):
    return (
        rng.choice(rng.words["shops"])
        if rng.random() < 0.75
        else rng.choice(rng.words["shops"]).title().replace("'S", "'s")
    )


MAKERS = {
    "CARD": card,
    "IBAN": iban,
    "ID": national_id,
    "PHONE": phone,
    "REF": reference,
    "NAME": name,
    "EMAIL": account_email,
    "UPI": vpa,
    "ADDRESS": address,
    "MERCHANT": merchant,
}


def write_line(rng):
    templates = rng.choices(
        [rng.words["card_lines"], rng.words["person_lines"], rng.words["other_lines"]], weights=[0.47, 0.36, 0.17]
    )[0]
    line, template = Line(rng), rng.choice(templates)
    while template:
        before, brace, rest = template.partition("{")
        line.add(before)
        if not brace:
            break
        field, _, template = rest.partition("}")
        line.add(MAKERS[field](rng), field) if field in MAKERS else line.add(rng.choice(rng.words["plain"][field]))
    return {"text": line.text, "spans": line.spans, "merchant": line.merchant}


def lines(*, count=COUNT, seed=SEED, words=TUNED):
    rng = random.Random(seed)
    rng.words = tomllib.loads(words.read_text(encoding="utf-8"))
    return [write_line(rng) for _ in range(count)]


def score(labelled, *, spans_of):
    """Shares by kind of what is found whole, and of merchants left whole, with the misses.

    An identifier counts when each of its letters and digits lies in a found span; a merchant when none of its does.
    """
    found, total, misses = Counter(), Counter(), []
    for line in labelled:
        text = line["text"]
        covered = {position for start, end in spans_of(text) for position in range(start, end)}
        for start, end, kind in line["spans"]:
            whole = all(position in covered for position in range(start, end) if text[position].isalnum())
            group = "names" if kind == "NAME" else "numbers"
            found.update({kind: whole, group: whole})
            total.update([kind, group])
            misses += [] if whole else [(kind, text)]
        if line["merchant"]:
            kept = not covered & set(range(*line["merchant"]))
            found.update({"merchants": kept})
            total.update(["merchants"])
            misses += [] if kept else [("MERCHANT", text)]
    return {kind: {"found": found[kind], "of": total[kind]} for kind in sorted(total)}, misses


def judged_wordings(name, *, worker):
    """The lines of one set of WORDINGS, each with whether it leaks or loses something.

    Args:
        name: of the set, `first` to `fourth`.
        worker: an Anonymiser.
    """
    entries = [json.loads(line) for line in WORDINGS.read_text(encoding="utf-8").splitlines()]
    entries = [entry for entry in entries if entry["set"] == name]
    written = [text.casefold() for text in worker.lines([entry["line"] for entry in entries])]
    return [
        {
            **entry,
            "leaks": any(secret.casefold() in text for secret in entry["secrets"]),
            "loses": any(word.casefold() not in text for word in entry["keep"]),
        }
        for entry, text in zip(entries, written, strict=True)
    ]


if __name__ == "__main__":
    LINES.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines()), encoding="utf-8")
